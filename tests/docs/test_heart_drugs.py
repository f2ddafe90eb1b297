"""docs/heart-drugs.md: its blocks run in order in an empty folder and print what stands below them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.pages import page, run

from gemello.domains.heart.drugs.drug import CHANNELS
from gemello.domains.heart.drugs.vintage import NAMES, empty

PAGE, FENCES = page("heart-drugs.md")


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("heart-drugs.md", FENCES) == 3


def test_its_tables_are_true() -> None:
    for name in NAMES:
        (row,) = re.findall(rf"^\| `{name}` \| \d+ \| (.*?) \| (.*?) \|", PAGE, re.MULTILINE)
        vintage = empty(name)
        assert row[1] == (", ".join(f"{t:g}" for t in vintage.thresholds) if vintage.thresholds else "none")
        channels = "INa, INaL, ICaL" if name == "lab2020" else "also Ito, IKs, IK1"
        assert row[0] == channels
        assert ("Ito" in vintage.channels) == (name != "lab2020")
    assert f"Channels are {', '.join(CHANNELS[:-1])} and {CHANNELS[-1]}." in PAGE
