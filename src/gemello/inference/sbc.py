"""Simulation-based calibration: is what a sampler says of its uncertainty true?

A truth is drawn from the prior, data from the truth, and the rank of the truth among draws of the posterior is counted. Over
many such replicates every rank is as likely as any other, if and only if the draws follow the posterior (Talts, Betancourt,
Simpson, Vehtari & Gelman 2018, arXiv:1804.06788). Uniformity is tested twice for each quantity, by χ² on binned ranks and by
the largest departure of the empirical distribution, pointwise binomial, with its simultaneous null distribution simulated
(Säilynoja, Bürkner & Vehtari 2022, Statistics and Computing 32:32); Bonferroni's correction over all of them. The log
density is one of the quantities: it sees a sampler that forgot the data, which parameters alone do not (Modrák et al. 2023,
Bayesian Analysis).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chisquare

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.engine.lanes import default_block, precision
from gemello.engine.solve import LINEAR
from gemello.inference import bayes, convergence
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import Problem, problem
from gemello.inference.nuts import Report, Shape, lane_keys, log_densities, naturals, run_chains
from gemello.model.contract import Model
from gemello.model.individuals import measurement
from gemello.model.schedule import OBSERVATION, Subject
from gemello.model.simulate import simulate

NULL = 9999  # simulated sets of uniform ranks

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]


# ---- uniformity ----------------------------------------------------------------------------------------------------
def chi_squared(ranks: Ranks, draws: int, bins: int = 10) -> float:
    """p of ranks (replicates,) from 0 to `draws` being uniform, by χ² on equal bins. Raises DataError where bins are not
    equal."""
    if (draws + 1) % bins:
        raise DataError("bins of unequal size", column="bins", value=bins, remedy=f"give a divisor of {draws + 1}")
    counts = np.bincount(ranks * bins // (draws + 1), minlength=bins)
    return float(chisquare(counts).pvalue)


def _departure(counts: Any, replicates: int, draws: int) -> Any:
    """Smallest pointwise two-sided p of cumulative counts (..., draws) of ranks ≤ 0 ... draws − 1."""
    share = np.arange(1, draws + 1) / (draws + 1)
    at_most, below = binom.cdf(counts, replicates, share), binom.cdf(counts - 1, replicates, share)
    return np.min(np.minimum(1.0, 2.0 * np.minimum(at_most, 1.0 - below)), axis=-1)


@lru_cache(maxsize=16)
def _null(replicates: int, draws: int) -> Floats:
    ranks = generator(0, "uniform ranks", replicates, draws).integers(0, draws + 1, (NULL, replicates))
    counts = np.stack([(ranks <= r).sum(axis=1) for r in range(draws)], axis=1)
    return np.sort(_departure(counts, replicates, draws))


def distribution(ranks: Ranks, draws: int) -> float:
    """p of ranks (replicates,) being uniform, by the largest departure of their distribution function; at least 1/10,000."""
    counts = np.array([(ranks <= r).sum() for r in range(draws)])
    here = float(_departure(counts, len(ranks), draws))
    return float((1 + np.searchsorted(_null(len(ranks), draws), here * (1 + 1e-12), side="right")) / (NULL + 1))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks (replicates, names) of the truth among `draws` draws, and p by name: (χ², distribution function). ess: smallest
    effective number of draws of each replicate, of all that were thinned to `draws`."""

    names: tuple[str, ...]
    ranks: Ranks
    draws: int
    p: dict[str, tuple[float, float]]
    ess: Floats
    diverged: float = 0.0  # share of transitions

    @property
    def smallest(self) -> float:
        """Smallest p after Bonferroni's correction for all tests."""
        return min(1.0, min(min(v) for v in self.p.values()) * 2 * len(self.p))

    @property
    def worst(self) -> str:
        """The quantity whose p is smallest."""
        return min(self.p, key=lambda n: min(self.p[n]))


def calibration(names: Sequence[str], ranks: Ranks, draws: int, ess: Floats, diverged: float = 0.0) -> Calibration:
    """Tests of ranks (replicates, names)."""
    p = {n: (chi_squared(r, draws), distribution(r, draws)) for n, r in zip(names, ranks.T, strict=True)}
    return Calibration(tuple(names), ranks, draws, p, ess, diverged)


def thin(draws: Floats, count: int) -> Floats:
    """(count, ...) evenly spaced draws of (chains, draws, ...), the same number from each chain up to one."""
    chains, n = draws.shape[:2]
    flat = draws.reshape(chains * n, *draws.shape[2:])
    return flat[np.linspace(0, chains * n, count, endpoint=False).astype(int)]


def weighted_ranks(draws: Floats, weights: Floats, truth: Floats, count: int, rng: np.random.Generator) -> Ranks:
    """(subjects, quantities) ranks of truth (subjects, quantities) among `count` of draws (subjects, draws, quantities),
    taken with their weights (subjects, draws)."""
    edges = np.cumsum(weights, axis=1)
    at = [np.minimum(np.searchsorted(e / e[-1], rng.random(count), side="right"), len(e) - 1) for e in edges]
    taken = np.take_along_axis(draws, np.stack(at)[:, :, None], axis=1)
    return np.asarray((taken < truth[:, None, :]).sum(axis=1))


# ---- a population fit ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Replicates:
    """Truths and data of many replicates of one design. positions (replicates, dimension); y (records, lanes, replicates)."""

    data: Problem
    shape: Shape
    positions: Floats
    y: Floats


