"""Dosing records against NONMEM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gemello.base.reference import Check, check, columns, rows
from gemello.domains.pharmacology.one_compartment.model import oral as pk1_oral
from gemello.formats import nonmem
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate


def dosing_designs(folder: Path) -> Iterator[Check]:
    """NONMEM's concentrations for 29 dosing designs, 3,837 records."""
    path = folder / "nmtests"
    data = nonmem.read(path / "dosing_data_1001.csv", pk1_oral, bind={"ALAG2": "LAGT", "F2": "BIOAV", "D2": "DUR2"})
    expected = columns(path / "dosing_results_1001-nm.csv")
    names = {r["ID"]: r["descr"] for r in rows(path / "dosing_results_1001-run-key.csv")}
    got = simulate(
        pk1_oral,
        data.subjects,
        {"CL": 1.1, "V": 20.0, "KA": 1.5},
        bind={"ALAG2": "LAGT", "F2": "BIOAV", "D2": "DUR2"},
        outputs=["cp"],
    ).check()
    cp, seen = 1000.0 * got.outputs["cp"], ~np.isnan(got.time)
    wrong = np.abs(cp[seen] - expected["CP"]) / np.maximum(np.abs(expected["CP"]), 1.0)
    who = np.repeat(np.array(got.ids), seen.sum(axis=1))
    for i in got.ids:
        here = who == i
        name = f"nmtests {i}: {names[i]} ({here.sum()} records): largest |CP − NONMEM| / max(|NONMEM|, 1)"
        yield check(name, wrong[here].max(), 0.0, 1e-4, "NONMEM, nmtests dosing_results_1001")
    yield check("nmtests: records compared", len(wrong), 3837, 0, "NONMEM, nmtests dosing_results_1001")


def varying_covariates(folder: Path) -> Iterator[Check]:
    """NONMEM's concentrations where weight changes from record to record."""
    path = folder / "nmtests"
    table = columns(path / "time-varying_data_2001.csv")
    expected = columns(path / "time-varying_results_2001-nm.csv")
    scaled = 1.1 * (table["WT"] / 70.0) ** 0.75
    schedule = Schedule.of(
        table["time"],
        {"CL": scaled},
        evid=table["evid"],
        port=table["cmt"],
        amount=table["amt"],
        interval=table["ii"],
        additional=table["addl"],
    )
    got = simulate(pk1_oral, [Subject("1", schedule)], {"V": 20.0, "KA": 1.5}, bind={"CL": "CL"}, outputs=["cp"]).check()
    wrong = np.abs(1000.0 * got.outputs["cp"][0] - expected["CP"]) / np.maximum(np.abs(expected["CP"]), 1.0)
    name = f"nmtests time-varying covariate ({len(wrong)} records): largest |CP − NONMEM| / max(|NONMEM|, 1)"
    yield check(name, wrong.max(), 0.0, 1e-4, "NONMEM, nmtests time-varying_results_2001")
