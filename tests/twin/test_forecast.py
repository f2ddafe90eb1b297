"""Forecasts against the closed form of a linear Gaussian model."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.inference.gaussian import SD, A, B, exact, line, observed

from gemello.base.errors import DataError, ModelError, SolverError
from gemello.model.population import PopulationParameters
from gemello.model.registry import get
from gemello.model.schedule import Schedule, Subject
from gemello.twin.forecast import forecast_many, measure
from gemello.twin.propagate import Propagated, settle
from gemello.twin.twin import Twin, assimilate_subjects

TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.4, -0.3])
AHEAD = np.array([0.0, 4.0, 9.0])


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin.new(line, covariates={"WT": 70.0}).assimilate(observed(TIMES, VALUES).schedule, draws=4000, seed=2)


def level(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of the level at these times."""
    mean, covariance, _ = exact(TIMES, VALUES)
    x = np.stack([np.ones_like(at), at], axis=1)
    return A + B * at + x @ mean, np.sqrt(np.einsum("ti,ij,tj->t", x, covariance, x))


def test_quantiles_of_prediction_and_measurement(twin: Twin) -> None:
    """Within 4 of the Monte Carlo errors that the forecast states; past times are forecast, too."""
    f = twin.forecast(times=AHEAD, seed=1)
    mean, sd = level(AHEAD)
    z = stats.norm.ppf(f.levels)[:, None]
    for got, spread in ((f["level"].prediction, sd), (f["level"].measurement, np.sqrt(sd**2 + SD**2))):
        assert got is not None
        assert np.all(np.abs(got.quantiles - (mean + z * spread)) < 4 * got.error)
        assert np.all(got.error < 0.1 * spread)
    np.testing.assert_array_equal(f.time, AHEAD)
    np.testing.assert_array_equal(f["level"].observed, [TIMES, VALUES])
    assert f["area"].measurement is None
    assert f["area"].unit == "mg"
    assert f.notes == ()


def test_early_times_do_not_change_late_ones(twin: Twin) -> None:
    """Nor does a record that begins late: a twin's clock starts at 0."""
    a, b = twin.forecast(times=[0.0, 9.0])["level"], twin.forecast(times=9.0)["level"]
    np.testing.assert_allclose(a.prediction.draws[:, 1], b.prediction.draws[:, 0], rtol=1e-12)
    late = Twin.new(line, covariates={"WT": 70.0}).assimilate(Schedule().observe(TIMES, VALUES))
    np.testing.assert_allclose(late.posterior.mode, exact(TIMES, VALUES)[0], atol=1e-8)


def test_what_is_done_later_is_added(twin: Twin) -> None:
    """5 mg at 6 h lift the level by 5 at 9 h and by nothing before, in every draw; an observation at 6 h comes before."""
    c = twin.compare({"nothing": Schedule(), "more": Schedule().dose(6.0, 5.0)}, times=[4.0, 6.0, 9.0], seed=3)
    a, b = c["nothing"]["level"], c["more"]["level"]
    np.testing.assert_allclose(b.prediction.draws - a.prediction.draws, [[0.0, 0.0, 5.0]] * 4000, atol=1e-12)
    assert a.measurement is not None
    assert b.measurement is not None
    np.testing.assert_allclose(b.measurement.draws - a.measurement.draws, [[0.0, 0.0, 5.0]] * 4000, atol=1e-12)
    difference, larger = c.difference("nothing", "more", "level")
    np.testing.assert_allclose(difference, [[0.0, 0.0, 5.0]] * 5, atol=1e-12)
    np.testing.assert_allclose(larger, [0.0, 0.0, 1.0], atol=1e-12)
    with pytest.raises(DataError, match="it has nothing, more"):
        c["less"]


def test_a_planned_dose_of_the_record_is_in_the_forecast() -> None:
    s = observed(TIMES, VALUES).schedule.dose(20.0, 3.0)
    f = Twin.new(line).assimilate(s).forecast(times=[20.0, 21.0], outputs="level", residual=False)
    jump = f["level"].prediction.draws[:, 1] - f["level"].prediction.draws[:, 0]
    assert np.median(jump) == pytest.approx(3.0 + B, abs=0.5)
    assert tuple(f.outputs) == ("level",)
    assert f["level"].measurement is None


def test_a_twin_without_data_forecasts_its_population() -> None:
    """Standard deviation of the level at 4 h under OMEGA: sqrt(.8 + 8·.15 + 16·.1); 2,048 draws, 4 Monte Carlo errors."""
    f = Twin.new(line, covariates={"WT": 70.0}, draws=2048).forecast(times=4.0, levels=[0.1, 0.9])
    sd = np.sqrt(0.8 + 8 * 0.15 + 16 * 0.1)
    got = f["level"].prediction
    assert np.all(np.abs(got.quantiles[:, 0] - (A + 4 * B + sd * stats.norm.ppf([0.1, 0.9]))) < 4 * got.error[:, 0])


