"""docs/heart-tissue.md: its block runs and prints what stands below it; its command is one; its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import typer

from gemello.domains.heart.organ import command

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "heart-tissue.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ gemello heart ecg (.*)$", PAGE, re.MULTILINE)


def test_it_runs() -> None:
    names: dict[str, object] = {}
    shown, compared = "", 0
    for language, text in FENCES:
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, "heart-tissue.md", "exec"), names)
            shown = out.getvalue()
        elif language == "text":
            assert shown == text
            compared += 1
    assert compared == 1


def test_its_commands_are_commands() -> None:
    app = typer.Typer()
    app.command("ecg")(command.ecg)
    assert COMMANDS
    for line in COMMANDS:
        typer.main.get_command(app).make_context("ecg", shlex.split(line))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
