"""A weighted ensemble of each subject's etas: importance sampling from a heavy-tailed Laplace approximation.

Proposal: multivariate t at the mode with the Laplace covariance as its scale, heavier in the tail than the posterior, so that
weights stay bounded where the posterior is near normal. Points are Sobol's, shifted at random for each subject (Cranley &
Patterson 1976), so that a subject's draws do not depend on who else is in the batch. Weights are Pareto-smoothed, and their
tail index k̂ says whether they can be trusted (Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25(72)). Subjects whose
effective size stays low get a second and third proposal from the weighted moments of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri
from scipy.stats import qmc

from gemello.base.errors import DataError, SolverError
from gemello.base.random import generator
from gemello.engine.lanes import default_block, map_blocks, precision
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR
from gemello.inference.laplace import Modes, modes
from gemello.inference.likelihood import Block, Population, Problem, joint_objective, prior
from gemello.inference.scores import effective_size
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters

DEGREES = 5.0  # of freedom of the proposal
ENOUGH = 0.3  # share of the draws below which the effective size calls for another proposal
KHAT_LIMIT = 0.7  # above it importance weights cannot be trusted (Vehtari et al. 2024, section 3)
LN_2PI = math.log(2.0 * math.pi)

Floats = NDArray[np.float64]


def khat_limit(draws: int) -> float:
    """Tail index above which weights of so many draws cannot be trusted (Vehtari et al. 2024, section 3.2.4)."""
    return min(KHAT_LIMIT, 1.0 - 1.0 / math.log10(max(draws, 11)))


class Ensemble(NamedTuple):
    """Posterior of every subject, first axis subjects.

    mode (etas,) and covariance (etas, etas): Laplace. objective: joint at the mode. draws (draws, etas), weights (draws,)
    summing to 1. ess: effective number of draws. khat: tail index of the weights (−inf: no tail, as for a prior). evidence:
    ln p(data), 0 without data. observations: number of measured values. misfit: how far the data lie from what the population
    expects (see `laplace.Modes`).
    """

    mode: Floats
    covariance: Floats
    objective: Floats
    draws: Floats
    weights: Floats
    ess: Floats
    khat: Floats
    evidence: Floats
    observations: NDArray[np.int64]
    misfit: Floats


def population_of(parameters: PopulationParameters, occasions: int = 0) -> Population:
    """The same numbers as programs take them, for subjects with so many occasions."""
    theta = {n: np.float64(v) for n, v in parameters.theta.items()}
    sigma = {n: np.float64(v) for n, v in parameters.sigma.items()}
    return Population(theta, parameters.covariance_of_etas(occasions), sigma)


# ---- points --------------------------------------------------------------------------------------------------------
def uniform_points(seed: int, names: Sequence[str], draws: int, dimension: int) -> Floats:
    """(names, draws, dimension) quasi-random points inside the unit cube; each name has its own shift of one Sobol set."""
    base = qmc.Sobol(dimension, scramble=True, rng=generator(seed, "sobol")).random_base2(max(draws - 1, 1).bit_length())[:draws]
    shift = np.stack([generator(seed, "shift", n).random(dimension) for n in names])
    return np.asarray(np.clip((base + shift[:, None, :]) % 1.0, 2.0**-53, 1.0 - 2.0**-53))


def prior_draws(seed: int, names: Sequence[str], draws: int, omega: Floats) -> Floats:
    """(names, draws, etas) equally weighted draws from N(0, OMEGA)."""
    n = len(omega)
    if n == 0:
        return np.zeros((len(names), draws, 0))
    return np.asarray(ndtri(uniform_points(seed, names, draws, n + 1)[..., :n]) @ np.linalg.cholesky(omega).T)


def t_points(points: Floats) -> Floats:
    """Standard multivariate t draws (subjects, draws, etas) from uniform points (subjects, draws, etas + 1)."""
    g = chdtri(DEGREES, 1.0 - points[..., -1:]) / DEGREES  # quantile of χ²/ν
    return np.asarray(ndtri(points[..., :-1]) / np.sqrt(g))


def _propose(z: Floats, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Draws (subjects, draws, etas) of the proposal from standard ones z, and their log density (subjects, draws)."""
    n, nu = mean.shape[1], DEGREES
    root = np.linalg.cholesky(scale)
    x = mean[:, None, :] + np.einsum("sij,sdj->sdi", root, z)
    constant = math.lgamma(0.5 * (nu + n)) - math.lgamma(0.5 * nu) - 0.5 * n * math.log(nu * math.pi)
    logdet = np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)
    return x, constant - logdet[:, None] - 0.5 * (nu + n) * np.log1p(np.sum(z**2, axis=-1) / nu)


