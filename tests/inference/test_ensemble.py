"""The ensemble against posteriors that are known exactly or by quadrature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from tests.inference.gaussian import OMEGA, Line, exact, line, observed, population

from gemello.base.errors import DataError, ModelError
from gemello.inference import ensemble as en
from gemello.inference.likelihood import problem
from gemello.model.contract import Output, Residual
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

TIMES, VALUES = np.array([0.5, 1.0, 3.0, 6.0]), np.array([2.9, 2.2, 1.6, 0.4])


def test_a_linear_gaussian_posterior_is_exact() -> None:
    """Mode, Laplace covariance and evidence to rounding; draws within 4 Monte Carlo standard errors."""
    e = en.ensemble(problem(line, [observed(TIMES, VALUES)]), population(), draws=4000, seed=3)
    mean, covariance, evidence = exact(TIMES, VALUES)
    np.testing.assert_allclose(e.mode[0], mean, atol=1e-8)
    np.testing.assert_allclose(e.covariance[0], covariance, rtol=1e-8)
    got, spread = en.moments(e.draws, e.weights)
    error = np.sqrt(np.diagonal(covariance) / e.ess[0])
    assert np.all(np.abs(got[0] - mean) < 4 * error)
    np.testing.assert_allclose(spread[0], covariance, atol=4 * np.sqrt(2 / e.ess[0]) * np.max(np.diagonal(covariance)))
    assert e.evidence[0] == pytest.approx(evidence, abs=4 / np.sqrt(e.ess[0]))
    assert e.ess[0] > 0.5 * 4000
    assert e.khat[0] < 0.5


class Decay(Line):
    """level = exp(−k t) with k log-normal: a posterior that is far from normal where little is left to be seen."""

    name = "decay"
    outputs = (Output("level", "mg", Residual(additive="sd")),)
    covariates = ()
    parameters = ParameterTable(
        (Parameter("k", 1.0, "1/h", distribution="lognormal", variance=1.0), Parameter("sd", 0.05, "mg", kind="residual"))
    )

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, r: self.state_type(y.clock + dt, y.put, y.grown)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (jnp.exp(-p.k * y.clock),)


@pytest.mark.parametrize("value", [0.5, 0.03])
def test_a_skewed_posterior_agrees_with_quadrature(value: float) -> None:
    """One measurement at 2 h. At 0.03 anything above the noise is excluded, so the posterior is one-sided."""

    def joint(eta: float) -> float:
        return float(stats.norm.pdf(value, np.exp(-np.exp(eta) * 2.0), 0.05) * stats.norm.pdf(eta))

    total = quad(joint, -8, 8, limit=400, epsabs=1e-13)[0]
    mean = quad(lambda x: x * joint(x), -8, 8, limit=400, epsabs=1e-13)[0] / total
    sd = np.sqrt(quad(lambda x: (x - mean) ** 2 * joint(x), -8, 8, limit=400, epsabs=1e-13)[0] / total)
    model = Decay()
    subject = Subject("1", Schedule.of(0.0, evid=2).observe(2.0, value))
    e = en.ensemble(problem(model, [subject]), PopulationParameters.of(model), draws=4000, seed=1)
    got, spread = en.moments(e.draws, e.weights)
    assert got[0, 0] == pytest.approx(mean, abs=4 * sd / np.sqrt(e.ess[0]))
    assert np.sqrt(spread[0, 0, 0]) == pytest.approx(sd, rel=0.08)
    assert e.evidence[0] == pytest.approx(np.log(total), abs=0.05)
    assert e.khat[0] < en.KHAT_LIMIT


def test_without_data_the_prior_comes_back() -> None:
    """Beside a subject with data, too: draws equally weighted, moments of the quasi-random draws within 1 % of OMEGA."""
    blank = replace(observed(TIMES, VALUES), id="blank")
    blank = replace(blank, schedule=blank.schedule.without_values())
    for subjects in ([blank], [observed(TIMES, VALUES), blank]):
        e = en.ensemble(problem(line, subjects), population(), draws=2048, seed=5)
        np.testing.assert_array_equal(e.mode[-1], 0.0)
        np.testing.assert_array_equal(e.covariance[-1], OMEGA)
        np.testing.assert_array_equal(e.weights[-1], 1 / 2048)
        assert (e.ess[-1], e.khat[-1], e.evidence[-1], e.observations[-1]) == (2048, -np.inf, 0.0, 0)
        np.testing.assert_allclose(np.cov(e.draws[-1].T), OMEGA, atol=0.01)


def test_the_seed_decides_and_nothing_else() -> None:
    """The same bits for the same seed; beside others the same draws up to rounding."""
    one, other = observed(TIMES, VALUES, "one"), observed(TIMES + 1.0, VALUES * 1.5, "other")
    alone = problem(line, [one])
    a, b, c = (en.ensemble(alone, population(), draws=500, seed=s) for s in (7, 7, 8))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a.draws, c.draws)
    both = en.ensemble(problem(line, [other, one]), population(), draws=500, seed=7)
    np.testing.assert_allclose(both.draws[1], a.draws[0], atol=1e-8)
    np.testing.assert_allclose(both.weights[1], a.weights[0], atol=1e-8)
    assert not np.allclose(both.draws[0], both.draws[1])


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.8])
def test_the_tail_index_of_a_generalised_pareto_sample(shape: float) -> None:
    """SciPy's samples, 40 of 4,000: the mean within 0.03 of the truth, scale 2 within 5 % (the pull to ½ is 10/4010)."""
    x = np.sort(stats.genpareto.rvs(shape, scale=2.0, size=(40, 4000), random_state=1), axis=1)
    k, sigma = en.fit_generalised_pareto(x)
    assert np.mean(k) == pytest.approx(shape, abs=0.03)
    assert np.mean(sigma) == pytest.approx(2.0, rel=0.05)


def test_heavy_weights_are_recognised() -> None:
    """Ratios with a Pareto tail of index 1.2 have no mean; those of index 0.2 have all that is needed."""
    u = np.random.default_rng(2).random((2, 4000))
    _, khat = en.smooth_weights(-np.array([[1.2], [0.2]]) * np.log(u))
    assert khat[0] > 1.0
    assert khat[1] < 0.5


def test_equal_weights_stay_equal() -> None:
    w, khat = en.smooth_weights(np.zeros((1, 1000)))
    np.testing.assert_allclose(w, 1e-3, rtol=1e-12)
    assert khat[0] == -np.inf


def test_a_proposal_that_misses_is_mended() -> None:
    """Hardly any decay seen, with a wide prior: slower is as good as slow, so the posterior reaches far below its mode."""
    model = Decay()
    subject = Subject("1", Schedule.of(0.0, evid=2).observe(2.0, 0.95))
    wide = PopulationParameters.of(model, omega=[[25.0]])
    one, more = (en.ensemble(problem(model, [subject]), wide, draws=2000, seed=1, rounds=r) for r in (1, 3))
    assert one.ess[0] < en.ENOUGH * 2000
    assert one.khat[0] > en.KHAT_LIMIT
    assert more.ess[0] > 3 * one.ess[0]
    assert more.khat[0] < 0.5


def test_bad_input_is_named() -> None:
    p = problem(line, [observed(TIMES, VALUES)])
    with pytest.raises(DataError, match=r"draws.*10 or more"):
        en.ensemble(p, population(), draws=5)
    with pytest.raises(ModelError, match=r"positive definite.*variance of a: 0"):
        en.ensemble(p, replace(population(), omega=np.diag([0.0, 1.0])))
    with pytest.raises(DataError, match="seed"):
        en.ensemble(p, population(), seed=-1)
