"""SAEM: stochastic approximation of the EM algorithm (Delyon, Lavielle & Moulines 1999, Ann Stat 27:94; Kuhn & Lavielle 2005,
Comput Stat Data Anal 49:1020).

One iteration: chains of etas of every subject move (`metropolis`); the sufficient statistics of the individual parameters move by
a share γ towards those of the new etas; population parameters are put where the complete likelihood of the statistics is
largest. γ is 1 in the first half of the burn-in, then (1 + k/10)^−0.55, and the estimate is the mean over the iterations after
the burn-in (Polyak & Juditsky 1992, SIAM J Control Optim 30:838), which is as good as can be however slowly EM itself would go.

Thetas that act through the centres of individual parameters: generalised least squares. OMEGA: second moments, in its structure.
All others, residual parameters too: γ times a step of Fisher scoring of the complete likelihood. In the first half of the burn-in
variances fall by at most 5 % an iteration, so that chains are not caught near their start (simulated annealing).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import child_seed
from gemello.engine.lanes import precision
from gemello.engine.plan import Plan
from gemello.inference import metropolis
from gemello.inference.complete_data import (
    Estimate,
    Roles,
    centres,
    check_etas,
    filled,
    omega_basis,
    over_blocks,
    replaced,
    roles,
    spread_out,
    tiled,
)
from gemello.inference.laplace import modes
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Block, Population, Prediction, Prior, Problem, prior
from gemello.inference.metropolis import Chains
from gemello.model.contract import Model

LANES = 100  # chains × subjects at least, so that an iteration's statistics are not too noisy
SETTLE = 20  # rounds of the chains at the start values before the first estimate
TURNS = 25  # iterations between two reports
SLOWLY, GAIN = 10.0, 0.55  # γ = (1 + k/SLOWLY)^−GAIN, k counted from the middle of the burn-in
ANNEAL = 0.95  # least ratio of a variance to that before, in the first half of the burn-in
LEAST_RATIO = 1e-6  # the same afterwards
KEEP = 0.3  # most weight of an iteration in the information of the scoring step
LONGEST = 0.5  # no scoring step is longer in any coordinate
DRIFT, FELT = 4.0, 0.1  # standard errors, and size, from which the two last quarters of the burn-in count as different
BATCHES = 5  # of the iterations after the burn-in, for the Monte Carlo error

Floats = NDArray[np.float64]


class State(NamedTuple):
    """What all blocks share. x: coordinates of thetas and residual parameters. second: statistic Σ φφ'. information: Fisher's,
    of the parameters that act directly. objective: running mean of the complete −2 log-likelihood."""

    x: Any
    omega: Any
    second: Any
    information: Any
    objective: Any


class Sums(NamedTuple):
    """Of all blocks: statistic φ, (etas, block) each; and sums over the smoothing of φ and φφ'."""

    first: Any
    total: Any
    square: Any


