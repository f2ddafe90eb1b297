"""Whole-body physiologically based pharmacokinetics: pbpk_wholebody, pbpk_poulin, pbpk_rodgers and pbpk_mavoglurant."""

from __future__ import annotations

_HERE = "gemello.domains.pharmacology.physiology.model"

MODELS: dict[str, str] = {
    "pbpk_wholebody": f"{_HERE}:wholebody",
    "pbpk_poulin": f"{_HERE}:poulin",
    "pbpk_rodgers": f"{_HERE}:rodgers",
    "pbpk_mavoglurant": f"{_HERE}:mavoglurant",
}
