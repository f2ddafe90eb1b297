"""What several checks need."""

from __future__ import annotations

from pathlib import Path

from gemello.base.reference import columns
from gemello.model.schedule import Schedule, Subject


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
