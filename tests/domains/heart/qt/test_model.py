"""The concentration-QTc models: contract, closed forms, likelihood, twins and what they forecast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from tests.domains.heart.qt.studies import write

from gemello.base.errors import DataError, UnsupportedError
from gemello.domains.heart.qt import MODELS, subjects
from gemello.domains.heart.qt.coverage import follow
from gemello.domains.heart.qt.e14 import analyse
from gemello.domains.heart.qt.model import ConcentrationQT, dofetilide, linear, linear_site, quinidine
from gemello.domains.heart.qt.records import read
from gemello.domains.heart.qt.twins import model_for
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import modes
from gemello.inference.likelihood import problem
from gemello.model import registry
from gemello.model.conformance import conformance
from gemello.model.contract import Output, Residual
from gemello.model.individuals import residual_sd
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate
from gemello.twin.twin import Twin


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_contract_is_kept(name: str) -> None:
    for check in conformance(registry.get(MODELS[name])):
        assert check.passed, check


def test_a_level_moves_the_effect_site_as_an_exponential() -> None:
    """C = 100 from 1 h on: Ce = 100 (1 − exp(−KE0 (t − 1))); the exposure is 100 (t − 1)."""
    at = np.array([0.5, 1.5, 2.0, 4.0])
    s = Schedule().signal(0.0, 0.0, port=1).signal(1.0, 100.0, port=1).observe(at)
    values = {"SLOPE": 0.2, "KE0": 1.3, "COS24": 0.0, "SIN24": 0.0, "BASE": 390.0}
    found = simulate(linear_site, s, values).outputs
    seen = np.isin(s.evid, 0)
    site = 100.0 * -np.expm1(-1.3 * np.maximum(at - 1.0, 0.0))
    assert found["ddqtcf"][0][seen] == pytest.approx(0.2 * site, rel=1e-9)
    assert found["qtcf"][0][seen] == pytest.approx(390.0 + 0.2 * site, rel=1e-9)
    assert found["auc"][0][seen] == pytest.approx(100.0 * np.maximum(at - 1.0, 0.0), rel=1e-9)


def test_levels_are_the_samples_and_keep_the_area() -> None:
    t, c = np.array([1.0, 2.0, 5.0]), np.array([10.0, 30.0, 6.0])
    for steps in (1, 4):
        s = subjects.levels(t, c, steps=steps).merge(Schedule().observe(t))
        seen = s.evid == 0
        out = simulate(linear, s, {"SLOPE": 1.0, "COS24": 0.0, "SIN24": 0.0}).outputs
        assert out["ddqtcf"][0][seen] == pytest.approx(c)
        assert out["auc"][0][seen] == pytest.approx([5.0, 25.0, 79.0])  # the trapezium rule
    with pytest.raises(DataError, match="do not increase"):
        subjects.levels([1.0, 1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="no number of 0 or more"):
        subjects.levels([1.0], [-1.0])


def test_the_objective_is_that_of_a_multivariate_normal() -> None:
    """Linear in normal etas with a constant error: −2 log L without constants has a closed form, and Laplace is exact."""
    rng = np.random.default_rng(2)
    t, c, y = np.arange(1.0, 6.0), np.array([50.0, 300.0, 200.0, 90.0, 10.0]), 400.0 + 10.0 * rng.standard_normal(5)
    s = subjects.levels(t, c).merge(Schedule().observe(t, y))
    values = {"qtcf_growth": 0.0, "qtcf_additive": 6.0}
    p = PopulationParameters.of(linear, values)
    objective = float(modes(problem(linear, [Subject("1", s)], values=p.theta), population_of(p)).laplace.sum())
    th = p.theta
    angle = 2.0 * np.pi * t / 24.0
    mean = th["BASE"] + th["COS24"] * np.cos(angle) + th["SIN24"] * np.sin(angle) + th["SLOPE"] * c
    z = np.stack([np.ones(5), c], axis=1)
    exact = -2.0 * multivariate_normal(mean, z @ p.omega @ z.T + 36.0 * np.eye(5)).logpdf(y) - 5.0 * np.log(2.0 * np.pi)
    assert objective == pytest.approx(exact, abs=1e-6)


def test_a_twin_learns_a_subject_and_forecasts_the_next_dose() -> None:
    """A subject 20 ms above the population at baseline, with an effect a third larger than the typical one."""
    t, c = np.array([0.5, 1.0, 2.0, 4.0, 8.0]), np.array([400.0, 1500.0, 2500.0, 2000.0, 1200.0])
    plan = subjects.day(t, c, occasion=1)
    truth = {"BASE": 405.65, "SLOPE": 0.0364}
    y = simulate(dofetilide, plan, truth).outputs["qtcf"][0][plan.evid == 0]
    first = subjects.day(t, c, y, baseline=float(405.65 + 4.63), occasion=1)
    new = Twin.new(dofetilide, draws=500)
    twin = new.assimilate(first, draws=500, seed=1)
    assert twin.posterior.individual_mode["BASE"] == pytest.approx(405.65, abs=4.0)
    assert twin.posterior.individual_mode["SLOPE"] == pytest.approx(0.0364, rel=0.12)
    double = subjects.day(t, 2.0 * c, start=168.0, occasion=2)
    f = twin.forecast(double, times=[170.0], outputs="qtcf", seed=2)["qtcf"]
    exact = simulate(dofetilide, subjects.day(t, 2.0 * c), truth).outputs["qtcf"][0]
    there = exact[(subjects.day(t, 2.0 * c).evid == 0) & (subjects.day(t, 2.0 * c).time == 2.0)][0]
    assert f.measurement is not None
    assert f.measurement.quantiles[0, 0] < there < f.measurement.quantiles[-1, 0]
    assert f.measurement.quantiles[-1, 0] - f.measurement.quantiles[0, 0] > 4 * 5.7
    with pytest.raises(DataError, match="OCC"):
        new.assimilate(subjects.levels(t, c).merge(Schedule().observe(t, y)))


def test_days_of_a_study(tmp_path: Path) -> None:
    study = read(write(tmp_path / "s.csv", slope=0.1))
    one = subjects.subjects(study)[0].schedule
    assert subjects.measured(one)[0] == pytest.approx([0, 0.5, 1, 2, 4, 8, 24, 168, 168.5, 169, 170, 172, 176, 192])
    assert set(one.columns["OCC"][one.time >= 168.0]) == {2.0}
    assert set(one.columns["OCC"][one.time < 168.0]) == {1.0}
    day = subjects.drug_day(study, "3")
    assert len(subjects.measured(subjects.until(day, 2.0))[0]) == 4
    with pytest.raises(DataError, match="no record on the drug"):
        subjects.drug_day(study.rows(~study.active), "3")


def test_the_model_that_a_study_asks_for(shared_data: Path, tmp_path: Path) -> None:
    names = {}
    for drug in ("dofetilide", "quinidine"):
        a = analyse(read(shared_data / "heart" / "cqt" / f"ecgrdvq_cqtkit_{drug}.csv"))
        names[drug], _ = model_for(a)
    assert [names[d].name for d in ("dofetilide", "quinidine")] == ["qt_linear_site", "qt_emax"]
    assert names["dofetilide"].parameters["SLOPE"].unit == "ms/(pg/mL)"
    plain, why = model_for(analyse(read(write(tmp_path / "s.csv", slope=0.1, parallel=True))))
    assert (plain.name, plain.parameters.occasion_names) == ("qt_linear", ())
    assert "linear in the concentration" in why


def test_coverage_on_real_people(shared_data: Path) -> None:
    """Left out of the population in two folds, forecast after the ECG before the dose: 90 % within 2.6 standard errors by subject
    (false alarm 1 in 100)."""
    study = read(shared_data / "heart" / "cqt" / "ecgrdvq_cqtkit_quinidine.csv")
    held = follow(quinidine, study, 0.0, folds=2, draws=500, seed=1)
    assert len(held.value) == 311
    assert held.coverage.error < 0.06
    assert abs(held.coverage.share - 0.90) < 2.576 * held.coverage.error
    assert held.rmse < np.std(held.value)
    with pytest.raises(DataError, match="folds"):
        follow(quinidine, study, 0.0, folds=50)


def test_an_error_without_individual_parameters_can_be_forecast_and_one_with_them_is_refused() -> None:
    sigma = {"qtcf_additive": 3.0, "qtcf_growth": 0.2, "qtcf_onset": 380.0}
    assert float(residual_sd(dofetilide, 0, 400.0, sigma)) == pytest.approx(5.0)
    assert float(residual_sd(dofetilide, 0, 370.0, sigma)) == pytest.approx(3.0)
    own = ConcentrationQT("own", "linear")
    own.outputs = (Output("qtcf", "ms", Residual(sd=lambda f, p, s: f - p.BASE, parameters=("qtcf_additive",))),)
    with pytest.raises(UnsupportedError, match="function of the individual parameters"):
        residual_sd(own, 0, 400.0, sigma)