# ---- joint density -------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _program(model: Model, plan: Plan, chunk: int) -> Any:
    """Joint objective (lanes, draws) at etas (draws, etas, lanes); `chunk` draws of each lane are solved side by side."""

    def run(pop: Population, blocks: Any) -> Any:
        data, etas = blocks
        n, lanes = etas.shape[1:]
        block = Block(model, plan, jax.tree.map(lambda v: jnp.tile(v, (1,) * (v.ndim - 1) + (chunk,)), data))
        w = prior(pop.omega)

        def some(e: Any) -> Any:
            eta = jnp.moveaxis(e, 1, 0).reshape(n, chunk * lanes)
            return joint_objective(block, block.predict(pop, eta), eta, w).reshape(chunk, lanes)

        return jax.lax.map(some, etas.reshape(-1, chunk, n, lanes)).reshape(-1, lanes).T

    return run


def side_by_side(block: int, draws: int, plan: Plan) -> int:
    """How many draws of each of `block` lanes to solve at once, so that a step fills the machine as a block of lanes does."""
    return max(1, min(default_block(1_000_000, plan.method not in LINEAR) // block, draws))


def pad_draws(draws: NDArray[Any], chunk: int) -> NDArray[Any]:
    """(subjects, draws, ...) with the last draw repeated up to a whole number of chunks."""
    extra = -draws.shape[1] % chunk
    return np.concatenate([draws, np.repeat(draws[:, -1:], extra, axis=1)], axis=1) if extra else draws


def joint_at(problem: Problem, pop: Population, draws: Floats) -> Floats:
    """Joint objective (subjects, draws) at etas (subjects, draws, etas)."""
    plan, block = problem.prepared.timeline.plan, problem.blocks.block
    chunk = side_by_side(block, draws.shape[1], plan)
    with precision():
        cut = problem.cut(np.moveaxis(pad_draws(draws, chunk), 0, -1))
        tree = problem.blocks._replace(tree=(problem.blocks.tree, cut.tree))
        out = map_blocks(_program(problem.model, plan, chunk), pop, tree)
        return np.asarray(problem.in_subject_order(out), float)[:, : draws.shape[1]]


# ---- weights -------------------------------------------------------------------------------------------------------
def smooth_weights(logw: Floats) -> tuple[Floats, Floats]:
    """Pareto-smoothed normalised weights (subjects, draws) and k̂ (subjects,) from log ratios (subjects, draws).

    The largest min(0.2 S, 3 √S) ratios are replaced by expected order statistics of a generalised Pareto distribution fitted
    to them, cut at the largest raw one (Vehtari et al. 2024, algorithm 1).
    """
    logw = np.where(np.isnan(logw), -np.inf, logw)
    top = np.max(logw, axis=1, keepdims=True)
    out = np.exp(logw - np.where(np.isfinite(top), top, 0.0))
    n = out.shape[1]
    tail = int(min(0.2 * n, 3.0 * math.sqrt(n)))
    khat = np.full(len(out), -np.inf)
    if tail >= 5:
        order = np.argsort(out, axis=1, kind="stable")
        index = order[:, -tail:]
        cutoff = np.take_along_axis(out, order[:, -tail - 1 : -tail], axis=1)
        excess = np.take_along_axis(out, index, axis=1) - cutoff
        fits = excess[:, tail // 4] > 1e-12  # else the weights are equal, or hardly any draw has one
        k, sigma = fit_generalised_pareto(excess[fits])
        p = (np.arange(tail) + 0.5) / tail
        safe = np.where(np.abs(k) < 1e-10, 1e-10, k)[:, None]
        smooth = cutoff[fits] + sigma[:, None] * np.expm1(-safe * np.log1p(-p)) / safe
        rows = np.flatnonzero(fits)
        out[rows[:, None], index[fits]] = np.minimum(smooth, 1.0)
        khat[fits] = k
        khat[~fits & (excess[:, -1] > 1e-12)] = np.inf
    total = np.sum(out, axis=1, keepdims=True)
    return out / np.where(total > 0, total, 1.0), np.where(total[:, 0] > 0, khat, np.inf)


def fit_generalised_pareto(x: Floats) -> tuple[Floats, Floats]:
    """Shape k and scale σ (rows,) for excesses x (rows, n) sorted upwards, with a heavy tail for k > 0.

    Posterior mean over a grid of b = −k/σ (Zhang & Stephens 2009, Technometrics 51:316); k is drawn weakly towards ½ as by
    ten more observations (Vehtari et al. 2024, appendix C).
    """
    n = x.shape[1]
    grid = 30 + int(math.sqrt(n))
    j = np.arange(1, grid + 1)
    quartile = x[:, int(n / 4 + 0.5) - 1]
    quartile = np.maximum(quartile, 1e-12 * x[:, -1])
    b = 1.0 / x[:, -1:] + (1.0 - np.sqrt(grid / (j - 0.5))) / (3.0 * quartile[:, None])
    k = np.stack([np.mean(np.log1p(-b[:, [i]] * x), axis=1) for i in range(grid)], axis=1)
    profile = n * (np.log(-b / k) - k - 1.0)
    weight = np.exp(profile - np.max(profile, axis=1, keepdims=True))
    best = np.sum(b * weight, axis=1) / np.sum(weight, axis=1)
    shape = np.mean(np.log1p(-best[:, None] * x), axis=1)
    return (n * shape + 5.0) / (n + 10.0), -shape / best


def moments(draws: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean (subjects, etas) and covariance (subjects, etas, etas)."""
    mean = np.einsum("sd,sdi->si", weights, draws)
    centred = draws - mean[:, None, :]
    return mean, np.einsum("sd,sdi,sdj->sij", weights, centred, centred)


# ---- the ensemble --------------------------------------------------------------------------------------------------
def ensemble(
    problem: Problem,
    parameters: PopulationParameters,
    *,
    draws: int = 2000,
    seed: int = 0,
    start: Floats | None = None,
    rounds: int = 3,
) -> Ensemble:
    """Posterior ensemble of every subject of `problem`.

    draws: number for each subject. seed: the same seed gives the same bits, whoever else is in the problem up to rounding.
    start: (subjects, etas) where to begin the search for modes. rounds: proposals at most. A subject without data has the
    prior: mode 0, covariance OMEGA, equally weighted draws. Raises DataError, ModelError.
    """
    if draws < 10:
        raise DataError("too few draws", column="draws", value=draws, remedy="give 10 or more")
    parameters.check(problem.model)
    pop, names = population_of(parameters, problem.prepared.occasions), [s.id for s in problem.subjects]
    n, count = problem.etas, len(names)
    if n == 0 or not problem.informed.any():
        return _prior_ensemble(problem, pop, draws, seed)
    m = modes(problem, pop, start)
    _check_modes(problem, m)
    points = t_points(uniform_points(seed, names, draws, n + 1))
    x, logw, weights, khat = _weigh(problem, pop, points, m.eta, m.covariance)
    ess = effective_size(weights)
    for widen in 3.0 ** np.arange(rounds - 1):  # moments of a poor sample are too narrow, so the last rounds widen them
        poor = (~(ess >= ENOUGH * draws) | (khat > KHAT_LIMIT)) & problem.informed
        if not poor.any():
            break
        mean, scale = moments(x, weights)
        trusted = ess > 10 * (n + 1)
        mean = np.where(trusted[:, None], mean, m.eta)
        scale = widen * (np.where(trusted[:, None, None], scale, 4.0 * m.covariance) + 1e-9 * m.covariance)
        again = _weigh(problem, pop, points, mean, scale)
        cured = (khat > KHAT_LIMIT) & (again[3] <= KHAT_LIMIT)
        better = poor & (cured | ((effective_size(again[2]) > ess) & (again[3] <= np.maximum(khat, KHAT_LIMIT))))
        x, logw, weights, khat = (
            np.where(better.reshape(count, *(1,) * (a.ndim - 1)), b, a)
            for a, b in zip((x, logw, weights, khat), again, strict=True)
        )
        ess = effective_size(weights)
    _check_weights(problem, ess)
    top = np.max(logw, axis=1)
    evidence = top + np.log(np.mean(np.exp(logw - top[:, None]), axis=1))
    out = Ensemble(m.eta, m.covariance, m.objective, x, weights, ess, khat, evidence, problem.observations, m.misfit)
    blank = ~problem.informed
    return _replace(out, _prior_ensemble(problem, pop, draws, seed), blank) if blank.any() else out


def _weigh(
    problem: Problem, pop: Population, points: Floats, mean: Floats, scale: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    x, logq = _propose(points, mean, scale)
    objective = joint_at(problem, pop, x)
    constant = 0.5 * LN_2PI * (problem.observations[:, None] + mean.shape[1])
    logw = -0.5 * objective - constant - logq
    logw = np.where(np.isfinite(logw), logw, -np.inf)  # a draw that cannot be solved has no weight
    weights, khat = smooth_weights(logw)
    return x, logw, weights, khat


def _check_modes(problem: Problem, m: Modes) -> None:
    finite = np.isfinite(m.objective) & np.all(np.isfinite(m.covariance), axis=(1, 2))
    bad = ~finite | (np.linalg.eigvalsh(np.where(finite[:, None, None], m.covariance, 0.0))[:, 0] <= 0)
    if bad.any():
        who = problem.subjects[int(np.argmax(bad))].id
        raise DataError(
            f"subject {who}: its data have no finite likelihood at any individual parameters tried",
            remedy=f"look at this subject's values and doses, and at the residual error of {problem.model.name}",
        )


def _check_weights(problem: Problem, ess: Floats) -> None:
    if not np.all(ess > 0):
        who = problem.subjects[int(np.argmin(ess > 0))].id
        raise SolverError(
            f"model {problem.model.name}, subject {who}: no draw around the mode could be solved; look at its schedule"
        )


def _prior_ensemble(problem: Problem, pop: Population, draws: int, seed: int) -> Ensemble:
    """Every subject as if without data; of a model without etas, the evidence is that of its only parameters."""
    names, n, omega = [s.id for s in problem.subjects], problem.etas, np.asarray(pop.omega)
    count = len(names)
    objective = np.full(count, np.linalg.slogdet(omega)[1] if n else 0.0)
    evidence = np.zeros(count)
    if n == 0 and problem.informed.any():
        objective = joint_at(problem, pop, np.zeros((count, 1, 0)))[:, 0]
        evidence = -0.5 * (objective + LN_2PI * problem.observations)
    return Ensemble(
        np.zeros((count, n)), np.broadcast_to(omega, (count, n, n)).copy(), objective,
        prior_draws(seed, names, draws, omega), np.full((count, draws), 1.0 / draws), np.full(count, float(draws)),
        np.full(count, -np.inf), evidence, problem.observations, np.zeros(count),
    )  # fmt: skip


def _replace(a: Ensemble, b: Ensemble, where: NDArray[np.bool_]) -> Ensemble:
    return Ensemble(*(np.where(where.reshape(-1, *(1,) * (x.ndim - 1)), y, x) for x, y in zip(a, b, strict=True)))
