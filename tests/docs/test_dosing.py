"""docs/dosing.md: its blocks run in order in an empty folder and print what stands below them; so do its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from tests.docs.pages import ROOT, page, run

from gemello.cli.main import app, main

PAGE, FENCES = page("dosing.md")
COMMANDS = re.findall(r"^\$ gemello (.*)$", PAGE, re.MULTILINE)
SLOW = ("--models", "--report")  # read, not run


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("dosing.md", FENCES) == 7
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_its_commands_decide_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _, file, text in FENCES:
        if file:
            Path(file).write_text(text, encoding="utf-8")
    chosen = []
    for line in COMMANDS:
        words = shlex.split(line)
        typer.main.get_command(app).commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
        if not any(s in words for s in SLOW):
            with pytest.raises(SystemExit) as e:
                main(words)
            shown = "".join(capsys.readouterr())
            assert not e.value.code, shown
            chosen += re.findall(r"recommended: (.*);", shown)
    assert chosen == ["2500 mg first, then 750 mg every 12 h over 3 h", "1000 mg every 12 h over 2 h"]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
