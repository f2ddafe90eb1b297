"""NUTS against posteriors that are known exactly or by quadrature, and against the ensemble and FOCEI.

Means of draws are held within a number of their Monte Carlo standard errors: 4.5 means a false alarm in 150,000 for each.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tests.inference.gaussian import exact, line, observed, population

from gemello.base.errors import ConvergenceError, DataError, ModelError
from gemello.domains.pharmacology.one_compartment import model as one_compartment
from gemello.domains.pharmacology.theophylline import boeckmann1994
from gemello.domains.pharmacology.theophylline import model as theophylline
from gemello.engine.lanes import precision
from gemello.inference import bayes, convergence, ensemble, nuts
from gemello.inference.bayes import LKJ, HalfNormal, HalfT, Normal
from gemello.inference.layout import layout
from gemello.inference.likelihood import problem
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

LIMIT = 4.5


def keys(chains: int) -> np.ndarray:
    return nuts.lane_keys(1, [(c,) for c in range(chains)])


def near(draws: np.ndarray, truth: Any) -> None:
    """Means of draws (chains, draws, ...) within LIMIT of their Monte Carlo standard errors of the truth."""
    z = (draws.mean(axis=(0, 1)) - truth) / convergence.mcse_mean(draws)
    assert np.all(np.abs(z) < LIMIT), z


# ---- the sampler ---------------------------------------------------------------------------------------------------
def normal_density(shared: Any, own: Any, q: Any) -> tuple[Any, Any]:
    away = q - shared["mean"][:, None]
    slope = -shared["precision"] @ away
    return 0.5 * jnp.sum(away * slope, axis=0), slope


def test_a_normal_of_known_covariance() -> None:
    """Six correlated coordinates: means, second moments and three quantiles of the distance; 16 chains."""
    root = np.random.default_rng(0).standard_normal((6, 6))
    cov, mean = root @ root.T + 0.1 * np.eye(6), np.arange(6.0)
    target = {"mean": mean, "precision": np.linalg.inv(cov)}
    start = lambda attempt: np.random.default_rng(attempt).standard_normal((16, 6))  # noqa: E731
    found = nuts.run_chains(
        normal_density, target, {}, start, nuts.Shape(2, 2, 2), keys(16), together=4, block=16, warmup=200, draws=1000
    )
    u = np.linalg.solve(np.linalg.cholesky(cov), (found.q - mean).reshape(-1, 6).T).T.reshape(found.q.shape)
    near(u, 0.0)
    near(u**2, 1.0)
    near(u[..., :-1] * u[..., 1:], 0.0)
    distance = np.sum(u**2, axis=-1)
    for p in (0.05, 0.5, 0.95):
        near((distance < stats.chi2.ppf(p, 6)).astype(float)[..., None], p)
    assert not found.diverged.any()
    assert found.leapfrogs.sum() > found.steps.sum()


Y, SIGMA = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]), np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(shared: Any, own: Any, q: Any) -> tuple[Any, Any]:
    """Rubin 1981, as in Gelman et al., Bayesian Data Analysis, section 5.5: μ ~ N(0, 5), τ ~ half-Cauchy(5), non-centred."""

    def logp(q: Any) -> Any:
        mu, log_tau, z = q[0], q[1], q[2:]
        tau = jnp.exp(log_tau)
        fit = jnp.sum(((Y[:, None] - mu - tau * z) / SIGMA[:, None]) ** 2, axis=0)
        return -0.5 * (fit + jnp.sum(z**2, axis=0) + (mu / 5.0) ** 2) - jnp.log1p((tau / 5.0) ** 2) + log_tau

    value, back = jax.vjp(logp, q)
    return value, back(jnp.ones_like(value))[0]


def test_eight_schools() -> None:
    """Means and probabilities against quadrature over ln τ, μ and the effects integrated out in closed form."""
    log_tau = np.linspace(-12.0, 6.0, 20_001)
    tau = np.exp(log_tau)
    w = 1.0 / (SIGMA**2 + tau[:, None] ** 2)
    precision_, weighted = w.sum(axis=1) + 1.0 / 25.0, (w * Y).sum(axis=1)
    log_p = 0.5 * np.log(w).sum(axis=1) - 0.5 * (w * Y**2).sum(axis=1) + 0.5 * weighted**2 / precision_ - 0.5 * np.log(precision_)
    p = np.exp(log_p - log_p.max()) * tau / (1.0 + (tau / 5.0) ** 2)
    p /= p.sum()
    start = lambda attempt: np.random.default_rng(attempt).standard_normal((8, 10))  # noqa: E731
    found = nuts.run_chains(
        eight_schools, {}, {}, start, nuts.Shape(2, 8, 1), keys(8), together=8, block=8, warmup=300, draws=1000
    )
    mu, t = found.q[..., 0], np.exp(found.q[..., 1])
    seen = np.stack([mu, t, t < 1.0, t < 5.0, t < 15.0], axis=-1)
    near(seen, [np.sum(p * weighted / precision_), np.sum(p * tau), *(p[tau < c].sum() for c in (1.0, 5.0, 15.0))])
    assert np.all(convergence.rhat(seen[..., :2]) < 1.02)


# ---- priors --------------------------------------------------------------------------------------------------------
def test_the_prior_is_what_it_says() -> None:
    """NUTS on the prior of a full OMEGA of 3, against independent draws and LKJ's known variance 1/(2 shape + K − 1)."""
    model = one_compartment.oral
    data = problem(model, [Subject("1", Schedule().dose(0.0, 100.0).observe(1.0, 1.0))])
    shape = layout(model, {}, omega="full")
    given = {
        "CL": HalfT(5.0, 5.0),
        "cp_proportional": HalfNormal(0.2),
        "OMEGA(V,V)": HalfT(0.3, 6.0),
        "OMEGA(KA,KA)": Normal(0.3, 0.4),
    }
    p = bayes.priors(data, shape, {**given, "correlation": LKJ(1.5)})

    def density(shared: Any, own: Any, q: Any) -> tuple[Any, Any]:
        value, back = jax.vjp(lambda x: bayes.log_prior(shape, p.kinds, shared, x), q)
        return value, back(jnp.ones_like(value))[0]

    def quantities(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1, len(shape))
        with precision():
            factor = np.asarray(jax.vmap(shape.factor)(flat))
        omega = factor @ np.swapaxes(factor, 1, 2)
        sd = np.sqrt(np.diagonal(omega, axis1=1, axis2=2))
        r = omega / (sd[:, :, None] * sd[:, None, :])
        r = np.stack([r[:, 0, 1], r[:, 0, 2], r[:, 1, 2]], axis=1)
        return np.concatenate([np.tanh(flat[:, :4]), sd < 0.3, np.minimum(sd, 2.0), r, r**2], axis=1).reshape(*x.shape[:-1], -1)

    again = lambda attempt: bayes.prior_draws(p, 16, np.random.default_rng(attempt))  # noqa: E731
    found = nuts.run_chains(
        density, p.numbers, {}, again, nuts.Shape(len(shape), 0, 0), keys(16), together=16, block=16, warmup=200, draws=1000
    )
    seen, direct = quantities(found.q), quantities(bayes.prior_draws(p, 40_000, np.random.default_rng(9)))
    error = np.hypot(convergence.mcse_mean(seen), direct.std(axis=0) / 200.0)
    assert np.all(np.abs(seen.mean(axis=(0, 1)) - direct.mean(axis=0)) < LIMIT * error)
    np.testing.assert_allclose(direct[:, -3:].mean(axis=0), 1.0 / (2 * 1.5 + 3 - 1), atol=LIMIT * 0.25 / 200.0)
    text = "\n".join(p.words())
    assert "CL ~ half-t(5, 5 degrees of freedom)" in text
    assert "ln V ~ normal(ln 50, 1)" in text
    assert "LKJ(1.5)" in text