def test_default_times_cover_record_and_future(twin: Twin) -> None:
    f = twin.forecast(Schedule().dose(8.0, 1.0, every=4.0, times=3))
    assert f.time[0] == 0.0
    assert f.time[-1] == 16.0
    assert {8.0, 12.0, 16.0} <= set(f.time)


def test_the_seed_decides_the_noise(twin: Twin) -> None:
    a, b, c = (twin.forecast(times=AHEAD, seed=s)["level"].measurement for s in (1, 1, 2))
    assert a is not None
    assert b is not None
    assert c is not None
    np.testing.assert_array_equal(a.draws, b.draws)
    assert not np.array_equal(a.draws, c.draws)


def test_many_are_as_one() -> None:
    subjects = [observed(TIMES, VALUES + k, str(k)) for k in range(3)]
    twins = assimilate_subjects(line, None, subjects, draws=300, seed=1)
    together = forecast_many(twins, times=AHEAD, seed=5)
    for t, f in zip(twins, together, strict=True):
        alone = t.forecast(times=AHEAD, seed=5)
        assert f.id == t.id
        for name in ("level", "area"):
            np.testing.assert_allclose(f[name].prediction.quantiles, alone[name].prediction.quantiles, rtol=1e-12, atol=1e-12)


def test_the_table_has_every_number(twin: Twin) -> None:
    f = twin.forecast(times=AHEAD)
    table = f.frame()
    assert table.columns == ["id", "output", "kind", "time", "level", "value", "error"]
    assert len(table) == 3 * 5 * 3  # level twice, area once
    some = table.filter((table["kind"] == "prediction") & (table["output"] == "level") & (table["level"] == 0.5))
    np.testing.assert_array_equal(some["value"], f["level"].prediction.quantiles[2])


def test_notes_tell_what_a_reader_must_know() -> None:
    twin = Twin.new(line, covariates={"WT": 130.0})
    assert "WT 130 kg is outside [40, 120]" in twin.forecast(times=1.0).notes


def test_failed_draws_are_told_or_weightless() -> None:
    found = Propagated({"level": np.array([[[1.0], [np.nan], [3.0]]])}, np.array([[False, True, False]]))
    subject = [Subject("9", Schedule().observe(1.0))]
    etas = np.zeros((3, 2))
    with pytest.raises(SolverError, match=r"subject 9: .*1 draws, 0.2 of the weight"):
        settle(line, subject, etas, np.array([0.5, 0.2, 0.3]), found)
    fine = settle(line, subject, etas, np.array([0.4, 0.0, 0.6]), found)
    np.testing.assert_array_equal(fine.outputs["level"].ravel(), [1.0, 3.0, 3.0])


def test_bad_input_is_named(twin: Twin) -> None:
    with pytest.raises(ModelError, match="no output 'cp'; it has level, area"):
        twin.forecast(times=1.0, outputs="cp")
    with pytest.raises(DataError, match=r"times, value '-1.0'"):
        twin.forecast(times=[-1.0, 2.0])
    with pytest.raises(DataError, match="how far to forecast"):
        Twin.new(line, covariates={"WT": 70.0}).forecast()
    with pytest.raises(DataError, match="levels"):
        twin.forecast(times=1.0, levels=[1.5])
    with pytest.raises(DataError, match="at least one by name"):
        twin.compare({})
    with pytest.raises(DataError, match="it has level, area"):
        twin.forecast(times=1.0)["cp"]
    short = replace(twin, posterior=replace(twin.posterior, draws=twin.posterior.draws[:9], weights=twin.posterior.weights[:9]))
    with pytest.raises(DataError, match="different numbers of draws"):
        forecast_many([twin, short], times=1.0)


def test_a_log_normal_error_is_forecast_as_such() -> None:
    """Median of new measurements = prediction, 95 % quantile = prediction · exp(1.645 sd); 20,000 draws, 4 standard errors."""
    log = _with_log_error(get("pk1_iv"))
    p = PopulationParameters.of(log)
    sd = float(np.hypot(p.sigma["cp_additive"], p.sigma["cp_proportional"]))
    drawn = measure(log, p, "cp", np.full(20_000, 8.0), np.random.default_rng(1))
    assert np.median(drawn) == pytest.approx(8.0, rel=4 * 1.2533 * sd / np.sqrt(20_000))
    assert np.quantile(drawn, 0.95) == pytest.approx(8.0 * np.exp(1.645 * sd), rel=8 * sd / np.sqrt(20_000))


def _with_log_error(model: Any) -> Any:
    out = copy.copy(model)
    first = model.outputs[0]
    out.outputs = (replace(first, residual=replace(first.residual, form="lognormal")), *model.outputs[1:])
    return out
