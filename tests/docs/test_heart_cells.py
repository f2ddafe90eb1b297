"""docs/heart-cells.md: its block prints what stands below it, and every biomarker and model that it names is one."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from gemello.domains.heart.registry import CELLS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "heart-cells.md").read_text(encoding="utf-8")


def test_it_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "heart-cells.md", "exec"), names)
    assert out.getvalue() == shown
    known = set(names["rest"].biomarkers)  # type: ignore[attr-defined]
    table = PAGE.split("## Biomarkers")[1]
    named = {n for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for n in re.findall(r"`(\w+)`", row)}
    assert named == known


def test_its_cells_are_there() -> None:
    for row in re.findall(r"^\| (`\w+`.*?) \|", PAGE.split("`gemello models")[0], re.MULTILINE):
        first, *rest = re.findall(r"`(\w+)`", row)
        stem = first.rsplit("_", 1)[0]
        assert {first, *(stem + r for r in rest)} <= set(CELLS)
