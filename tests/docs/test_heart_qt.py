"""docs/heart-qt.md: its blocks run in order in an empty folder, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from gemello.domains.heart.qt import command

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "heart-qt.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ gemello heart qt (.*)$", PAGE, re.MULTILINE)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(BLOCKS) == 4
    for text in BLOCKS:
        exec(compile(text, "heart-qt.md", "exec"), names)
    out = capsys.readouterr().out
    assert "not excluded" in out
    assert "90 % of new ECGs between" in out


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line: str) -> None:
    app = typer.Typer()
    app.command("qt")(command.qt)
    app.callback()(lambda: None)
    words = shlex.split(line)
    made = typer.main.get_command(app).commands["qt"].make_context("qt", words)  # type: ignore[attr-defined]
    assert made.params["data"] == Path("study.csv")
