"""docs/library.md names every model that comes with gemello, and no other; README counts them."""

from __future__ import annotations

import re
from pathlib import Path

from gemello.domains.pharmacology.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def named(part: str) -> set[str]:
    """Names in the first column of a table."""
    rows = re.findall(r"^\| ([a-z]\w*(?:, [a-z]\w*)*) \|", part, re.MULTILINE)
    return {n for row in rows for n in row.split(", ")} - {"name"}


def test_every_model_is_listed_and_counted() -> None:
    published, others = (named(part) for part in PAGE.split("\n## The models\n")[1].split("\n## The other models\n"))
    assert not published & others
    assert published | others == set(MODELS)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"the {len(published)} that come with gemello, and {len(others)} others" in readme
