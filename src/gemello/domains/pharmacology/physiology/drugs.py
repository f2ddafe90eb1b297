"""Drugs other than the one of the parameter table (theophylline), as values for pbpk_rodgers and pbpk_poulin."""

from __future__ import annotations

import csv
from pathlib import Path

from gemello.base.errors import DataError

_PATH = Path(__file__).parent / "drugs.csv"


def drugs() -> dict[str, dict[str, float]]:
    """Parameter values of every drug of drugs.csv, by name."""
    out: dict[str, dict[str, float]] = {}
    with _PATH.open(newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            out.setdefault(row["drug"], {})[row["parameter"]] = float(row["value"])
    return out


def drug(name: str) -> dict[str, float]:
    """Values of one drug, for `simulate(model, schedule, drug("midazolam"))`. Raises DataError with the names there are."""
    known = drugs()
    if name not in known:
        raise DataError(f"no drug {name!r}", source=_PATH.name, remedy=f"the drugs are {', '.join(known)}")
    return known[name]