@dataclass(frozen=True)
class _Steps:
    """The steps of one iteration for one layout, inside a program."""

    model: Model
    plan: Plan
    layout: Layout
    role: Roles

    @property
    def fixed(self) -> int:
        """Number of thetas and residual parameters."""
        return len(self.layout.thetas) + len(self.layout.sigmas)

    @property
    def sigmas(self) -> tuple[int, ...]:
        return tuple(range(len(self.layout.thetas), self.fixed))

    @property
    def moving(self) -> tuple[int, ...]:
        """Positions of the parameters that act directly."""
        return (*self.role.direct, *self.sigmas)

    def population(self, x: Any, omega: Any) -> Population:
        whole = jnp.concatenate([x, jnp.zeros(len(self.layout) - self.fixed)])
        return self.layout.population(whole)._replace(omega=omega)

    def height(self, x: Any, omega: Any, data: Any) -> Any:
        """(blocks, etas, block) centres of individual parameters."""
        theta = self.population(x, omega).theta
        return jax.vmap(lambda d: centres(self.model, theta, d, omega.shape[0]))(data)

    def scores(self, block: Block, pop: Population, x: Any, eta: Any, weight: Any) -> tuple[Any, Any, Any]:
        """Data objective (scalar), its gradient and Fisher's information by `moving`, summed with these weights of lanes."""

        def slopes(positions: tuple[int, ...]) -> list[Prediction]:
            if not positions:
                return []
            at = lambda v: block.predict(replaced(self.layout, pop, positions, v), eta)  # noqa: E731
            push = lambda e: jax.jvp(at, (x[jnp.array(positions)],), (e,))[1]  # noqa: E731
            return [jax.vmap(push)(jnp.eye(len(positions), dtype=x.dtype))]

        g = block.predict(pop, eta)
        value, pull = jax.value_and_grad(lambda g: jnp.sum(weight * block.data_objective(g)))(g)
        parts = slopes(self.role.direct) + slopes(self.sigmas)  # apart: residual parameters need no derivative of the solution
        if not parts:
            return value, jnp.zeros(0), jnp.zeros((0, 0))
        slope = jax.tree.map(lambda *v: jnp.concatenate(v), *parts)
        gradient = jnp.einsum("irl,rl->i", slope.f, pull.f) + jnp.einsum("irl,rl->i", slope.v, pull.v)
        scaled, relative = slope.f / jnp.sqrt(g.v), slope.v / g.v
        information = 2.0 * jnp.einsum("irl,jrl,l->ij", scaled, scaled, weight)
        return value, gradient, information + jnp.einsum("irl,jrl,l->ij", relative, relative, weight)

    def score(self, x: Any, gradient: Any, information: Any, gamma: Any, annealing: Any) -> Any:
        """x after γ times a step of Fisher scoring of the parameters that act directly."""
        if not self.moving:
            return x
        entries = (*self.layout.thetas, *self.layout.sigmas)
        slow = np.array([i in self.sigmas and entries[i].transform == "log" for i in self.moving])
        step = jnp.clip(-gamma * solve_semidefinite(information, gradient), -LONGEST, LONGEST)
        step = jnp.maximum(step, jnp.where(slow & annealing, 0.5 * math.log(ANNEAL), -LONGEST))
        return x.at[jnp.array(self.moving)].add(jnp.where(jnp.isfinite(step) & (gamma > 0), step, 0.0))

    def least_squares(self, total: Any, x: Any, omega: Any, w: Prior, first: Any, blocks: Any, gamma: Any) -> Any:
        """x with the thetas that act through the centres where Σ (φ − h)'W⁻¹(φ − h) is least: Gauss-Newton."""
        if not self.role.through:
            return x
        data, weight = blocks
        at = jnp.array(self.role.through)
        for _ in range(1 if self.role.linear else 3):
            look = lambda v, x=x: self.height(x.at[at].set(v), omega, data)  # noqa: E731
            here, slope = look(x[at]), jax.jacfwd(look)(x[at])
            left = jnp.einsum("kibt,ij->ktjb", slope, w.precision) * weight[:, None, None, :]
            a, b = total((jnp.einsum("ktjb,kjbs->ts", left, slope), jnp.einsum("ktjb,kjb->t", left, first - here)))
            step = jnp.clip(solve_semidefinite(a, b), -2.0, 2.0)
            x = x.at[at].add(jnp.where(jnp.isfinite(step) & (gamma > 0), step, 0.0))
        return x


def solve_semidefinite(h: Any, g: Any) -> Any:
    """x of H x = g, 0 along directions that H does not know."""
    size, directions = jnp.linalg.eigh(h)
    known = size > 1e-9 * jnp.max(size, initial=0.0)
    return directions @ jnp.where(known, (directions.T @ g) / jnp.where(known, size, 1.0), 0.0)


def structured(s: Any, omega: Any, basis: Any, held: Any) -> Any:
    """OMEGA = held + Σ ω basis that is most likely for second moments s: a step of scoring from `omega`, exact wherever blocks
    are full or diagonal, and elements equal or not (Anderson 1973, Ann Stat 1:135, eq. 4)."""
    w = prior(omega).precision
    turned = jnp.einsum("ij,kjl,lm->kim", w, basis, w)
    values = solve_semidefinite(jnp.einsum("kij,lij->kl", turned, basis), jnp.einsum("kij,ij->k", turned, s - held))
    return held + jnp.einsum("k,kij->ij", values, basis)


