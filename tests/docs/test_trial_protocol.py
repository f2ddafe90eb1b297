"""docs/trial-protocol.md: its blocks run in order in an empty folder and print what stands below them; what it names is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import ROOT, page, run

from gemello.trial.protocol import SCHEMES, STRATEGIES, SUMMARIES, read
from gemello.trial.sensitivity import KNOWN

PAGE, FENCES = page("trial-protocol.md")


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("trial-protocol.md", FENCES) == 1
    assert (tmp_path / "walk.html").is_file()


def test_the_long_example_is_a_protocol(tmp_path: Path) -> None:
    text = next(t for language, file, t in FENCES if language == "yaml" and not file and "schema:" in t)
    content = yaml.safe_load(text)
    content["score"]["sha256"] = "0" * 64  # shortened on the page
    for name in ("trial.csv", "controls.json", "history.csv"):
        (tmp_path / name).touch()
    content["external"] = yaml.safe_load(next(t for _, _, t in FENCES if t.startswith("external:")))["external"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    plan = read(tmp_path / "p.yaml")
    assert plan.external is not None
    assert plan.after == ("cd820",)


def test_every_word_of_the_schema_is_told() -> None:
    for word in (*(s for of in SUMMARIES.values() for s in of), *STRATEGIES, *SUMMARIES):
        assert word in PAGE, word
    assert "permuted-block" in SCHEMES
    told = set(re.findall(r"`([^`]+)`", PAGE.split("## Sensitivity analyses")[1].split("## External controls")[0]))
    assert told - {"risk ratio"} <= set(KNOWN)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
