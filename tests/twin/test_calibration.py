"""The path from data to forecast is calibrated when the model is right, and says so when it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.inference.gaussian import OMEGA, SD, A, B, line, population

from gemello.base.errors import DataError
from gemello.inference.ensemble import ensemble
from gemello.inference.likelihood import problem
from gemello.model.registry import get
from gemello.model.schedule import Schedule, Subject
from gemello.twin import calibration
from gemello.twin.calibration import calibrate, simulate_subjects

PLAN = Schedule().observe([0.0, 1.0, 3.0, 6.0, 9.0])


def test_simulated_subjects_are_the_population() -> None:
    """Mean and covariance of 4,000 subjects' measurements, each element within 5 standard errors."""
    subjects, etas = simulate_subjects(line, population(), PLAN, 4000, covariates={"WT": 70.0}, seed=1)
    y = np.stack([s.schedule.value for s in subjects])
    x = np.stack([np.ones(5), PLAN.time], axis=1)
    expected = x @ OMEGA @ x.T + SD**2 * np.eye(5)
    scale = np.sqrt(np.diagonal(expected))
    assert np.all(np.abs(y.mean(axis=0) - (A + B * PLAN.time)) < 5 * scale / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(y.T), expected, atol=5 * np.sqrt(2 / 4000) * scale.max() ** 2)
    assert etas.shape == (4000, 2)


def test_vancomycin_forecasts_are_calibrated() -> None:
    """1,000 patients, two levels seen, four forecast: 90 % intervals hold 90 ± 2 %, and all levels within 4 errors."""
    rng = np.random.default_rng(1)
    covariates = {"CLCREAT": rng.uniform(20.0, 140.0, 1000), "WT": rng.normal(75.0, 12.0, 1000).clip(40.0, 120.0), "DIAL": 0.0}
    plan = Schedule().dose(0.0, 1500.0, duration=1.5, every=12.0, times=6).observe([3.0, 11.5, 25.0, 35.5, 48.0, 70.0])
    got = calibrate(get("vancomycin_goti2018"), plan, 24.0, covariates=covariates, seed=1)
    assert got.coverage.number == 4000
    assert got.coverage.share == pytest.approx(0.9, abs=0.02)
    assert got.coverage.error < 0.01
    assert [(t, name) for t, name, _ in got.by_time] == [(25.0, "cp"), (35.5, "cp"), (48.0, "cp"), (70.0, "cp")]
    for p in (0.5, 0.8, 0.95):
        c = got.at_level(p)
        assert abs(c.share - p) < 4 * c.error
    assert np.mean(got.khat > 0.7) < 0.01


def test_seed_and_uniform_pit() -> None:
    """Kolmogorov-Smirnov distance of one PIT per patient under the 0.1 % limit."""
    a, b, c = (calibrate(line, PLAN, 3.0, patients=300, covariates={"WT": 70.0}, draws=200, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(a.pit, b.pit)
    assert not np.array_equal(a.pit, c.pit)
    assert stats.kstest(a.pit[:, 1], "uniform").pvalue > 1e-3
    assert a.provenance.identity() == b.provenance.identity()


def test_a_wrong_model_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecasts from a population with a quarter of the true error: 90 % intervals hold clearly less."""
    narrow = replace(population(), sigma={"sd": SD / 4})
    truth = simulate_subjects
    monkeypatch.setattr(calibration, "simulate_subjects", lambda m, p, *rest, **k: truth(m, population(), *rest, **k))
    got = calibrate(line, PLAN, 3.0, population=narrow, patients=300, covariates={"WT": 70.0}, draws=200)
    assert got.coverage.share < 0.6


def test_a_thousand_subjects_may_differ_in_what_they_have() -> None:
    """Schedules of three kinds in one problem: each subject as when alone."""
    subjects, _ = simulate_subjects(line, population(), PLAN, 6, covariates={"WT": 70.0}, seed=2)
    cut = [Subject(s.id, s.schedule.take(np.arange(1 + i % 3 + 1))) for i, s in enumerate(subjects)]
    e = ensemble(problem(line, cut), population(), draws=100, seed=1)
    for i, s in enumerate(cut):
        alone = ensemble(problem(line, [s]), population(), draws=100, seed=1)
        np.testing.assert_allclose(e.draws[i], alone.draws[0], atol=1e-8)
        np.testing.assert_allclose(e.weights[i], alone.weights[0], atol=1e-8)


def test_nothing_later_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing is measured later"):
        calibrate(line, PLAN, 9.0, patients=10, covariates={"WT": 70.0})