def _next_omega(moments: Any, omega: Any, settings: Any, annealing: Any) -> Any:
    """OMEGA of the layout's structure, variances no smaller than they may become in one iteration."""
    new = structured(moments, omega, settings["basis"], settings["held"])
    ratio = jnp.diagonal(new) / jnp.diagonal(omega)
    least = jnp.where(annealing, ANNEAL, LEAST_RATIO)
    up = jnp.sqrt(jnp.maximum(1.0, least / jnp.maximum(ratio, 1e-12)))
    return up[:, None] * new * up[None, :]


@lru_cache(maxsize=32)
def program(model: Model, plan: Plan, layout: Layout, role: Roles, chains: int) -> Any:
    """Program for `over_blocks`: `count` iterations from number `first` on, negative while chains settle.

    shared: (State, settings) with key, first, count, burn_in, subjects, and `omega_basis`. blocks: (Chains, Sums, data, number,
    weight). Returns (State, trace) with the State's x, omega and objective over TURNS rows, and (Chains, Sums).
    """
    steps = _Steps(model, plan, layout, role)
    copies = lambda v: jnp.tile(v, (1, 1, chains))  # noqa: E731

    def simulate(state: State, key: Any, gain: Any, blocks: Any) -> Any:
        """All chains one round on; and scores, summed over this device's blocks."""
        pop, w = steps.population(state.x, state.omega), prior(state.omega)

        def one(b: Any) -> Any:
            c, d, number, weight, height = b
            block = Block(model, plan, tiled(d, chains))
            c = metropolis.move(block, pop, w, c, height, jax.random.fold_in(key, number), gain)
            return c, steps.scores(block, pop, state.x, c.eta, jnp.tile(weight, chains) / chains)

        chain, parts = jax.lax.map(one, blocks)
        return chain, jax.tree.map(lambda v: jnp.sum(v, axis=0), parts)

    def iteration(total: Any, settings: Any, fixed: Any, k: Any, state: State, chain: Chains, sums: Sums) -> Any:
        data, number, weight = fixed
        late = k - settings["burn_in"] + 1
        gamma = jnp.where(k < 0, 0.0, (1.0 + jnp.maximum(k - settings["burn_in"] / 2, 0.0) / SLOWLY) ** -GAIN)
        age, annealing, w = (k + SETTLE + 1).astype(float), 2 * k < settings["burn_in"], prior(state.omega)
        key = jax.random.fold_in(settings["key"], k + SETTLE)
        old = steps.height(state.x, state.omega, data)
        chain, parts = simulate(state, key, 1.0 / jnp.sqrt(age), (chain, data, number, weight, old))
        phi = (chain.eta + copies(old)).reshape(*old.shape[:2], chains, -1)
        eta = phi - old[:, :, None, :]
        products = jnp.einsum("kicb,kjcb->kijb", phi, phi) / chains
        first = sums.first + gamma * (jnp.mean(phi, axis=2) - sums.first)
        around = jnp.einsum("kicb,ij,kjcb,kb->", eta, w.precision, eta, weight) / chains
        (value, gradient, information), second, around = total((parts, jnp.einsum("kijb,kb->ij", products, weight), around))
        second = state.second + gamma * (second - state.second)
        keep = jnp.where(k <= 0, 1.0, jnp.minimum(gamma, KEEP))
        information = state.information + keep * (information - state.information)
        x = steps.score(state.x, gradient, information, gamma, annealing)
        x = steps.least_squares(total, x, state.omega, w, first, (data, weight), gamma)
        new = steps.height(x, state.omega, data)
        cross, outer = total((jnp.einsum("kib,kjb,kb->ij", first, new, weight), jnp.einsum("kib,kjb,kb->ij", new, new, weight)))
        moments = (second - cross - cross.T + outer) / settings["subjects"]
        omega = jnp.where(gamma > 0, _next_omega(moments, state.omega, settings, annealing), state.omega)
        whole = value + around + settings["subjects"] * w.logdet
        whole = jnp.where(gamma > 0, state.objective + gamma * (whole - state.objective), whole)
        chain = metropolis.remember(chain, phi, age, jnp.where(late > 1, gamma, 1.0))
        counted = (late > 0).astype(float)
        sums = Sums(first, sums.total + counted * jnp.mean(phi, axis=2), sums.square + counted * products)
        return State(x, omega, second, information, whole), chain._replace(eta=chain.eta + copies(old - new)), sums

    def run(total: Any, shared: Any, blocks: Any) -> Any:
        state, settings = shared
        chain, sums, *fixed = blocks

        def turn(i: Any, carry: Any) -> Any:
            *now, trace = carry
            state, chain, sums = iteration(total, settings, fixed, settings["first"] + i, *now)
            seen = (state.x, state.omega, state.objective)
            return state, chain, sums, tuple(t.at[i].set(v) for t, v in zip(trace, seen, strict=True))

        trace = tuple(jnp.zeros((TURNS, *v.shape)) for v in (state.x, state.omega, state.objective))
        state, chain, sums, trace = jax.lax.fori_loop(0, settings["count"], turn, (state, chain, sums, trace))
        return (state, trace), (chain, sums)

    return run


