"""Flattened and adaptive priors, fading levels and several starts, against the exact posteriors of linear regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.inference.gaussian import OMEGA, SD, A, B, line

from gemello.base.errors import DataError
from gemello.inference.ensemble import moments
from gemello.model.card import Card
from gemello.model.contract import Model, Output, Residual
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Schedule
from gemello.twin.data import assimilate_many
from gemello.twin.twin import Twin, new_twins

TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.4, -0.3])
Array = np.ndarray


def regression(
    times: Array, values: Array, mean: Array, covariance: Array, variance: Array | float = SD**2
) -> tuple[Array, Array, float]:
    """Posterior mean and covariance of the etas under a normal prior, and ln evidence."""
    x = np.stack([np.ones_like(times), times], axis=1)
    r = values - (A + B * times) - x @ mean
    noise = np.broadcast_to(variance, times.shape)
    post = np.linalg.inv(np.linalg.inv(covariance) + x.T @ (x / noise[:, None]))
    marginal = x @ covariance @ x.T + np.diag(noise)
    evidence = -0.5 * (r @ np.linalg.solve(marginal, r) + np.linalg.slogdet(2 * np.pi * marginal)[1])
    return mean + post @ x.T @ (r / noise), post, float(evidence)


@pytest.fixture(scope="module")
def start() -> Twin:
    return Twin.new(line, covariates={"WT": 70.0}, draws=4000).assimilate(Schedule.of(0.0, evid=2), draws=4000)


def agrees(twin: Twin, mean: Array, covariance: Array, evidence: float) -> None:
    """Mode and Laplace covariance exactly, moments of the draws and the evidence within 4 and 5 Monte Carlo errors."""
    p = twin.posterior
    np.testing.assert_allclose(p.mode, mean, atol=1e-6)
    np.testing.assert_allclose(p.covariance, covariance, rtol=1e-5, atol=1e-9)
    m, c = moments(p.draws[None], p.weights[None])
    assert np.all(np.abs(m[0] - mean) < 4 * np.sqrt(np.diagonal(covariance) / p.ess))
    np.testing.assert_allclose(np.diagonal(c[0]), np.diagonal(covariance), rtol=5 * np.sqrt(2 / p.ess))
    assert p.log_evidence == pytest.approx(evidence, abs=0.1)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_flattened_prior_is_omega_divided_by_its_weight(start: Twin, weight: float) -> None:
    got = start.assimilate(Schedule().observe(TIMES, VALUES), draws=4000, prior_weight=weight)
    agrees(got, *regression(TIMES, VALUES, np.zeros(2), OMEGA / weight))
    said = "the population counts with weight 0.25 only (OMEGA divided by 0.25)"
    assert got.posterior.assumed == (() if weight == 1.0 else (said,))
    assert (got.posterior.provenance.parameter_hash == start.posterior.provenance.parameter_hash) == (weight == 1.0)
    assert got.parameters is start.parameters


def test_old_levels_fade(start: Twin) -> None:
    """Half-life 2 h: variances divided by 0.5^((5 − t)/2)."""
    got = start.assimilate(Schedule().observe(TIMES, VALUES), draws=4000, half_life=2.0)
    agrees(got, *regression(TIMES, VALUES, np.zeros(2), OMEGA, SD**2 / 0.5 ** ((5.0 - TIMES) / 2.0)))
    assert got.posterior.assumed == ("measurements lose half their weight every 2 h",)


def test_drift_is_a_kalman_filter(start: Twin) -> None:
    """Two periods: the posterior of the first, widened by 0.5 per day for 3 h, is the prior of the second."""
    first = start.assimilate(Schedule().observe(TIMES[:2], VALUES[:2]), draws=20_000, drift=0.5)
    m1, c1, e1 = regression(TIMES[:2], VALUES[:2], np.zeros(2), OMEGA)
    agrees(first, m1, c1, e1)
    second = first.assimilate(Schedule().observe(TIMES[2], VALUES[2]), draws=20_000, drift=0.5)
    m2, c2, e2 = regression(TIMES[2:], VALUES[2:], m1, c1 + 0.5 * 3.0 / 24.0 * np.eye(2))
    np.testing.assert_allclose(second.posterior.mode, m2, atol=0.02)  # the first moments come from draws
    np.testing.assert_allclose(second.posterior.covariance, c2, rtol=0.05)
    assert second.posterior.log_evidence == pytest.approx(e1 + e2, abs=0.1), "of all data, so that models can be compared"
    assert second.posterior.observations == 1
    assert "each eta gains a variance of 0.5 per day" in second.posterior.assumed[0]
    misfit = (VALUES[2] - A - B * 5.0 - np.array([1.0, 5.0]) @ second.posterior.mode) ** 2 / SD**2
    assert second.posterior.misfit > misfit
    later = second.assimilate(Schedule().dose(6.0, 1.0), drift=0.5)
    assert later.posterior is second.posterior, "without a new measurement the belief stays"
    assert later.record.last == 6.0


def test_drift_of_many_is_that_of_each(start: Twin) -> None:
    new = [Schedule().observe(TIMES[:2], VALUES[:2]), Schedule().observe(TIMES[2], VALUES[2])]
    twins = new_twins(line, None, ["a", "b"], [{"WT": 70.0}] * 2, draws=500)
    both = assimilate_many(twins, new, draws=500, drift=0.1)
    for t, s, one in zip(twins, new, both, strict=True):
        np.testing.assert_allclose(t.assimilate(s, draws=500, drift=0.1).posterior.mode, one.posterior.mode, atol=1e-6)


# ---- several starts ------------------------------------------------------------------------------------------------
class Square(Model):
    """level = a², a normal around `centre`: from a level alone a and −a are alike."""

    name, version, time_unit = "square", "1", "h"
    states = {"clock": "1"}  # noqa: RUF012
    outputs = (Output("level", "1", Residual(additive="sd")),)
    card = Card("square", {})

    def __init__(self, centre: float) -> None:
        self.parameters = ParameterTable(
            (
                Parameter("a", centre, "1", -100.0, 100.0, distribution="normal", variance=4.0),
                Parameter("sd", 0.1, "1", kind="residual"),
            )
        )

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(0.0 * y.clock + 1.0)

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, r: self.state_type(y.clock + dt)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (p.a**2 + 0.0 * y.clock,)


def test_two_explanations_are_told_and_nothing_is_decided() -> None:
    """Around 0.2 with variance 4: modes near ±3, whose ln densities differ by 2 · 0.2 · 3/4 = 0.3."""
    twin = Twin.new(Square(0.2)).assimilate(Schedule().observe(1.0, 9.0), starts=6)
    assert twin.posterior.rival == pytest.approx(0.3, abs=0.01)
    assert twin.posterior.individual_mode["a"] == pytest.approx(3.0, abs=0.01), "the better of the two"
    assert "two explanations of the measurements compete" in (twin.posterior.doubt or "")


def test_the_best_of_several_starts_is_kept() -> None:
    """Around 1 the other mode is 2 · 1 · 3/4 = 1.5 worse; around 2 it is 3 worse, which is not told."""
    near, far = (Twin.new(Square(c)).assimilate(Schedule().observe(1.0, 9.0), starts=8).posterior for c in (1.0, 2.0))
    assert near.rival == pytest.approx(1.5, abs=0.02)
    assert far.rival is None
    assert far.individual_mode["a"] == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prior_weight": 0.0}, "prior_weight"),
        ({"prior_weight": 1.5}, "above 0, at most 1"),
        ({"half_life": -1.0}, "half_life"),
        ({"drift": np.nan}, "drift"),
        ({"starts": 0}, "starts"),
    ],
)
def test_impossible_options_are_named(start: Twin, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        start.assimilate(Schedule().observe(1.0, 2.0), **options)