@dataclass(frozen=True, eq=False)
class Sampled:
    """Truths (replicates, names) and draws of their posteriors (replicates, chains, draws, names); diverged: share of
    transitions."""

    names: tuple[str, ...]
    truth: Floats
    draws: Floats
    diverged: float

    def calibration(self, ranks: int = 29) -> Calibration:
        """Tests of the ranks of the truths among `ranks` draws of each replicate; one more must be a multiple of 10."""
        ess = convergence.ess_bulk(np.moveaxis(self.draws, 0, 2)).min(axis=-1)
        place = np.stack([(thin(d, ranks) < t).sum(axis=0) for d, t in zip(self.draws, self.truth, strict=True)])
        return calibration(self.names, place, ranks, ess, self.diverged)


def replicates(data: Problem, shape: Layout, believed: bayes.Priors, count: int, seed: int) -> Replicates:
    """Parameters from the prior, etas from their OMEGA, values at the observations of `data` with their residual error."""
    rng, model, design = generator(seed, "replicates"), data.model, data.subjects
    order, lanes = data.prepared.timeline.order, len(design)
    size = Shape(len(shape), lanes, data.etas)
    x = bayes.prior_draws(believed, count, rng)
    q = np.concatenate([x, rng.standard_normal((count, lanes * data.etas))], axis=1)
    _, etas = naturals(shape, q, size, order)
    with precision():
        pop = jax.tree.map(np.asarray, jax.jit(jax.vmap(shape.population))(x))
    each = lambda v: np.repeat(v, lanes)  # noqa: E731
    many = [Subject(f"{k}", s.schedule.without_values()) for k, s in enumerate(design * count)]
    found = simulate(model, many, {n: each(v) for n, v in pop.theta.items()}, etas=etas.reshape(len(many), -1)).check()
    sigma = {n: each(v)[:, None] for n, v in pop.sigma.items()}
    y = np.zeros((data.prepared.timeline.records.shape[0], lanes, count))
    noise = rng.standard_normal(found.time.shape)
    for k, o in enumerate(model.outputs):
        if o.residual is None:
            continue
        values = measurement(model, k, found.outputs[o.name], sigma, noise).reshape(count, lanes, -1)
        for lane, i in enumerate(order):
            s = design[i].schedule
            at = np.flatnonzero(s.measured & (s.output == k))
            y[at, lane] = values[:, i, at].T
    return Replicates(data, size, q, y)


def sample_replicates(
    model: Model, design: Sequence[Subject], *, priors: Mapping[str, Any], believed: Mapping[str, Any] | None = None,
    values: Mapping[str, float] | None = None, estimate: Sequence[str] | None = None, omega: str | None = None, count: int = 200,
    chains: int = 2, warmup: int = 150, draws: int = 200, seed: int = 0, report: Report | None = None,
) -> Sampled:  # fmt: skip
    """Posteriors by `nuts` of `count` replicates of a design: subjects with doses and observations, whose values are not used.

    priors: as in `bayes.priors`. believed: to see what these tests detect, other priors of the same families for the
    sampler. values, estimate, omega: as in `layout`. All chains of all replicates are lanes of one program.
    """
    shape = layout(model, values or {}, estimate=estimate, omega=omega)
    marked = [
        Subject(s.id, replace(s.schedule, value=np.where(s.schedule.evid == OBSERVATION, 1.0, np.nan))) for s in design
    ]  # a value in every observation, in the place of those to be simulated
    data = problem(model, marked, values=values)
    made = replicates(data, shape, bayes.priors(data, shape, priors), count, seed)
    sampled = bayes.priors(data, shape, priors if believed is None else believed)
    plan, groups = data.prepared.timeline.plan, made.shape.groups
    with precision():
        density = bayes.population_density(model, plan, shape, sampled.kinds)
        target = {"data": bayes.lanes_of(data), "priors": sampled.numbers}
    rng = generator(seed, "start")
    start = np.repeat(bayes.prior_draws(sampled, count, rng), chains, axis=0)

    def again(attempt: int) -> Floats:
        z = rng.standard_normal((count * chains, groups * made.shape.z)) * 0.25**attempt
        return np.concatenate([start, z], axis=1)

    block = max(1, default_block(count * chains * groups, plan.method not in LINEAR) // groups)
    found = run_chains(
        density, target, {"y": np.repeat(made.y, chains, axis=-1)}, again, made.shape,
        lane_keys(seed, [(r, c) for r in range(count) for c in range(chains)]),
        together=chains, block=block, warmup=warmup, draws=draws, report=report,
    )  # fmt: skip
    of_truth = log_densities(density, target, {"y": made.y}, made.positions, made.shape, block)
    truth = _quantities(made, shape, made.positions, of_truth)
    seen = _quantities(made, shape, found.q, found.logp).reshape(count, chains, draws, -1)
    first = tuple(f"eta {n} of subject {design[0].id}" for n in shape.etas)
    return Sampled((*shape.names, *first, "log density"), truth, seen, float(found.diverged.mean()))


def _quantities(made: Replicates, shape: Layout, q: Floats, logp: Floats) -> Floats:
    """Natural values, the first subject's etas and the log density (..., quantities)."""
    natural, etas = naturals(shape, q, made.shape, made.data.prepared.timeline.order)
    return np.concatenate([natural, etas[..., 0, : len(shape.etas)], logp[..., None]], axis=-1)
