"""docs/heart-risk.md: its blocks run in order in an empty folder and print what stands below them; its command is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from tests.docs.pages import ROOT, page, run

from gemello.domains.heart.drugs import compound
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.domains.heart.risk import command

PAGE, FENCES = page("heart-risk.md")
COMMANDS = re.findall(r"^\$ gemello heart risk (.*)$", PAGE, re.MULTILINE)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("heart-risk.md", FENCES) == 2


def test_its_file_is_read_as_the_drug_that_it_is(tmp_path: Path, shared_data: Path) -> None:
    """XX-17 has the Cmax and the hERG binding of sotalol in the lab-2020 vintage, to the four digits of the page."""
    for _, file, text in FENCES:
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
    (found,) = compound.read(tmp_path / "compounds.csv").drugs
    sotalol = Vintage.read(shared_data / "heart", samples=False)["sotalol"]
    assert found.point.binding is not None
    assert sotalol.point.binding is not None
    assert found.cmax == pytest.approx(sotalol.cmax)
    assert found.point.binding == pytest.approx(sotalol.point.binding, rel=2e-3)


def test_its_commands_are_commands() -> None:
    app = typer.Typer()
    app.command("risk")(command.risk)
    assert COMMANDS
    for line in COMMANDS:
        typer.main.get_command(app).make_context("risk", shlex.split(line))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
