"""What all checks need: one row, and the reading of reference tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from gemello.model.schedule import Schedule, Subject

Check = dict[str, Any]


def check(name: str, value: float, reference: float, tolerance: float, source: str, relative: bool = False) -> Check:
    """One row; a relative tolerance is stated as the absolute one that it means."""
    limit = tolerance * abs(reference) if relative else tolerance
    passed = bool(abs(value - reference) <= limit)  # NaN never passes
    return {
        "check": name,
        "value": float(value),
        "reference": float(reference),
        "tolerance": limit,
        "source": source,
        "passed": passed,
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def columns(path: Path) -> dict[str, np.ndarray]:
    table = rows(path)

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if r[name] in (".", "") else float(r[name]) for r in table])

    return {name: column(name) for name in table[0]}


def theoph(folder: Path) -> list[Subject]:
    """Theoph with a dose record for each subject (dose in mg = mg/kg × weight)."""
    table = columns(folder / "R" / "Theoph.csv")
    out = []
    for i in dict.fromkeys(table["Subject"]):
        here = table["Subject"] == i
        weight = table["Wt"][here][0]
        schedule = Schedule.of(table["Time"][here], value=table["conc"][here])
        dosed = Schedule.of(0.0, evid=1, amount=table["Dose"][here][0] * weight).merge(schedule)
        out.append(Subject(f"{i:g}", dosed.covariates(WT=weight)))
    return out
