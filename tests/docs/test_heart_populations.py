"""docs/heart-populations.md: its blocks run in order in an empty folder and print what stands below them; its command is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from tests.docs.pages import page, run

from gemello.domains.heart.drugs import compound
from gemello.domains.heart.populations import command

PAGE, FENCES = page("heart-populations.md")
COMMANDS = re.findall(r"^\$ gemello heart population (.*)$", PAGE, re.MULTILINE)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("heart-populations.md", FENCES) == 1
    (drug,) = compound.read(tmp_path / "blocker.yaml").drugs
    assert (drug.name, drug.cmax) == ("XX-21", 10.0)


def test_its_commands_are_commands() -> None:
    app = typer.Typer()
    app.command("population")(command.population)
    assert COMMANDS
    for line in COMMANDS:
        typer.main.get_command(app).make_context("population", shlex.split(line))
