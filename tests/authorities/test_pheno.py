"""Phenobarbital in 59 neonates by NONMEM 7.5.1 (FOCEI): individual objectives, etas and their covariances, estimates, errors.

Data: the example pheno of Pharmpy, with NONMEM's .ext and .phi tables (see SOURCES.md beside them). NONMEM prints 6 significant
digits of etas and estimates.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gemello.formats import nonmem
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import modes
from gemello.inference.likelihood import problem
from gemello.inference.population import fit
from gemello.inference.result import Fit
from gemello.model import registry
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Subject

OBJECTIVE = 586.27605628520962
ESTIMATES = {"CL": 4.69555e-3, "V": 0.984258, "V_APGR": 0.158920, "OMEGA(CL,CL)": 0.0293508, "OMEGA(V,V)": 0.0279060}
ERRORS = {"CL": 2.09967e-4, "V": 2.68946e-2, "V_APGR": 8.37555e-2}
START = {"CL": 0.006, "V": 1.3, "V_APGR": 0.1, "cp_proportional": 0.2, "OMEGA(CL,CL)": 0.1, "OMEGA(V,V)": 0.1}
PHENO = registry.get("pheno")


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "pharmacology" / "pharmpy"


@pytest.fixture(scope="module")
def neonates(folder: Path) -> tuple[Subject, ...]:
    return nonmem.read(folder / "pheno.csv", PHENO).subjects


@pytest.fixture(scope="module")
def phi(folder: Path) -> dict[str, NDArray[np.float64]]:
    with (folder / "pheno_nm751_focei_phi.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    return {k: np.array([float(r[k]) for r in rows]) for k in rows[0]}


@pytest.fixture(scope="module")
def final(folder: Path) -> dict[str, float]:
    with (folder / "pheno_nm751_focei_ext.csv").open(newline="") as f:
        return {k: float(v) for r in csv.DictReader(f) if r["ITERATION"] == "-1000000000" for k, v in r.items()}


def test_objectives_etas_and_covariances_of_59_neonates(
    neonates: tuple[Subject, ...], phi: dict[str, NDArray[np.float64]], final: dict[str, float]
) -> None:
    """At NONMEM's estimates. Objectives within 5e-5 (the printed estimates have 6 digits), etas 1e-5, covariances 0.1 %."""
    values = {
        "CL": final["THETA1"],
        "V": final["THETA2"],
        "V_APGR": final["THETA3"],
        "cp_proportional": final["SIGMA(1,1)"] ** 0.5,
    }
    parameters = PopulationParameters.of(PHENO, values, np.diag([final["OMEGA(1,1)"], final["OMEGA(2,2)"]]))
    m = modes(problem(PHENO, neonates), population_of(parameters))
    assert [s.id for s in neonates] == [f"{i:g}" for i in phi["ID"]]
    np.testing.assert_allclose(m.laplace, phi["OBJ"], atol=5e-5)
    assert m.laplace.sum() == pytest.approx(OBJECTIVE, abs=1e-6)
    np.testing.assert_allclose(m.eta, np.stack([phi["ETA(1)"], phi["ETA(2)"]], axis=1), atol=1e-5)
    theirs = np.stack([phi["ETC(1,1)"], phi["ETC(2,1)"], phi["ETC(2,2)"]], axis=1)
    np.testing.assert_allclose(m.covariance[:, [0, 1, 1], [0, 0, 1]], theirs, rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def own(neonates: tuple[Subject, ...]) -> Fit:
    return fit(PHENO, neonates, start=START)


def test_own_estimates(own: Fit) -> None:
    assert own.check().objective == pytest.approx(OBJECTIVE, abs=1e-4)
    for name, v in ESTIMATES.items():
        assert own.estimates[name] == pytest.approx(v, rel=2e-3), name
    assert own.estimates["cp_proportional"] == pytest.approx(0.0132410**0.5, rel=2e-3)


def test_standard_errors(own: Fit) -> None:
    """NONMEM's default, R⁻¹SR⁻¹, within 2 %."""
    assert own.covariance_type == "sandwich"
    for name, v in ERRORS.items():
        assert own.se[name] == pytest.approx(v, rel=0.02), name


@pytest.mark.parametrize("far", [
    {"CL": 4.7, "V": 984.0}, {"CL": 4.7e-6, "V": 9.8e-4}, {"CL": 0.047, "V": 0.098},
    {"OMEGA(CL,CL)": 2.0, "OMEGA(V,V)": 1e-4}, {"cp_proportional": 5.0},
])  # fmt: skip
def test_far_starts_reach_the_same_optimum(neonates: tuple[Subject, ...], far: dict[str, float]) -> None:
    """CL and V a thousand times too high, or too low; ten times apart; variances a hundred times off; an error of 500 %."""
    again = fit(PHENO, neonates, start=START | far).check()
    assert again.objective == pytest.approx(OBJECTIVE, abs=1e-3)
