"""Goodness of fit against NONMEM 7.5.1's own table for the phenobarbital data (FOCEI with interaction, 59 neonates)."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.model import registry
from gemello.model.schedule import Schedule, Subject
from gemello.report.goodness import goodness, whiten


def columns(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {k: np.array([float(r[k]) for r in rows]) for k in rows[0]}


@pytest.fixture(scope="module")
def nonmem(shared_data: Path) -> tuple[list[Subject], Any, dict[str, np.ndarray]]:
    """Subjects, NONMEM's estimates and etas in the shape of a fit, and its table at the measurements."""
    home = shared_data / "pharmacology" / "pharmpy"
    d, phi = columns(home / "pheno.csv"), columns(home / "pheno_nm751_focei_phi.csv")
    table, estimates = columns(home / "pheno_nm751_focei_tab.csv"), columns(home / "pheno_nm751_focei_ext.csv")
    last = {k: v[estimates["ITERATION"] == -1000000000][0] for k, v in estimates.items()}
    subjects = []
    for i in dict.fromkeys(d["ID"]):
        r = {k: v[d["ID"] == i] for k, v in d.items()}
        dose = r["AMT"] > 0
        s = Schedule.of(
            r["TIME"], evid=dose.astype(int), port=1, amount=r["AMT"], value=np.where(dose, np.nan, r["DV"]),
            columns={"WGT": r["WGT"], "APGR": r["APGR"]},
        )  # fmt: skip
        subjects.append(Subject(f"{i:g}", s))
    model = registry.get("pheno")
    theta = {r.name: r.value for r in model.parameters if r.kind != "residual"}
    theta |= {"CL": last["THETA1"], "V": last["THETA2"], "V_APGR": last["THETA3"]}
    fit = SimpleNamespace(
        ids=tuple(s.id for s in subjects), etas=("CL", "V"), individual=np.stack([phi["ETA(1)"], phi["ETA(2)"]], axis=1),
        theta=theta, omega=np.diag([last["OMEGA(1,1)"], last["OMEGA(2,2)"]]),
        sigma={"cp_proportional": float(np.sqrt(last["SIGMA(1,1)"]))},
    )  # fmt: skip
    return subjects, fit, {k: v[d["AMT"] == 0] for k, v in table.items()}


def test_predictions_and_cwres_are_those_of_nonmem(nonmem: tuple[list[Subject], Any, dict[str, np.ndarray]]) -> None:
    """The table has five significant digits; etas and estimates have six."""
    subjects, fit, table = nonmem
    g = goodness(registry.get("pheno"), fit, subjects)
    assert len(g.time) == 155
    np.testing.assert_allclose(g.typical, table["PRED"], rtol=1e-4)
    np.testing.assert_allclose(g.individual, table["CIPREDI"], rtol=1e-4)
    np.testing.assert_allclose(g.cwres, table["CWRES"], atol=2e-4)


def test_iwres_is_the_residual_over_its_standard_deviation(nonmem: tuple[list[Subject], Any, dict[str, np.ndarray]]) -> None:
    subjects, fit, _ = nonmem
    g = goodness(registry.get("pheno"), fit, subjects)
    sd = fit.sigma["cp_proportional"] * g.individual
    np.testing.assert_allclose(g.iwres, (g.measured - g.individual) / sd, rtol=1e-12)


def test_a_subject_that_was_fitted_must_be_given(nonmem: tuple[list[Subject], Any, dict[str, np.ndarray]]) -> None:
    subjects, fit, _ = nonmem
    with pytest.raises(DataError, match="a subject of the fit is missing"):
        goodness(registry.get("pheno"), fit, subjects[:-1])


def test_whitened_residuals_have_the_identity_as_covariance() -> None:
    """C^(−1/2) C C^(−1/2) = I, column by column; and no number where C is not positive definite."""
    c = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 3.0]])
    root = np.stack([whiten(e, c) for e in np.eye(3)], axis=1)
    np.testing.assert_allclose(root, root.T, atol=1e-14)
    np.testing.assert_allclose(root @ c @ root, np.eye(3), atol=1e-13)
    assert np.isnan(whiten(np.ones(2), np.array([[1.0, 2.0], [2.0, 1.0]]))).all()
