"""docs/heart-populations.md: its blocks run in order in an empty folder and print what stands below them; its command is one."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import typer

from gemello.domains.heart.drugs import compound
from gemello.domains.heart.populations import command

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "heart-populations.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ gemello heart population (.*)$", PAGE, re.MULTILINE)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown, compared = "", 0
    for language, file, text in FENCES:
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, "heart-populations.md", "exec"), names)
            shown = out.getvalue()
        elif language == "text":
            assert shown == text
            compared += 1
    assert compared == 1
    (drug,) = compound.read(tmp_path / "blocker.yaml").drugs
    assert (drug.name, drug.cmax) == ("XX-21", 10.0)


def test_its_commands_are_commands() -> None:
    app = typer.Typer()
    app.command("population")(command.population)
    assert COMMANDS
    for line in COMMANDS:
        typer.main.get_command(app).make_context("population", shlex.split(line))