def test_bad_priors_are_named() -> None:
    data = problem(line, [observed(np.array([1.0, 2.0]), np.array([2.0, 1.0]))])
    shape = layout(line, {})
    for given, words in (
        ({"CL": Normal(1.0, 1.0)}, "CL.*give some of a, b, sd"),
        ({"a": HalfNormal(1.0)}, "prior of a: half distributions"),
        ({"sd": Normal(0.5, -1.0)}, "scales above 0"),
    ):
        with pytest.raises(ModelError, match=words):
            bayes.priors(data, shape, given)
    with pytest.raises(ModelError, match="log_diagonal"):
        nuts.sample(data, layout(line, {}, log_diagonal=False), np.zeros(6), seed=1)
    with pytest.raises(DataError, match="draws"):
        nuts.sample(data, shape, np.zeros(6), seed=1, draws=2)


# ---- populations ---------------------------------------------------------------------------------------------------
def test_density_and_gradient() -> None:
    """The density is prior, data and z; its gradient agrees with central differences to 1e-6."""
    subjects = boeckmann1994.subjects()[:3]
    data, shape = problem(theophylline.oral, subjects), layout(theophylline.oral, {}, omega="full")
    p = bayes.priors(data, shape)
    q = np.random.default_rng(1).standard_normal((2, len(shape) + 9)).T * 0.3
    q[: len(shape)] += bayes.prior_draws(p, 1, np.random.default_rng(2)).T
    with precision():
        density = jax.jit(bayes.population_density(theophylline.oral, data.prepared.timeline.plan, shape, p.kinds))
        target = {"data": bayes.lanes_of(data), "priors": p.numbers}
        value, slope = (np.asarray(v) for v in density(target, {}, q))
        many = np.concatenate([q[:, :1] + s * 1e-5 * np.eye(len(q)) for s in (1.0, -1.0)], axis=1)
        around = np.asarray(density(target, {}, many)[0])
        prior = np.asarray(bayes.log_prior(shape, p.kinds, p.numbers, q))
        pop = jax.tree.map(np.asarray, shape.population(q[: len(shape), 0]))
        eta = np.asarray(shape.factor(q[: len(shape), 0])) @ q[len(shape) :, 0].reshape(3, 3).T
    differences = (around[: len(q)] - around[len(q) :]) / 2e-5
    np.testing.assert_allclose(slope[:, 0], differences, rtol=1e-6, atol=1e-6 * np.abs(differences).max())
    joint = ensemble.joint_at(data, pop, data.in_subject_order(eta.T)[:, None]).sum()
    z = np.sum(q[len(shape) :, 0] ** 2)
    whole = joint - z - 3 * np.linalg.slogdet(pop.omega)[1]  # without the etas' own density
    assert value[0] == pytest.approx(prior[0] - 0.5 * whole - 0.5 * z, rel=1e-10)


