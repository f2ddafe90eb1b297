"""Doses: does a stated probability of target attainment come true? Virtual vancomycin patients of known parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.reference import Check, check
from gemello.domains.pharmacology.goti2018.model import vancomycin
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule
from gemello.twin.calibration import Attainment, attainment
from gemello.twin.goals import auc24
from gemello.twin.regimens import Grid, Pharmacy

PATIENTS, DRAWS = 1000, 512
Floats = NDArray[np.float64]


def patients(count: int, seed: int) -> dict[str, Floats]:
    """Covariates over the range of the model's population: creatinine clearance, weight, 15 % on dialysis."""
    rng = np.random.default_rng(seed)
    clearance = np.clip(62.0 * np.exp(0.5 * rng.standard_normal(count)), 4.0, 150.0)
    weight = np.clip(rng.normal(80.0, 18.0, count), 40.0, 200.0)
    return {"CLCREAT": clearance, "WT": weight, "DIAL": (rng.random(count) < 0.15).astype(float)}


def stated_and_realised(count: int = PATIENTS, draws: int = DRAWS, seed: int = 3) -> Attainment:
    """1,000 mg every 12 h for two days, two levels; then the regimen of a pharmacy's grid that most probably gives an AUC24 of
    400 to 600 mg·h/L on the second day after. At most 4.5 g a day and 900 mg/h (15 mg/min)."""
    seen = Schedule().dose(0.0, 1000.0, duration=1.5, every=12.0, times=4).observe([26.0, 47.5])
    grid = Grid(
        np.arange(250.0, 2250.0, 250.0).tolist(), (12.0, 24.0), (2.5,), start=48.0,
        pharmacy=Pharmacy(multiple=250.0, most_daily=4500.0, most_rate=900.0),
    )  # fmt: skip
    goal = auc24("auc", (72.0, 96.0), low=400.0, high=600.0)
    return attainment(
        vancomycin, PopulationParameters.of(vancomycin), seen, goal, grid, patients=count, covariates=patients(count, 17),
        draws=draws, seed=seed,
    )  # fmt: skip


def checks(_folder: Path | None = None) -> Iterator[Check]:
    """Stated against realised probability of an AUC24 of 400 to 600, overall (the bar: 3 points) and in fifths of it."""
    found = stated_and_realised()
    unit = "share realised with the true parameters, %"
    a = found.overall
    source = f"{unit}; {a.number} simulated patients, Monte Carlo error {100 * a.error:.1f} points"
    yield check(
        "vancomycin AUC24 400-600: probability stated by the twins, mean, %", 100 * a.stated, 100 * a.realised, 3.0, source
    )
    for b in found.bins:
        source = f"{unit}; {b.number} patients, Monte Carlo error {100 * b.error:.1f} points; tolerance 3 of them"
        name = f"vancomycin AUC24 400-600: stated {100 * b.low:.0f} to {100 * b.high:.0f} %, mean, %"
        yield check(name, 100 * b.stated, 100 * b.realised, 300 * b.error, source)
