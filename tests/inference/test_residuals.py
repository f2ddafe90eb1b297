"""Goodness of fit against NONMEM 7.5.1's own table for the phenobarbital data (FOCEI with interaction, 59 neonates)."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.inference.gaussian import OMEGA, SD, A, B, line, observed, population

from gemello.base.errors import DataError
from gemello.inference.residuals import courses, goodness, whiten
from gemello.model import registry
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate


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


def test_residuals_of_the_typical_prediction_are_those_of_nonmem(
    nonmem: tuple[list[Subject], Any, dict[str, np.ndarray]],
) -> None:
    """RES = DV − PRED; the table has five significant digits of numbers up to 70."""
    subjects, fit, table = nonmem
    g = goodness(registry.get("pheno"), fit, subjects)
    np.testing.assert_allclose(g.res, table["RES"], atol=1e-3)
    np.testing.assert_allclose(g.res, g.measured - g.typical, rtol=1e-12)


def test_wres_is_whitened_by_the_first_order_covariance(nonmem: tuple[list[Subject], Any, dict[str, np.ndarray]]) -> None:
    """Against derivatives of the closed form of one subject by central differences: 1e-6 of a residual."""
    subjects, fit, _ = nonmem
    model = registry.get("pheno")
    g = goodness(model, fit, subjects)
    s = subjects[0]
    here = [i for i, who in enumerate(g.ids) if who == s.id]
    plain = Subject(s.id, s.schedule.without_values())
    step = 1e-5
    etas = np.concatenate([np.zeros((1, 2)), step * np.eye(2), -step * np.eye(2)])
    f = simulate(model, [plain] * 5, fit.theta, etas=etas).outputs["cp"][:, s.schedule.measured]
    j = (f[1:3] - f[3:5]).T / (2 * step)
    c = j @ fit.omega @ j.T + np.diag((fit.sigma["cp_proportional"] * f[0]) ** 2)
    np.testing.assert_allclose(g.wres[here], whiten(g.measured[here] - f[0], c), atol=1e-6)


def test_for_a_linear_model_wres_and_cwres_agree() -> None:
    """A straight line with normal coefficients: the first-order approximation is exact, wherever it is made, and WRES are y
    whitened by the marginal covariance of linear regression."""
    rng = np.random.default_rng(2)
    times = np.arange(4.0)
    subjects = [observed(times, A + B * times + rng.standard_normal(4), str(i)) for i in range(6)]
    g = goodness(line, population(), subjects)
    np.testing.assert_allclose(g.wres, g.cwres, atol=1e-9)
    x = np.stack([np.ones(4), times], axis=1)
    first = whiten(g.measured[:4] - (A + B * times), x @ OMEGA @ x.T + SD**2 * np.eye(4))
    np.testing.assert_allclose(g.wres[:4], first, atol=1e-9)
    assert np.ptp(g.etas) > 0


def test_the_table_names_its_columns_and_leaves_limits_without_residual() -> None:
    model = registry.get("pk1_oral")
    s = Schedule().dose(0.0, 100.0).observe([1.0, 4.0, 24.0], [1.2, 1.0, 0.1], censored=[0, 0, 1])
    g = goodness(model, PopulationParameters.of(model), [Subject("a", s)])
    table = g.columns()
    assert list(table)[:12] == ["ID", "TIME", "TAD", "DVID", "CENS", "DV", "PRED", "IPRED", "RES", "WRES", "CWRES", "IWRES"]
    assert list(table)[12:] == ["ETA_CL", "ETA_V", "ETA_KA"]
    assert np.isnan([table[n][2] for n in ("RES", "WRES", "CWRES", "IWRES")]).all()
    assert np.isfinite([table[n][:2] for n in ("RES", "WRES", "CWRES", "IWRES", "PRED", "IPRED")]).all()
    assert g.frame()["CWRES"].null_count() == 1


def test_log_normal_residuals_are_those_of_logarithms() -> None:
    """The same data and model twice: error log-normal, and IWRES by hand."""
    from dataclasses import replace

    from gemello.model.contract import Output, Residual

    base = registry.get("pk1_oral")
    model = type(base).__new__(type(base))
    model.__dict__.update(base.__dict__)
    model.outputs = (Output("cp", "mg/L", Residual(proportional="cp_proportional", form="lognormal")), base.outputs[1])
    model.parameters = replace(base.parameters, rows=tuple(r for r in base.parameters.rows if r.name != "cp_additive"))
    model.__dict__.pop("output_type", None)
    s = Schedule().dose(0.0, 100.0).observe([1.0, 4.0, 24.0], [1.2, 1.0, 0.1])
    g = goodness(model, PopulationParameters.of(model), [Subject("a", s)])
    np.testing.assert_allclose(g.iwres, (np.log(g.measured) - np.log(g.individual)) / 0.2, rtol=1e-9)
    assert g.typical[0] == pytest.approx(simulate(model, [Subject("a", s.without_values())]).outputs["cp"][0, 1], rel=1e-9)


def test_courses_go_through_the_individual_predictions(nonmem: tuple[list[Subject], Any, dict[str, np.ndarray]]) -> None:
    subjects, fit, _ = nonmem
    model = registry.get("pheno")
    g = goodness(model, fit, subjects)
    (c,) = courses(model, fit, [subjects[3]], points=50)
    for i, who in enumerate(g.ids):
        if who == subjects[3].id:
            at = np.flatnonzero(np.isclose(c.time, g.time[i]))
            assert np.any(np.isclose(c.individual["cp"][at], g.individual[i], rtol=1e-8))
            assert np.any(np.isclose(c.typical["cp"][at], g.typical[i], rtol=1e-8))