def test_theophylline() -> None:
    """12 patients: means within 1 posterior SD of FOCEI's estimates, SDs near its standard errors."""
    subjects = boeckmann1994.subjects()
    data, shape = problem(theophylline.oral, subjects), layout(theophylline.oral, {})
    table = {r.name: r.value for r in theophylline.oral.parameters}
    x0 = shape.start(table, table, np.array(theophylline.oral.parameters.omega(), float))
    said: list[int] = []
    found = nuts.sample(data, shape, x0, seed=1, report=lambda i, v: said.append(i))
    for name, value, error in (("KA", 1.59, 0.32), ("CL", 2.75, 0.20), ("V", 31.8, 1.37), ("cp_additive", 0.694, 0.06)):
        assert abs(found.estimates[name] - value) < found.se[name]
        assert 0.7 * error < found.se[name] < 1.6 * error  # the posterior knows that OMEGA is uncertain
        assert found.rhat[name] < 1.02
        assert found.mcse[name] < 0.06 * found.se[name]
    assert found.draws.shape == (4, 500, len(shape))
    assert found.etas_draws.shape == (4, 500, 12, 3)
    np.testing.assert_allclose(found.individual, found.etas_draws.mean(axis=(0, 1)))
    assert said[-1] == 1000
    assert said == sorted(said)
    low, middle, high = found.quantiles()["CL"]
    assert low < middle < high
    assert found.to_dict()["estimates"]["CL"]["rhat"] == found.rhat["CL"]
    assert any(w.startswith("ln CL ~ normal") for w in found.priors)
    short = nuts.sample(data, shape, x0, seed=1, warmup=50, draws=20, priors={"V": Normal(10.0, 0.1)})
    assert not short.converged
    assert "effective draws" in short.message
    assert "posterior of V lies more than 2 SD" in short.message
    with pytest.raises(ConvergenceError, match="effective draws"):
        short.check()


# ---- subjects of a known population --------------------------------------------------------------------------------
def test_a_linear_gaussian_posterior() -> None:
    """Mean and covariance in closed form; a subject beside another has the same draws up to rounding; so has the same seed."""
    times, values = np.array([0.5, 1.0, 3.0, 6.0]), np.array([2.9, 2.2, 1.6, 0.4])
    one, other = observed(times, values, "one"), observed(times, values + 1.0, "other")
    found = nuts.individual(problem(line, [other, one]), population(), seed=3, draws=1000)
    mean, cov, _ = exact(times, values)
    near(found.draws[1], mean)
    near((found.draws[1] - mean) ** 2, np.diagonal(cov))
    near(np.prod(found.draws[1] - mean, axis=-1, keepdims=True), cov[0, 1])
    alone = nuts.individual(problem(line, [one]), population(), seed=3, draws=1000)
    np.testing.assert_allclose(alone.draws[0, :, :20], found.draws[1, :, :20], atol=1e-6)
    assert not found.doubts
    assert not np.allclose(nuts.individual(problem(line, [one]), population(), seed=4, draws=1000).draws, alone.draws)


def test_nuts_and_the_ensemble_agree() -> None:
    """Three theophylline patients, three samples each: means and standard deviations."""
    few = [Subject(s.id, s.schedule.take(s.schedule.time < 4.0)) for s in boeckmann1994.subjects()[:3]]
    data, own = problem(theophylline.oral, few), PopulationParameters.of(theophylline.oral)
    chains = nuts.individual(data, own, seed=1, draws=1000)
    weighted = ensemble.ensemble(data, own, draws=4000, seed=1)
    mean, cov = ensemble.moments(weighted.draws, weighted.weights)
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    error = np.hypot(chains.mcse, sd / np.sqrt(weighted.ess)[:, None])
    assert np.all(np.abs(chains.draws.mean(axis=(1, 2)) - mean) < LIMIT * error)
    seen = np.moveaxis(chains.draws, 0, 2)
    error = np.hypot(convergence.mcse_sd(seen), sd / np.sqrt(weighted.ess)[:, None])  # 1/√(2 ESS) for a normal
    assert np.all(np.abs(seen.std(axis=(0, 1)) - sd) < LIMIT * error)
