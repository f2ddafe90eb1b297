"""Individual parameters and doses of three patients on vancomycin, model of Goti et al. 2018.

References: Monolix and posologyr, as compiled in posologyr_map_cases.csv; their definitions in SOURCES.md beside it. The values
are printed with 3 to 4 digits.
"""

from __future__ import annotations

import numpy as np
import pytest

from gemello.model import registry
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate
from gemello.twin.goals import Target
from gemello.twin.regimens import Regimen
from gemello.twin.twin import Twin

MODEL = registry.get("vancomycin_goti2018")
WARD = {"CLCREAT": 65.0, "WT": 70.0, "DIAL": 0.0}


@pytest.fixture(scope="module")
def patient_b() -> Twin:
    seen = Schedule().dose(0, 2000, duration=2).observe(13.0, 12.0).dose(24.2, 1000, duration=2).observe(48.0, 9.5)
    return Twin.new(MODEL, covariates=WARD, id="B").assimilate(seen)


def auc(start: float, end: float, low: float = 1.0) -> Target:
    return Target("auc", "increment", (start, end), low=low)


def area(twin: Twin, start: float, end: float) -> float:
    """At the mode, from the accumulator at both ends."""
    plan = twin.record.schedule.without_values().observe([start, end]).covariates(**WARD)
    out = simulate(MODEL, [Subject("B", plan)], etas=twin.posterior.mode[None, :]).outputs["auc"][0]
    time = plan.time
    return float(out[np.searchsorted(time, end)] - out[np.searchsorted(time, start)])


def test_map_of_patient_02() -> None:
    """Monolix: CL 1.72 L/h, V1 59.8 L, V2 41.6 L."""
    seen = Schedule().dose(0, 1900, duration=1).observe(12.0, 14.8).dose(22.2, 1750, duration=1).observe(37.5, 22.5)
    twin = Twin.new(MODEL, covariates={"CLCREAT": 34.0, "WT": 62.0, "DIAL": 0.0}, id="02").assimilate(seen)
    p = twin.posterior.individual_mode
    for name, v in (("CL", 1.721), ("V1", 59.78), ("V2", 41.56)):
        assert p[name] == pytest.approx(v, rel=1e-3)


def test_etas_of_patient_04() -> None:
    seen = Schedule().dose(0, 2000, duration=2).observe(13.0, 12.0).dose(24.2, 1400, duration=2).observe(48.0, 10.5)
    twin = Twin.new(MODEL, covariates=WARD, id="04").assimilate(seen)
    np.testing.assert_allclose(twin.posterior.mode, [0.10796, 0.04643, 0.06860], atol=5e-4)


def test_areas_of_patient_b(patient_b: Twin) -> None:
    assert area(patient_b, 0.0, 24.0) == pytest.approx(337.90, rel=1e-3)
    assert area(patient_b, 24.0, 48.0) == pytest.approx(325.31, rel=1e-3)


def test_next_dose_of_patient_b(patient_b: Twin) -> None:
    """AUC48-72 = 400 mg·h/L on top of the history: 1411 mg over 2 h."""
    got = patient_b.solve_dose(auc(48.0, 72.0), 400.0, Regimen(1000.0, 24.0, 1, 48.0, 2.0))
    assert got.dose == pytest.approx(1411.0, rel=2e-3)
    assert got.reached == pytest.approx(400.0, abs=1e-4)


def test_maintenance_dose_of_patient_b(patient_b: Twin) -> None:
    """11 doses every 24 h without the history, AUC216-240 = 400: 1200 mg (1198 before rounding)."""
    got = patient_b.solve_dose(auc(216.0, 240.0), 400.0, Regimen(1000.0, 24.0, 11, 0.0, 2.0), history=False)
    assert got.dose == pytest.approx(1198.3, rel=2e-3)
