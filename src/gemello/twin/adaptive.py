"""Adaptive priors: the posterior of one period, widened by what parameters may have drifted since, is the prior of the next.

A subject's parameters then follow it through weeks in which it changes, as a fixed population prior with all data at once would
not let them. The prior is normal, N(m, C + drift · days · I) on the eta scale, with the moments m and C of the draws so far (an
extended Kalman filter's step, but with a weighted ensemble in place of its linearised update).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import UnsupportedError
from gemello.engine.lanes import map_blocks, precision
from gemello.engine.plan import Plan
from gemello.inference.ensemble import (
    DEGREES,
    LN_2PI,
    Ensemble,
    joint_at,
    moments,
    population_of,
    smooth_weights,
    t_points,
    uniform_points,
)
from gemello.inference.likelihood import Block, Population, Problem, problem
from gemello.inference.scores import effective_size
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin.posterior import Posterior
from gemello.twin.record import Record
from gemello.twin.regimens import day_of
from gemello.twin.weighting import Weighting

Floats = NDArray[np.float64]
STEP = 1e-3  # of the finite differences, in standard deviations of the prior
STRIDES = (1.0, 0.5, 0.2, 0.05, 0.01)  # of a Newton step that are tried
ITERATIONS = 30


class Normal(NamedTuple):
    """Prior of every subject: mean (subjects, etas) and root of the covariance (subjects, etas, etas), lower triangular."""

    mean: Floats
    root: Floats


def drifted(
    model: Model,
    parameters: PopulationParameters,
    records: Sequence[Record],
    old: Sequence[tuple[Record, Posterior]],
    how: Weighting,
    *,
    draws: int,
    seed: int,
) -> Ensemble:
    """Posterior of every record's new measurements, under the widened posterior of the old one.

    parameters: the population, which is the prior of a subject without measurements so far. Every record has a new measurement.
    """
    new = [Subject(r.id, _news(r, o)) for r, (o, _) in zip(records, old, strict=True)]
    ready = how.weigh(problem(model, new, values=parameters.theta), [s.schedule for s in new])
    start = _prior(model, parameters, new, old, how.drift or 0.0)
    pop = population_of(parameters, ready.prepared.occasions)
    inverse, logdet = np.linalg.inv(pop.omega), float(np.linalg.slogdet(pop.omega)[1])

    def data(x: Floats) -> Floats:  # −2 ln likelihood without constants
        return joint_at(ready, pop, x) - np.einsum("sdi,ij,sdj->sd", x, inverse, x) - logdet

    z, h = newton(data, start)
    points = t_points(uniform_points(seed, [s.id for s in new], draws, z.shape[1] + 1))
    return _sample(ready, pop, data, start, z, h, points)


def _news(record: Record, old: Record) -> Schedule:
    """All records, but only the measurements that came after `old`."""
    blank = [replace(p, schedule=p.schedule.without_values()) for p in record.pieces[: len(old.pieces)]]
    return replace(record, pieces=(*blank, *record.pieces[len(old.pieces) :])).schedule


def _prior(
    model: Model, parameters: PopulationParameters, new: Sequence[Subject], old: Sequence[tuple[Record, Posterior]], drift: float
) -> Normal:
    if parameters.occasion:
        raise UnsupportedError(
            f"model {model.name}: parameters that vary between occasions do not drift as well; leave drift out"
        )
    n, day = len(parameters.eta_names), day_of(model)
    means, roots = [], []
    for s, (record, belief) in zip(new, old, strict=True):
        mean, covariance = np.zeros(n), parameters.omega
        if belief.observations:
            m, c = moments(belief.draws[None], belief.weights[None])
            before, now = record.schedule, s.schedule
            since = float(np.max(before.time[before.measured]))
            until = float(np.max(now.time[now.measured], initial=since))
            mean, covariance = m[0], c[0] + drift * (until - since) / day * np.eye(n)
        means.append(mean)
        roots.append(np.linalg.cholesky(covariance + 1e-12 * np.trace(covariance) / max(n, 1) * np.eye(n)))
    return Normal(np.stack(means), np.stack(roots))


def at(start: Normal, z: Floats) -> Floats:
    """Etas (subjects, points, etas) at standard coordinates z of the prior."""
    return start.mean[:, None, :] + np.einsum("sij,sdj->sdi", start.root, z)


def newton(data: Callable[[Floats], Floats], start: Normal) -> tuple[Floats, Floats]:
    """Mode in standard coordinates of the prior (subjects, etas), and half the Hessian there (subjects, etas, etas).

    Newton's method on −2 ln posterior = data(x) + z'z, derivatives by central differences, all subjects at once.
    """
    count, n = start.mean.shape
    stencil = _stencil(n)
    fill = max(len(stencil) - len(STRIDES), 0)  # one shape for all calls, so that one program serves them
    z = np.zeros((count, n))

    def value(points: Floats) -> Floats:
        f = data(at(start, points)) + np.sum(points**2, axis=-1)
        return np.where(np.isfinite(f), f, np.inf)

    for _ in range(ITERATIONS):
        f = value(z[:, None, :] + STEP * stencil)
        gradient, h = _derivatives(f, n)
        low, vectors = np.linalg.eigh(h)
        step = -np.einsum("sij,sj,skj,sk->si", vectors, 1.0 / np.maximum(np.abs(low), 0.1), vectors, gradient)
        length = np.sqrt(np.sum(step**2, axis=1, keepdims=True))
        step *= np.minimum(1.0, 3.0 / np.maximum(length, 1e-300))
        tried = np.stack([z + s * step for s in (*STRIDES, *[0.0] * fill)], axis=1)
        g = value(tried)
        best = np.argmin(g, axis=1)
        better = g[np.arange(count), best] < f[:, 0]
        z = np.where(better[:, None], tried[np.arange(count), best], z)
        if bool(np.all(np.logical_not(better) | (length[:, 0] < 1e-6))):
            break
    low, vectors = np.linalg.eigh(_derivatives(value(z[:, None, :] + STEP * stencil), n)[1])
    return z, np.einsum("sij,sj,skj->sik", vectors, np.maximum(low, 0.1), vectors)


def _stencil(n: int) -> Floats:
    """0, then each axis forward and back, then each pair forward and back: (1 + 2n + n(n − 1), n)."""
    e = np.eye(n)
    pairs = [e[i] + e[j] for i in range(n) for j in range(i)]
    return np.stack([np.zeros(n), *e, *-e, *pairs, *(-p for p in pairs)])


def _derivatives(f: Floats, n: int) -> tuple[Floats, Floats]:
    """Half the gradient (subjects, etas) and half the Hessian, from values (subjects, points) on the stencil."""
    middle, up, down = f[:, :1], f[:, 1 : 1 + n], f[:, 1 + n : 1 + 2 * n]
    gradient = (up - down) / (4.0 * STEP)
    h = np.zeros((len(f), n, n))
    h[:, range(n), range(n)] = (up - 2.0 * middle + down) / (2.0 * STEP**2)
    k, count = 1 + 2 * n, n * (n - 1) // 2
    for q, (i, j) in enumerate((a, b) for a in range(n) for b in range(a)):
        cross = f[:, k + q] + f[:, k + count + q] + 2.0 * middle[:, 0] - up[:, i] - up[:, j] - down[:, i] - down[:, j]
        h[:, i, j] = h[:, j, i] = cross / (4.0 * STEP**2)
    bad = np.logical_not(np.isfinite(np.concatenate([gradient, h.reshape(len(f), -1)], axis=1))).any(axis=1)
    return np.where(bad[:, None], 0.0, gradient), np.where(bad[:, None, None], np.eye(n), h)


def _sample(
    ready: Problem, pop: Population, data: Callable[[Floats], Floats], start: Normal, z: Floats, h: Floats, points: Floats
) -> Ensemble:
    """Weighted draws around the modes, twice: from the Laplace approximation, then from the moments of the first."""
    n, nu = z.shape[1], DEGREES
    constant = math.lgamma(0.5 * (nu + n)) - math.lgamma(0.5 * nu) - 0.5 * n * math.log(nu * math.pi)

    def weigh(mean: Floats, scale: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        root = np.linalg.cholesky(scale)
        y = mean[:, None, :] + np.einsum("sij,sdj->sdi", root, points)
        density = constant - np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)[:, None]
        density = density - 0.5 * (nu + n) * np.log1p(np.sum(points**2, axis=-1) / nu)
        target = -0.5 * (data(at(start, y)) + np.sum(y**2, axis=-1) + LN_2PI * (ready.observations[:, None] + n))
        logw = np.where(np.isfinite(target), target - density, -np.inf)
        return y, logw, *smooth_weights(logw)

    first = weigh(z, np.asarray(np.linalg.inv(h), float))
    mean, scale = moments(first[0], first[2])
    again = weigh(mean, scale + 1e-9 * np.eye(n))
    better = effective_size(again[2]) > effective_size(first[2])
    y, logw, weights, khat = (np.where(better.reshape(-1, *(1,) * (a.ndim - 1)), b, a) for a, b in zip(first, again, strict=True))
    top = np.max(logw, axis=1)
    evidence = top + np.log(np.mean(np.exp(logw - top[:, None]), axis=1))
    mode = at(start, z[:, None, :])
    logdet = 2.0 * np.sum(np.log(np.diagonal(start.root, axis1=1, axis2=2)), axis=1)
    objective = data(mode)[:, 0] + np.sum(z**2, axis=1) + logdet
    covariance = np.einsum("sij,sjk,slk->sil", start.root, np.linalg.inv(h), start.root)
    with precision():
        eta = ready.cut(mode[:, 0].T)
        tree = ready.blocks._replace(tree=(ready.blocks.tree, eta.tree))
        misfit = map_blocks(_misfit(ready.model, ready.prepared.timeline.plan), pop, tree)
    surprise = np.asarray(ready.in_subject_order(misfit)) + np.sum(z**2, axis=1)
    return Ensemble(
        mode[:, 0], covariance, objective, at(start, y), weights, effective_size(weights), khat, evidence, ready.observations,
        surprise,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _misfit(model: Model, plan: Plan) -> Any:
    """Program: Σ (y − f)²/v (lanes,) at etas (etas, lanes)."""

    def run(pop: Population, blocks: Any) -> Any:
        tables, eta = blocks
        b = Block(model, plan, tables)
        return b.misfit(b.predict(pop, eta))

    return run