# ---- the run -------------------------------------------------------------------------------------------------------
def run(
    data: Problem,
    layout: Layout,
    x0: Floats,
    *,
    seed: int,
    chains: int | None = None,
    burn_in: int = 400,
    smooth: int = 200,
    report: Callable[[int, float, Floats], None] | None = None,
) -> Estimate:
    """Estimate from x0. chains: of each subject, by default so many that there are 100 in all.

    report(iteration, complete −2 log-likelihood, x) is called every 25 iterations. Converged: in no coordinate do the means of
    the two last quarters of the burn-in differ by more than 0.1 and 4 standard errors of batch means; otherwise the message
    names those that still drifted. Raises DataError where the data have no likelihood at x0, UnsupportedError without etas.
    """
    check_etas(data)
    with precision():
        x0 = np.asarray(x0, float)
        role, pop = roles(data, layout, x0), layout.population(jnp.asarray(x0))
        omega, fixed = np.asarray(pop.omega), len(layout.thetas) + len(layout.sigmas)
        chains = chains or max(1, -(-LANES // len(data.subjects)))
        height = np.asarray(jax.vmap(lambda d: centres(data.model, pop.theta, d, len(omega)))(data.blocks.tree))
        direct = len(role.direct) + len(layout.sigmas)
        state = State(x0[:fixed], omega, np.zeros_like(omega), np.zeros((direct, direct)), np.zeros(()))
        chain = metropolis.start(omega, height, chains)
        sums = Sums(np.zeros_like(height), np.zeros_like(height), np.zeros_like(chain.covariance))
        chain, sums, number, weight = spread_out((chain, sums, *filled(data.blocks)), data.blocks.devices)
        fn = over_blocks(program(data.model, data.prepared.timeline.plan, layout, role, chains), data.blocks.devices)
        basis, held = omega_basis(layout, x0)
        settings: dict[str, Any] = {"key": jax.random.key(child_seed(seed, "saem")), "burn_in": burn_in, "basis": basis}
        settings |= {"held": held, "subjects": float(len(data.subjects))}
        trace: list[Floats] = []
        objectives: list[float] = []
        k = -SETTLE
        while k < burn_in + smooth:
            count = min(TURNS, (0 if k < 0 else burn_in + smooth) - k)
            now = (state, {**settings, "first": k, "count": count})
            ((state, seen), (chain, sums)) = fn(now, (chain, sums, data.blocks.tree, number, weight))
            if k < 0:
                _check(data, chain, chains)
            else:
                xs, omegas, values = (np.asarray(v)[:count] for v in seen)
                trace += [_coordinates(layout, x, o) for x, o in zip(xs, omegas, strict=True)]
                objectives += [float(v) for v in values]
                if report:
                    report(k + count, objectives[-1], trace[-1])
            k += count
        return _finish(data, layout, np.array(trace), np.array(objectives), sums, burn_in)


def _by_subject(data: Problem, v: Any) -> Floats:
    """(blocks, ..., block) to (subjects, ...)."""
    v = np.moveaxis(np.asarray(v), -1, 1)
    return data.in_subject_order(v.reshape(-1, *v.shape[2:])[: data.blocks.lanes])


def _check(data: Problem, chain: Chains, chains: int) -> None:
    """Raise DataError where no chain of a subject has found etas at which its data have a likelihood."""
    value = np.asarray(chain.value)
    best = _by_subject(data, value.reshape(value.shape[0], chains, -1).min(axis=1))
    if not np.isfinite(best).all():
        who = data.subjects[int(np.argmin(np.isfinite(best)))].id
        raise DataError(
            f"model {data.model.name}: no objective at the start values for {(~np.isfinite(best)).sum()} of {len(best)} "
            f"subjects, the first {who}",
            column="start",
            remedy="give start values with predictions nearer to the data (no proportional error is possible at 0)",
        )


def _coordinates(layout: Layout, fixed: Floats, omega: Floats) -> Floats:
    """x from the coordinates of thetas and residual parameters, and OMEGA with its occasions."""
    n, entries = len(layout.etas), (*layout.thetas, *layout.sigmas)
    values = {e.name: float(e.forward(v)) for e, v in zip(entries, fixed, strict=True)}
    occasion = np.diag(omega)[n : n + len(layout.changing)]
    return np.concatenate([fixed, layout.start(values, values, omega[:n, :n], occasion)[len(fixed) :]])


def _finish(data: Problem, layout: Layout, trace: Floats, objectives: Floats, sums: Sums, burn_in: int) -> Estimate:
    smooth = len(trace) - burn_in
    used = trace[burn_in:]
    x = used.mean(axis=0)
    error = np.std([b.mean(axis=0) for b in np.array_split(used, BATCHES)], axis=0, ddof=1) / math.sqrt(BATCHES)
    pop = layout.population(jnp.asarray(x))
    etas = np.asarray(pop.omega).shape[0]
    height = _by_subject(data, jax.vmap(lambda d: centres(data.model, pop.theta, d, etas))(data.blocks.tree))
    mean, square = (_by_subject(data, v) / smooth for v in (sums.total, sums.square))
    sd = np.sqrt(np.maximum(np.diagonal(square - mean[:, :, None] * mean[:, None, :], axis1=1, axis2=2), 0.0))
    names = [n for n, d in zip(layout.names, drift(trace[:burn_in]), strict=True) if d]
    words = f"{', '.join(names)} still drifted at the end of the burn-in; give it more iterations" if names else "converged"
    if not (np.isfinite(x).all() and np.isfinite(objectives[-1])):
        names, words = ["x"], "the complete likelihood was lost; give other start values"
    found = modes(data, jax.tree.map(np.asarray, pop), mean - height)
    return Estimate(x, error, trace, objectives, mean - height, sd, found.eta, not names, words, len(trace))


def drift(trace: Floats) -> NDArray[np.bool_]:
    """(x,) whether the means of the third and fourth quarter of a trace (iterations, x) differ by more than DRIFT standard
    errors, from batch means, and by more than FELT."""
    quarter = len(trace) // 4
    if quarter < 8:
        return np.zeros(trace.shape[1], bool)
    parts = [trace[-2 * quarter : -quarter], trace[-quarter:]]
    variance = sum(np.var([b.mean(axis=0) for b in np.array_split(p, 4)], axis=0, ddof=1) / 4 for p in parts)
    gap = np.abs(parts[1].mean(axis=0) - parts[0].mean(axis=0))
    return np.asarray((gap > DRIFT * np.sqrt(variance)) & (gap > FELT))
