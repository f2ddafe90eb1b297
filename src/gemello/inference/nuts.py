"""Full Bayes by the no-U-turn sampler: a population and all its subjects (`sample`), or subjects of a known population
(`individual`).

All chains of all posteriors are lanes of one program. Warm-up: dual averaging of the step size, and a metric from the draws
of all chains of a posterior: dense for the population's coordinates x; each subject's z follows x by regression, with a
dense covariance of what is left. In data that tell subjects well, z moves with x so closely that a diagonal metric needs
trees several times deeper (design/nuts.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ConvergenceError, DataError, ModelError
from gemello.base.provenance import Provenance
from gemello.base.random import generator
from gemello.engine.lanes import cut, default_block, map_blocks, precision
from gemello.engine.solve import LINEAR
from gemello.inference import convergence
from gemello.inference.bayes import Normal, Priors, individual_density, lanes_of, population_density, priors
from gemello.inference.ensemble import population_of
from gemello.inference.hamiltonian import Metric, first_step, program
from gemello.inference.laplace import modes
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Problem
from gemello.model.population import PopulationParameters

ACCEPT = 0.8  # wanted acceptance (Hoffman & Gelman 2014, section 4.2)
DEEPEST = 10  # doublings of a trajectory
CHUNK = 50  # transitions between reports
WINDOWS = (0.1, 0.2, 0.45, 0.9, 1.0)  # of the warm-up: the metric is made anew at the end of each but the last
JITTER = 0.3  # standard deviation of the chains' first x around x0
RHAT, ESS = 1.01, 400.0  # limits of Vehtari et al. 2021

Floats = NDArray[np.float64]
Report = Callable[[int, float], None]


# ---- chains --------------------------------------------------------------------------------------------------------
class Shape(NamedTuple):
    """Of a position: number of x, of groups of z, and of z in a group."""

    x: int
    groups: int
    z: int

    @property
    def size(self) -> int:
        return self.x + self.groups * self.z


class Chains(NamedTuple):
    """Draws after warm-up of all chains: q (chains, draws, dimension), the rest (chains, draws); step (chains,); leapfrog
    steps in all, those of warm-up included, (chains,)."""

    q: Floats
    logp: Floats
    accepted: Floats
    steps: NDArray[np.int64]
    depth: NDArray[np.int64]
    diverged: NDArray[np.bool_]
    step: Floats
    leapfrogs: NDArray[np.int64]


def start_metric(shape: Shape, chains: int, scale: float = 0.1) -> Metric:
    """x of this scale, z of unit scale, nothing follows anything."""
    lanes = lambda v: np.repeat(v[..., None], chains, axis=-1)  # noqa: E731
    own = np.broadcast_to(np.eye(shape.z), (shape.groups, shape.z, shape.z))
    return Metric(lanes(scale * np.eye(shape.x)), np.zeros((shape.groups, shape.z, shape.x, chains)), lanes(own))


def estimated_metric(q: Floats, shape: Shape, together: int) -> Metric:
    """From draws (chains, draws, dimension), pooled over each `together` chains. Covariances are drawn towards their
    diagonal, and the regression of z on x towards 0, as by as many draws as a tenth of these chains' would be worth."""
    chains, draws, _ = q.shape
    pooled = q.reshape(chains // together, together * draws, -1)
    pooled = pooled - pooled.mean(axis=1, keepdims=True)
    n = pooled.shape[1]
    x, z = pooled[..., : shape.x], pooled[..., shape.x :].reshape(len(pooled), n, shape.groups, shape.z)
    weight = n / (n + 20.0 * max(shape.x, 1))
    cov = np.einsum("rdi,rdj->rij", x, x) / n
    root = _shrunk_root(cov, weight)
    cross = np.einsum("rdsi,rdj->rsij", z, x) / n
    follow = np.einsum("rsij,rjk->rsik", cross, np.linalg.inv(cov + (1.0 / weight - 1.0) * _diagonal(cov))) if shape.x else cross
    left = z - np.einsum("rsij,rdj->rdsi", follow, x)
    own = _shrunk_root(np.einsum("rdsi,rdsj->rsij", left, left) / n, n / (n + 20.0 * max(shape.z, 1)))
    lanes = lambda v: np.repeat(np.moveaxis(v, 0, -1), together, axis=-1)  # noqa: E731
    return Metric(lanes(root), lanes(follow), lanes(own))


def _diagonal(c: Floats) -> Floats:
    return np.asarray(c * np.eye(c.shape[-1]))


def _shrunk_root(c: Floats, weight: float) -> Floats:
    floor = 1e-8 * np.eye(c.shape[-1])
    return np.asarray(np.linalg.cholesky(weight * c + (1.0 - weight) * _diagonal(c) + floor)) if c.shape[-1] else c


class _Sampler:
    """All chains of a density; runs them chunk by chunk."""

    def __init__(
        self, density: Any, target: Any, own: Any, q: Floats, shape: Shape, keys: NDArray[np.uint32], block: int
    ) -> None:
        self.density, self.target, self.own, self.q, self.shape, self.keys, self.block = (
            density,
            target,
            own,
            q,
            shape,
            keys,
            block,
        )
        self.step = jax.tree.map(np.asarray, first_step(np.full(len(q), 0.1)))
        self.chunks, self.leapfrogs = 0, np.zeros(len(q), np.int64)

    def run(self, count: int, metric: Metric, tune: bool) -> tuple[Any, Floats]:
        """At most CHUNK transitions; the draws, and the log densities at the start."""
        key = self.keys + np.uint32(self.chunks)
        lanes = {"own": self.own, "q": self.q.T, "key": key, "metric": metric, "step": self.step}
        shared = {"target": self.target, "count": np.int32(count), "tune": np.bool_(tune), "accept": np.float64(ACCEPT)}
        out, step, first = map_blocks(program(self.density, CHUNK, DEEPEST), shared, cut(lanes, len(self.q), self.block))
        if count:
            out = jax.tree.map(lambda v: v[:, :count], out)
            self.step, self.q, self.chunks = step, out.q[:, -1], self.chunks + 1
            self.leapfrogs += out.steps.sum(axis=1)
        return out, first

    def settle(self, metric: Metric, again: Callable[[int], Floats]) -> None:
        """Starting points of finite density: `again(attempt)` gives others."""
        for attempt in range(6):
            _, logp = self.run(0, metric, False)
            bad = ~np.isfinite(logp)
            if not bad.any():
                return
            self.q = np.where(bad[:, None], again(attempt + 1), self.q)
        raise DataError(
            f"the posterior density is not finite at the start of {bad.sum()} of {len(bad)} chains", column="start",
            remedy="give start values with predictions nearer to the data (no proportional error is possible at 0)",
        )  # fmt: skip


def run_chains(
    density: Any, target: Any, own: Any, again: Callable[[int], Floats], shape: Shape, keys: NDArray[np.uint32], *,
    together: int, block: int, warmup: int, draws: int, metric: Metric | None = None, report: Report | None = None,
) -> Chains:  # fmt: skip
    """Chains of any density (`hamiltonian.Density`), in lanes.

    again(attempt): (chains, dimension) starting points, the more careful the higher the attempt. keys: (2, chains), where to
    begin in JAX's random numbers. together: how many neighbouring chains share a posterior, and so a metric. block: chains
    that share a loop.
    """
    with precision():
        first = again(0)
        s = _Sampler(density, target, own, first, shape, keys, block)
        now = metric or start_metric(shape, len(first))
        s.settle(now, again)
        done, ends = 0, [round(f * warmup) for f in WINDOWS]
        kept: list[Any] = []

        def go(until: int, tune: bool) -> None:
            nonlocal done
            while done < until:
                out, _ = s.run(min(CHUNK, until - done), now, tune)
                kept.append(out)
                done += out.q.shape[1]
                if report:
                    report(done, float(-2.0 * np.mean(out.logp[:, -1])))

        for k, end in enumerate(ends):
            go(end, True)
            if k + 1 < len(ends) and kept:
                now = estimated_metric(np.concatenate([o.q for o in kept], axis=1), shape, together)
                s.step = jax.tree.map(np.asarray, first_step(np.full(len(first), 0.3)))
            kept.clear()
        go(warmup + draws, False)
    w = jax.tree.map(lambda *v: np.concatenate(v, axis=1), *kept)
    return Chains(w.q, w.logp, w.accepted, w.steps, w.depth, w.diverged, np.exp(s.step.mean), s.leapfrogs)


def log_densities(density: Any, target: Any, own: Any, q: Floats, shape: Shape, block: int) -> Floats:
    """(chains,) log densities at q (chains, dimension); `own` as in `run_chains`."""
    with precision():
        s = _Sampler(density, target, own, q, shape, np.zeros((2, len(q)), np.uint32), block)
        return np.asarray(s.run(0, start_metric(shape, len(q)), False)[1])


def lane_keys(seed: int, names: list[tuple[str | int, ...]]) -> NDArray[np.uint32]:
    """(2, names) where each named chain begins in JAX's random numbers, whoever else there is."""
    return np.stack([generator(seed, "nuts", *n).integers(0, 2**32, 2, dtype=np.uint32) for n in names], axis=1)


# ---- populations ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class BayesResult:
    """Posterior of a population and its subjects. theta, omega, sigma, estimates: posterior means; se: posterior standard
    deviations.

    draws: (chains, draws, names) of `names`. coordinates: the same draws as the layout's x. etas_draws: (chains, draws,
    subjects, etas). individual: their means, (subjects, etas). rhat, ess_bulk, ess_tail, mcse: by name, of `draws` (mcse of
    the mean). accepted, depth, diverged: (chains, draws). step: (chains,). leapfrogs: of all chains, warm-up included.
    priors: in words.
    """

    model: str
    names: tuple[str, ...]
    etas: tuple[str, ...]
    theta: dict[str, float]
    omega: Floats
    sigma: dict[str, float]
    estimates: dict[str, float]
    se: dict[str, float]
    covariance: Floats
    draws: Floats
    coordinates: Floats
    etas_draws: Floats
    ids: tuple[str, ...]
    individual: Floats
    logp: Floats
    accepted: Floats
    depth: NDArray[np.int64]
    diverged: NDArray[np.bool_]
    step: Floats
    leapfrogs: int
    rhat: dict[str, float]
    ess_bulk: dict[str, float]
    ess_tail: dict[str, float]
    mcse: dict[str, float]
    priors: tuple[str, ...]
    doubts: tuple[str, ...]
    observations: int
    warmup: int
    seed: int
    method: str = "bayes"
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether there is no doubt."""
        return not self.doubts

    @property
    def message(self) -> str:
        return "; ".join(self.doubts) or "converged"

    def check(self) -> BayesResult:
        """Raise ConvergenceError where there is a doubt."""
        if self.doubts:
            raise ConvergenceError(f"model {self.model}, {self.method}: {self.message}")
        return self

    def quantiles(self, level: float = 0.9) -> dict[str, tuple[float, float, float]]:
        """Lower end, median and upper end of the central interval of this probability, by name."""
        found = np.quantile(self.draws, [0.5 - level / 2, 0.5, 0.5 + level / 2], axis=(0, 1))
        return {n: (float(a), float(b), float(c)) for n, (a, b, c) in zip(self.names, found.T, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON; without the draws."""
        plain = lambda v: float(v) if np.isfinite(v) else None  # noqa: E731
        columns = {
            "estimate": self.estimates,
            "se": self.se,
            "rhat": self.rhat,
            "ess_bulk": self.ess_bulk,
            "ess_tail": self.ess_tail,
            "mcse": self.mcse,
        }
        ends = self.quantiles()
        return {
            "model": self.model, "method": self.method, "converged": self.converged, "message": self.message,
            "theta": {k: plain(v) for k, v in self.theta.items()},
            "omega": {"etas": list(self.etas), "matrix": [[plain(v) for v in row] for row in self.omega]},
            "sigma": {k: plain(v) for k, v in self.sigma.items()},
            "estimates": {
                n: {**{k: plain(c[n]) for k, c in columns.items()}, "interval_90": list(ends[n][::2])} for n in self.names
            },
            "chains": len(self.draws), "draws": self.draws.shape[1], "warmup": self.warmup,
            "divergences": int(self.diverged.sum()),
            "acceptance": plain(self.accepted.mean()), "depth": plain(self.depth.mean()), "leapfrogs": self.leapfrogs,
            "priors": list(self.priors),
            "subjects": [
                {"id": i, "etas": dict(zip(self.etas, map(plain, e), strict=False))}
                for i, e in zip(self.ids, self.individual, strict=True)
            ],
            "observations": self.observations, "seed": self.seed, "provenance": self.provenance,
        }  # fmt: skip


def sample(
    data: Problem, layout: Layout, x0: Floats, *, seed: int, chains: int = 4, warmup: int = 500, draws: int = 500,
    priors: Mapping[str, Any] | None = None, etas: Floats | None = None, report: Report | None = None,
) -> BayesResult:  # fmt: skip
    """Posterior of the population parameters of `layout` and of all etas.

    x0: (x,) near which chains start, such as FOCEI's estimate. etas: (subjects, etas) where they start, such as modes at x0.
    priors: by name, see `bayes.priors`. report(iteration, −2 log density, mean over chains) is called while it runs. Raises
    DataError, ModelError.
    """
    believed = _believed(data, layout, priors, chains, draws)
    shape = Shape(len(layout), len(data.subjects), data.etas)
    rng = generator(seed, "start")
    centre = _start_z(data, layout, np.asarray(x0, float), etas)

    def again(attempt: int) -> Floats:
        spread = rng.standard_normal((chains, shape.size)) * 0.25**attempt
        spread[:, : shape.x] *= JITTER
        spread[:, shape.x :] *= 0.5 if etas is None else 0.1
        return np.concatenate([np.asarray(x0, float), centre.ravel()]) + spread

    plan = data.prepared.timeline.plan
    with precision():
        density = population_density(data.model, plan, layout, believed.kinds)
        target = {"data": lanes_of(data), "priors": believed.numbers}
    keys = lane_keys(seed, [(c,) for c in range(chains)])
    block = max(1, default_block(chains * shape.groups, plan.method not in LINEAR) // shape.groups)
    found = run_chains(
        density, target, {}, again, shape, keys, together=chains, block=block, warmup=warmup, draws=draws, report=report
    )
    return _result(data, layout, believed, found, shape, warmup, seed)


def _believed(data: Problem, layout: Layout, given: Mapping[str, Any] | None, chains: int, draws: int) -> Priors:
    if not layout.log_diagonal:
        raise ModelError("layout: the diagonal of OMEGA's factor must be a logarithm; make the layout with log_diagonal=True")
    if chains < 1 or draws < 4:
        raise DataError(
            "too few draws", column="draws", value=f"{chains} x {draws}", remedy="give 1 chain or more, of 4 draws or more"
        )
    return priors(data, layout, given)


def _start_z(data: Problem, layout: Layout, x0: Floats, etas: Floats | None) -> Floats:
    """(lanes, etas) where z starts."""
    if etas is None:
        return np.zeros((len(data.subjects), data.etas))
    with precision():
        factor = np.asarray(layout.factor(x0))
    return np.asarray(np.linalg.solve(factor, np.asarray(etas, float)[data.prepared.timeline.order].T).T)


@lru_cache(maxsize=32)
def _natural_program(layout: Layout) -> Any:
    return jax.jit(jax.vmap(lambda x: (layout.natural(x), layout.factor(x))))


def naturals(layout: Layout, q: Floats, shape: Shape, order: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Natural values (..., names) and etas (..., subjects, etas) of positions (..., dimension), subjects as they were given."""
    flat = q.reshape(-1, q.shape[-1])
    with precision():
        natural, factor = _natural_program(layout)(flat[:, : shape.x])
    z = flat[:, shape.x :].reshape(len(flat), shape.groups, shape.z)[:, np.argsort(order, kind="stable")]
    etas = np.einsum("dij,dsj->dsi", np.asarray(factor), z)
    return np.asarray(natural).reshape(*q.shape[:-1], -1), etas.reshape(*q.shape[:-1], *etas.shape[1:])


def _result(data: Problem, layout: Layout, believed: Priors, found: Chains, shape: Shape, warmup: int, seed: int) -> BayesResult:
    natural, etas = naturals(layout, found.q, shape, data.prepared.timeline.order)
    x = found.q[..., : shape.x]
    named = lambda v: dict(zip(layout.names, map(float, v), strict=True))  # noqa: E731
    with precision():
        middle = jax.tree.map(np.asarray, jax.jit(jax.vmap(layout.population))(x.reshape(-1, shape.x)))
    flat = natural.reshape(-1, natural.shape[-1])
    rhat, bulk, tail = convergence.rhat(natural), convergence.ess_bulk(natural), convergence.ess_tail(natural)
    doubts = _doubts(layout.names, rhat, bulk, tail, found.depth, found.diverged) + _conflicts(layout, believed, x)
    return BayesResult(
        data.model.name, layout.names, layout.etas,
        {k: float(np.mean(v)) for k, v in middle.theta.items()},
        middle.omega.mean(axis=0)[: len(layout.etas), : len(layout.etas)],
        {k: float(np.mean(v)) for k, v in middle.sigma.items()},
        named(flat.mean(axis=0)), named(flat.std(axis=0, ddof=1)), np.atleast_2d(np.cov(flat.T)),
        natural, x, etas, tuple(s.id for s in data.subjects), etas.mean(axis=(0, 1)),
        found.logp, found.accepted, found.depth, found.diverged, found.step, int(found.leapfrogs.sum()),
        named(rhat), named(bulk), named(tail), named(convergence.mcse_mean(natural)),
        believed.words(), doubts, int(data.observations.sum()), warmup, seed,
        provenance=Provenance.collect(data.model, seed=seed).to_dict(),
    )  # fmt: skip


def _doubts(names: tuple[str, ...], rhat: Floats, bulk: Floats, tail: Floats, depth: Any, diverged: Any) -> tuple[str, ...]:
    """What is wrong with the chains, in words."""
    out = []
    if not np.all(rhat <= RHAT):
        i = int(np.nanargmax(np.where(np.isnan(rhat), np.inf, rhat)))
        out.append(
            f"chains disagree on {names[i]} (R-hat {rhat[i]:.3f}, above {RHAT:g}): run longer, or look at what the data can tell"
        )
    least = np.fmin(bulk, tail)
    if not np.all(least >= ESS):
        i = int(np.nanargmin(np.where(np.isnan(least), -np.inf, least)))
        out.append(f"only {least[i]:.0f} effective draws of {names[i]} (below {ESS:g}): run longer")
    if diverged.any():
        out.append(
            f"{int(diverged.sum())} of {diverged.size} transitions diverged: part of the posterior may be missing; "
            "a simpler OMEGA, or priors that say more, would help"
        )
    longest = float(np.mean(depth >= DEEPEST))
    if longest > 0.01:
        out.append(f"{longest:.0%} of trajectories reached the longest length: draws are dear, though not wrong; run longer")
    return tuple(out)


def _conflicts(layout: Layout, believed: Priors, x: Floats) -> tuple[str, ...]:
    """Normal priors in whose tail the posterior lies."""
    mean, (numbers, _, _), entries = x.mean(axis=(0, 1)), believed.numbers, (*layout.thetas, *layout.sigmas)
    far = [
        e.name
        for k, (e, d) in enumerate(zip(entries, believed.values, strict=True))
        if isinstance(d, Normal) and abs(mean[k] - numbers[k, 0]) > 2.0 * d.sd
    ]
    return (
        (f"the posterior of {', '.join(far)} lies more than 2 SD from the prior's centre: give it a wider prior",) if far else ()
    )


# ---- subjects of a known population --------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class IndividualResult:
    """Posterior of each subject's etas: draws (subjects, chains, draws, etas); rhat, ess_bulk, ess_tail, mcse (subjects, etas);
    doubts by subject id."""

    ids: tuple[str, ...]
    draws: Floats
    rhat: Floats
    ess_bulk: Floats
    ess_tail: Floats
    mcse: Floats
    diverged: NDArray[np.int64]
    doubts: dict[str, tuple[str, ...]]


def individual(
    data: Problem, pop: PopulationParameters, *, seed: int, chains: int = 4, warmup: int = 300, draws: int = 500,
    report: Report | None = None,
) -> IndividualResult:  # fmt: skip
    """Posterior of every subject's etas, the population known: exact but slower than `ensemble.ensemble`, against which it
    is held.

    A subject's draws do not depend on who else is in `data`, up to rounding. Raises DataError, ModelError.
    """
    pop.check(data.model)
    if not data.etas:
        raise ModelError(f"model {data.model.name}: nothing varies between subjects, so there is nothing to sample")
    given = population_of(pop, data.prepared.occasions)
    count, n, order = len(data.subjects), data.etas, data.prepared.timeline.order
    names = [data.subjects[i].id for i in order]
    factor = np.linalg.cholesky(given.omega)
    found = modes(data, given)
    inverse = np.linalg.inv(factor)
    scale = inverse @ np.where(np.isfinite(found.covariance), found.covariance, given.omega)[order] @ inverse.T
    own = np.repeat(np.linalg.cholesky(scale + 1e-10 * np.eye(n)), chains, axis=0)  # (lanes · chains, etas, etas)
    centre = np.repeat(np.where(np.isfinite(found.eta), found.eta, 0.0)[order] @ inverse.T, chains, axis=0)

    def again(attempt: int) -> Floats:
        noise = np.stack([generator(seed, "start", i, attempt).standard_normal((chains, n)) for i in names]).reshape(-1, n)
        return np.asarray(centre + 0.25**attempt * np.einsum("gij,gj->gi", own, noise))

    plan = data.prepared.timeline.plan
    metric = Metric(np.zeros((0, 0, len(own))), np.zeros((1, n, 0, len(own))), np.moveaxis(own, 0, -1)[None])
    with precision():
        lanes = jax.tree.map(lambda v: np.repeat(v, chains, axis=-1), lanes_of(data))
    out = run_chains(
        individual_density(data.model, plan), {"population": given, "factor": factor}, lanes, again, Shape(0, 1, n),
        lane_keys(seed, [(i, c) for i in names for c in range(chains)]), together=chains,
        block=default_block(len(own), plan.method not in LINEAR), warmup=warmup, draws=draws, metric=metric, report=report,
    )  # fmt: skip
    back = np.argsort(order, kind="stable")
    etas = (out.q @ factor.T).reshape(count, chains, draws, n)[back]
    by_chain = np.moveaxis(etas, 0, 2)  # (chains, draws, subjects, etas)
    rhat, bulk, tail = convergence.rhat(by_chain), convergence.ess_bulk(by_chain), convergence.ess_tail(by_chain)
    table, doubts = data.model.parameters.eta_names, {}
    labels = tuple(f"eta {table[k]}" if k < len(table) else f"eta {k + 1} (of an occasion)" for k in range(n))
    depth, diverged = (v.reshape(count, -1)[back] for v in (out.depth, out.diverged))
    for i, s in enumerate(data.subjects):
        words = _doubts(labels, rhat[i], bulk[i], tail[i], depth[i], diverged[i])
        if words:
            doubts[s.id] = words
    return IndividualResult(
        tuple(s.id for s in data.subjects), etas, rhat, bulk, tail, convergence.mcse_mean(by_chain), diverged.sum(axis=1), doubts
    )
