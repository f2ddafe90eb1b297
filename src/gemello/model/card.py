"""A model's card: what it answers, for whom, from where, and where it fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gemello.base.errors import ModelError

SECTIONS = ("Question", "Valid range", "Licence of sources", "Known failures", "References")


@dataclass(frozen=True)
class Card:
    """Sections of a CARD.md by heading; all of `SECTIONS` are there and none is empty."""

    title: str
    sections: dict[str, str]

    @classmethod
    def parse(cls, text: str, where: str = "card") -> Card:
        """Card from Markdown text (`# title`, then one `## heading` for each of `SECTIONS`). Raises ModelError."""
        parts = re.split(r"^## +(.+?) *$", text, flags=re.MULTILINE)
        title = parts[0].strip().lstrip("# ").splitlines()[0] if parts[0].strip() else ""
        sections = {h.strip(): b.strip() for h, b in zip(parts[1::2], parts[2::2], strict=True)}
        missing = [s for s in SECTIONS if not sections.get(s)]
        if not title or missing:
            raise ModelError(f"{where}: incomplete card, no {', '.join(missing) or 'title'}; add the heading and its text")
        return cls(title, sections)

    @classmethod
    def read(cls, path: Path | str) -> Card:
        """Card from a CARD.md file."""
        return cls.parse(Path(path).read_text(encoding="utf-8"), str(Path(path).name))
