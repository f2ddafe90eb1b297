"""Twins: individual estimates, doses and the coverage of forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from gemello.base.reference import Check, check
from gemello.domains.pharmacology.goti2018.model import vancomycin
from gemello.model.schedule import Schedule
from gemello.twin.calibration import calibrate
from gemello.twin.goals import Target
from gemello.twin.regimens import Regimen
from gemello.twin.twin import Twin


def vancomycin_dosing() -> Iterator[Check]:
    """Individual parameters and doses of three patients, Goti 2018."""
    two = {"CLCREAT": 34.0, "WT": 62.0, "DIAL": 0.0}
    seen = Schedule().dose(0, 1900, duration=1).observe(12.0, 14.8).dose(22.2, 1750, duration=1).observe(37.5, 22.5)
    twin = Twin.new(vancomycin, covariates=two, id="02").assimilate(seen)
    p = twin.posterior.individual_mode
    for name, reference in (("CL", 1.72), ("V1", 59.8), ("V2", 41.6)):
        yield check(
            f"vancomycin patient 02 MAP {name}", p[name], reference, 0.01, "Monolix MAP, posologyr_map_cases.csv", relative=True
        )
    own = {"CLCREAT": 65.0, "WT": 70.0, "DIAL": 0.0}
    seen = Schedule().dose(0, 2000, duration=2).observe(13.0, 12.0).dose(24.2, 1000, duration=2).observe(48.0, 9.5)
    twin = Twin.new(vancomycin, covariates=own, id="B").assimilate(seen)
    vignette = "posologyr vignette, posologyr_map_cases.csv"
    auc = partial(Target, "auc", statistic="increment")
    next_dose = twin.solve_dose(auc(window=(48.0, 72.0), low=400.0), 400.0, Regimen(1000.0, 24.0, 1, 48.0, 2.0))
    yield check("vancomycin patient B next dose for AUC48-72 = 400, mg", next_dose.dose, 1411.0, 0.01, vignette, relative=True)
    steady = twin.solve_dose(auc(window=(216.0, 240.0), low=400.0), 400.0, Regimen(1000.0, 24.0, 11, 0.0, 2.0), history=False)
    yield check(
        "vancomycin patient B maintenance every 24 h for AUC216-240 = 400, mg", steady.dose, 1200.0, 0.01, vignette, relative=True
    )
    seen = Schedule().dose(0, 2000, duration=2).observe(13.0, 12.0).dose(24.2, 1400, duration=2).observe(48.0, 10.5)
    twin = Twin.new(vancomycin, covariates=own, id="04").assimilate(seen)
    for name, reference, mode in zip(("CL", "V1", "V2"), (0.10796, 0.04643, 0.06860), twin.posterior.mode, strict=True):
        yield check(f"vancomycin patient 04 eta {name}", mode, reference, 5e-4, "posologyr test, posologyr_map_cases.csv")


def calibration() -> Iterator[Check]:
    """Coverage of forecasts: 1,000 vancomycin patients simulated, two levels assimilated, the next four forecast."""
    schedule = Schedule().dose(0, 1500, duration=1.5, every=12, times=8).observe([11.5, 23.5, 36.0, 47.5, 60.0, 84.0])
    rng = np.random.default_rng(7)
    n = 1000
    cov = {"CLCREAT": np.clip(62.0 * np.exp(0.5 * rng.standard_normal(n)), 4, 150), "WT": np.clip(rng.normal(80, 18, n), 40, 200)}
    out = calibrate(
        vancomycin, schedule, 24.0, patients=n, covariates={**cov, "DIAL": (rng.random(n) < 0.15).astype(float)}, seed=11
    )
    source = f"nominal; 1,000 simulated patients, Monte Carlo error {100 * out.coverage.error:.2f} points"
    yield check("coverage of 90 % forecast intervals, %", 100 * out.coverage.share, 90.0, 2.0, source)
