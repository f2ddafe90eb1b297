"""The README's example runs, its commands and links exist, and its picture is that of the demo."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from tests.report.objects import demo

from gemello.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_example_runs_and_prints_what_the_objects_hold() -> None:
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 20
    names: dict[str, object] = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), names)
    decision = names["decision"]
    assert decision.chosen is not None  # type: ignore[attr-defined]
    assert decision.chosen.candidate.label in out.getvalue()  # type: ignore[attr-defined]
    assert len(out.getvalue().splitlines()) == 6  # five quantiles and the decision


def test_every_command_exists() -> None:
    group = typer.main.get_command(app)
    known = set(group.list_commands(typer.Context(group)))  # type: ignore[attr-defined]
    used = {c for b in blocks("console") for c in re.findall(r"^\$ gemello (\w+)", b, re.MULTILINE)}
    assert used
    assert used <= known
    targets = {c for b in blocks("console") for c in re.findall(r"^\$ make (\w+)", b, re.MULTILINE)}
    made = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets
    assert targets <= made


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_every_link_leads_somewhere(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()


def test_the_picture_is_that_of_the_demo() -> None:
    """As many bands, curves and points as the demo's forecast gives now, at the same places within a pixel."""
    spec = importlib.util.spec_from_file_location("make_picture", ROOT / "docs" / "img" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    now = ElementTree.fromstring(module.picture(demo()))
    kept = ElementTree.fromstring((ROOT / "docs" / "img" / "forecast.svg").read_text(encoding="utf-8"))
    assert [e.tag for e in now.iter()] == [e.tag for e in kept.iter()]
    assert [e.text for e in now.iter()] == [e.text for e in kept.iter()]
    for a, b in zip(now.iter(f"{SVG}circle"), kept.iter(f"{SVG}circle"), strict=True):
        assert float(a.get("cx", "nan")) == pytest.approx(float(b.get("cx", "nan")), abs=1.0)
        assert float(a.get("cy", "nan")) == pytest.approx(float(b.get("cy", "nan")), abs=1.0)
