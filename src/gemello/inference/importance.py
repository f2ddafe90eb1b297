"""The marginal likelihood of a population by importance sampling, its derivatives, and its maximum (NONMEM's METHOD=IMP).

A subject's likelihood is the mean of p(y, η)/q(η) over draws of q, a multivariate t at the mode of its etas, or at the weighted
mean of a first set of draws where that serves better. Draws are Sobol's points in GROUPS sets shifted at random each on its own,
so that their means tell the error. While x moves, draws of the individual parameters are held (`complete_data`): the likelihood
at them is smooth in x, and its gradient is the weighted mean of the complete score (Fisher's identity), its Hessian that of
Louis (1982, J R Stat Soc B 44:226), both exact for these draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, SolverError
from gemello.base.random import child_seed
from gemello.engine.lanes import map_blocks, precision
from gemello.engine.plan import Plan
from gemello.inference.complete_data import Estimate, Roles, centres, check_etas, replaced, roles, tiled
from gemello.inference.ensemble import (
    DEGREES,
    joint_at,
    moments,
    pad_draws,
    side_by_side,
    smooth_weights,
    t_points,
    uniform_points,
)
from gemello.inference.laplace import modes
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Block, Population, Problem, prior
from gemello.inference.scores import effective_size
from gemello.model.contract import Model

GROUPS = 8  # independent sets of points
PILOT = 32  # draws of each set by which a first proposal is judged
ROUNDS = 2  # proposals before the last one
LEAST = 1e-3  # stop when a Newton step would lower the objective by less than this
LONGEST = 0.5  # no Newton step is longer in any coordinate
NEGLIGIBLE = 100.0  # a draw's log weight below the largest, from which on its derivatives do not count
NOISE = 0.5  # by which the objective may rise from step to step: draws are made anew
LN_2PI = math.log(2.0 * math.pi)

Floats = NDArray[np.float64]


class Draws(NamedTuple):
    """Draws of every subject: eta (subjects, draws, etas), log density of the proposal (subjects, draws), log weights
    ln p(y, η) − ln q(η) at the parameters they were made for, and the modes (subjects, etas) they started from."""

    eta: Floats
    density: Floats
    weight: Floats
    mode: Floats


class Marginal(NamedTuple):
    """Marginal −2 log-likelihood without the constant n ln 2π, by subject: value and its Monte Carlo standard error
    (subjects,), effective number of draws, tail index k̂ of the weights, mode, mean and SD (subjects, etas) of the etas."""

    value: Floats
    error: Floats
    ess: Floats
    khat: Floats
    mode: Floats
    mean: Floats
    sd: Floats

    @property
    def total(self) -> float:
        return float(self.value.sum())

    @property
    def total_error(self) -> float:
        """Standard error of the total."""
        return float(np.sqrt(np.sum(self.error**2)))


class Information(NamedTuple):
    """Derivatives of the marginal −2 log-likelihood by x: gradient (subjects, x) and Hessian (x, x), twice the observed
    information; and the objective (subjects,). noise: Monte Carlo covariance of the gradient's sum (x, x), as if points were
    random, so too large rather than too small."""

    value: Floats
    gradient: Floats
    hessian: Floats
    noise: Floats

    @property
    def error(self) -> Floats:
        """Monte Carlo standard errors (x,) of the maximum that these derivatives lead to."""
        inverse = np.linalg.pinv(self.hessian)
        return np.sqrt(np.diag(inverse @ self.noise @ inverse))


# ---- draws ---------------------------------------------------------------------------------------------------------
def _points(data: Problem, seed: int, draws: int, etas: int) -> Floats:
    """Standard t points (subjects, draws, etas); GROUPS sets one after another, each with shifts of its own."""
    names = [s.id for s in data.subjects]
    each = max(draws // GROUPS, 2)
    sets = [t_points(uniform_points(child_seed(seed, "importance", g), names, each, etas + 1)) for g in range(GROUPS)]
    return np.concatenate(sets, axis=1)


def _log_t(x: Floats, mean: Floats, scale: Floats) -> Floats:
    """Log density (subjects, draws) of the multivariate t at x (subjects, draws, etas)."""
    n, nu = mean.shape[1], DEGREES
    root = np.linalg.cholesky(scale)
    z = np.linalg.solve(root, np.moveaxis(x - mean[:, None, :], 1, -1))
    constant = math.lgamma(0.5 * (nu + n)) - math.lgamma(0.5 * nu) - 0.5 * n * math.log(nu * math.pi)
    logdet = np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)
    return constant - logdet[:, None] - 0.5 * (nu + n) * np.log1p(np.sum(z**2, axis=1) / nu)


def _propose(z: Floats, mean: Floats, scale: Floats, omega: Floats, every: int) -> tuple[Floats, Floats]:
    """Draws of a mixture and its log density: each `every`-th is of a t as wide as the prior, so that no part of it is missed
    (defensive mixture, in fixed numbers: Owen & Zhou 2000, J Am Stat Assoc 95:135)."""
    prior_scale = np.broadcast_to(omega, scale.shape)
    wide = np.arange(z.shape[1]) % every == every - 1
    near = mean[:, None, :] + np.einsum("sij,sdj->sdi", np.linalg.cholesky(scale), z)
    x = np.where(wide[None, :, None], z @ np.linalg.cholesky(omega).T, near)
    share = wide.mean()
    parts = (np.log1p(-share) + _log_t(x, mean, scale), np.log(share) + _log_t(x, np.zeros_like(mean), prior_scale))
    return x, np.logaddexp(*parts)


def sample(data: Problem, pop: Population, *, seed: int, draws: int, start: Floats | None = None) -> Draws:
    """Draws around every subject's mode. start: (subjects, etas), where the search for modes begins."""
    check_etas(data)
    pop = jax.tree.map(np.asarray, pop)
    omega = np.asarray(pop.omega)
    etas = len(omega)
    first = np.zeros((len(data.subjects), etas)) if start is None else start
    m = modes(data, pop, first)
    bad = ~(np.isfinite(m.objective) & np.isfinite(m.covariance).all(axis=(1, 2)))
    if bad.any():
        who = data.subjects[int(np.argmax(bad))].id
        raise DataError(
            f"model {data.model.name}, subject {who}: its data have no finite likelihood at any etas tried", column="start",
            remedy="look at this subject's values and doses, and at the start values",
        )  # fmt: skip
    few = _points(data, child_seed(seed, "pilot"), GROUPS * PILOT, etas)  # not those used in the end, which would bias them
    mean, scale = m.eta, m.covariance
    for _ in range(ROUNDS):
        x, density = _propose(few, mean, scale, omega, 2)
        weights, _ = smooth_weights(_log_weights(data, pop, x, density))
        enough = effective_size(weights) > 5.0 * etas
        centre, spread = moments(x, weights)
        mean = np.where(enough[:, None], centre, mean)
        scale = np.where(enough[:, None, None], spread + 1e-6 * m.covariance, scale)
    x, density = _propose(_points(data, seed, draws, etas), mean, scale, omega, 10)
    return Draws(x, density, _log_weights(data, pop, x, density), m.eta)


def _log_weights(data: Problem, pop: Population, x: Floats, density: Floats) -> Floats:
    out = -0.5 * (joint_at(data, pop, x) + LN_2PI * x.shape[2]) - density
    return np.where(np.isfinite(out), out, -np.inf)  # a draw that cannot be solved has no weight


def objective(data: Problem, layout: Layout, x: Floats, *, seed: int, draws: int = 1000, start: Floats | None = None) -> Marginal:
    """Marginal objective at x with its Monte Carlo error. Raises DataError, SolverError (no draw of a subject has weight)."""
    with precision():
        pop = layout.population(jnp.asarray(x))
        d = sample(data, pop, seed=seed, draws=draws, start=start)
        return marginal(data, d)


def marginal(data: Problem, d: Draws) -> Marginal:
    """What draws say at the parameters they were made for."""
    top = np.max(d.weight, axis=1, keepdims=True)
    if not np.isfinite(top).all():
        who = data.subjects[int(np.argmin(np.isfinite(top[:, 0])))].id
        raise SolverError(f"model {data.model.name}, subject {who}: no draw of its etas could be solved; look at its schedule")
    raw = np.exp(d.weight - top)
    groups = np.stack([g.mean(axis=1) for g in np.array_split(raw, GROUPS, axis=1)], axis=1)
    mean = groups.mean(axis=1)
    error = 2.0 * np.std(groups, axis=1, ddof=1) / math.sqrt(GROUPS) / mean
    smooth, khat = smooth_weights(d.weight)
    centre, spread = moments(d.eta, raw / raw.sum(axis=1, keepdims=True))
    sd = np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2), 0.0))
    return Marginal(-2.0 * (top[:, 0] + np.log(mean)), error, effective_size(smooth), khat, d.mode, centre, sd)


# ---- derivatives ---------------------------------------------------------------------------------------------------
def _twice(f: Callable[[Any], Any], v: Any) -> tuple[Any, Any, Any]:
    """Value, gradient and Hessian of f at v (n,), by forward differentiation; derivatives lead."""
    units = jnp.eye(v.shape[0], dtype=v.dtype)
    once = lambda u, e: jax.jvp(f, (u,), (e,))  # noqa: E731
    along = lambda e, d: jax.jvp(lambda u: once(u, d), (v,), (e,))  # noqa: E731
    both = lambda e: jax.vmap(lambda d: along(e, d), out_axes=((None, 0), (None, 0)))(units)  # noqa: E731
    (value, gradient), (_, hessian) = jax.vmap(both, out_axes=((None, None), (0, 0)))(units)
    return value, gradient, hessian


class _Moments(NamedTuple):
    """Over the draws so far, lanes last: largest log weight, sum of weights, of weighted scores, of weighted second derivatives
    less half the scores' products, and of squared weights with the scores' moments up to the second."""

    top: Any
    mass: Any
    first: Any
    second: Any
    noise: Any


def _no_moments(m: int, lanes: int) -> _Moments:
    zeros = (jnp.zeros((*s, lanes)) for s in ((), (m,), (m, m), (m + 1, m + 1)))
    return _Moments(jnp.full(lanes, -jnp.inf), *zeros)


def _add(old: _Moments, logw: Any, gradient: Any, hessian: Any) -> _Moments:
    """Moments with some draws more: log weights (chunk, lanes), derivatives of the complete objective in front of those axes."""
    logw = jnp.where(jnp.isfinite(logw), logw, -jnp.inf)
    top = jnp.maximum(old.top, jnp.max(logw, axis=0))
    safe = jnp.where(jnp.isfinite(top), top, 0.0)
    w, less = jnp.exp(logw - safe), jnp.exp(old.top - safe)
    clean = lambda v: jnp.where(logw > top - NEGLIGIBLE, v, 0.0)  # noqa: E731  (those of a far draw may overflow)
    gradient, hessian = clean(gradient), clean(hessian)
    mixed = hessian - 0.5 * gradient[:, None] * gradient[None, :]
    one = jnp.concatenate([gradient, jnp.ones((1, *gradient.shape[1:]))])  # so that moments of all orders come at once
    return _Moments(
        top,
        old.mass * less + jnp.sum(w, axis=0),
        old.first * less + jnp.einsum("cl,icl->il", w, gradient),
        old.second * less + jnp.einsum("cl,ijcl->ijl", w, mixed),
        old.noise * less**2 + jnp.einsum("cl,icl,jcl->ijl", w**2, one, one),
    )


@lru_cache(maxsize=32)
def program(model: Model, plan: Plan, layout: Layout, role: Roles, chunk: int) -> Any:
    """Program for `map_blocks`: at x with draws made for x_ref, the objective (lanes,), its gradient (lanes, x) and Hessian
    (lanes, x, x), and the gradient's noise.

    shared (x, x_ref), blocks (data, etas (draws, etas, lanes), log density of the proposal (draws, lanes))."""
    m = len(layout)
    fixed = len(layout.thetas) + len(layout.sigmas)
    acting = (*role.direct, *range(len(layout.thetas), fixed))

    def run(shared: Any, blocks: Any) -> Any:
        x, ref = shared
        data, etas, density = blocks
        n, lanes = etas.shape[1:]
        block = Block(model, plan, tiled(data, chunk))
        base = layout.population(ref)
        height = lambda x: centres(model, layout.population(x).theta, data, n)  # noqa: E731

        def data_part(v: Any, eta: Any) -> Any:
            return block.data_objective(block.predict(replaced(layout, base, acting, v), eta))

        def prior_part(x: Any, eta: Any) -> Any:
            """(chunk, lanes) of etas that move so that the individual parameters stay."""
            held = x.at[jnp.array(role.through, int)].set(ref[jnp.array(role.through, int)])
            moved = eta - (height(x) - height(held))
            w = prior(layout.population(x).omega)
            return jnp.einsum("cil,ij,cjl->cl", moved, w.precision, moved) + w.logdet

        def some(sums: _Moments, here: Any) -> tuple[_Moments, None]:
            eta, logq = here  # (chunk, etas, lanes), (chunk, lanes)
            flat = jnp.moveaxis(eta, 1, 0).reshape(n, chunk * lanes)
            fold = lambda v: v.reshape(*v.shape[:-1], chunk, lanes)  # noqa: E731
            value, gradient, hessian = _twice(lambda v: prior_part(v, eta), x)
            if acting:
                at = jnp.array(acting)
                v, g, h = map(fold, _twice(lambda v: data_part(v, flat), x[at]))
                value, gradient = value + v, gradient.at[at].add(g)
                hessian = hessian.at[at[:, None], at[None, :]].add(h)
            else:
                value = value + fold(data_part(jnp.zeros(0), flat))
            return _add(sums, -0.5 * (value + LN_2PI * n) - logq, gradient, hessian), None

        parts = (etas.reshape(-1, chunk, n, lanes), density.reshape(-1, chunk, lanes))
        sums, _ = jax.lax.scan(some, _no_moments(m, lanes), parts)
        gradient = sums.first / sums.mass
        hessian = sums.second / sums.mass + 0.5 * gradient[:, None] * gradient[None, :]
        centred = jnp.concatenate([jnp.broadcast_to(jnp.eye(m)[:, :, None], (m, m, lanes)), -gradient[:, None]], axis=1)
        noise = jnp.einsum("ikl,kml,jml->ijl", centred, sums.noise, centred) / sums.mass**2
        value = -2.0 * (sums.top + jnp.log(sums.mass))
        return value, gradient.T, jnp.moveaxis(hessian, -1, 0), jnp.moveaxis(noise, -1, 0)

    return run


def derivatives(data: Problem, layout: Layout, role: Roles, x: Floats, ref: Floats, d: Draws) -> Information:
    """Objective and derivatives at x of the likelihood at draws made for `ref`."""
    plan, count = data.prepared.timeline.plan, d.eta.shape[1]
    chunk = side_by_side(data.blocks.block, count, plan)
    density = d.density
    eta = pad_draws(d.eta, chunk)
    density = np.concatenate([density, np.full((len(density), eta.shape[1] - count), np.inf)], axis=1)  # padding has no weight
    etas, densities = data.cut(np.moveaxis(eta, 0, -1)), data.cut(density.T)
    tree = data.blocks._replace(tree=(data.blocks.tree, etas.tree, densities.tree))
    out = map_blocks(program(data.model, plan, layout, role, chunk), (np.asarray(x, float), np.asarray(ref, float)), tree)
    value, gradient, hessian, noise = (data.in_subject_order(v) for v in out)
    return Information(value + 2.0 * math.log(count), gradient, hessian.sum(axis=0), noise.sum(axis=0))


def information(
    data: Problem, layout: Layout, x: Floats, *, seed: int, draws: int = 1000, start: Floats | None = None
) -> Information:
    """Gradient by subject and Hessian of the marginal −2 log-likelihood at x, in layout coordinates."""
    return at(data, layout, x, seed=seed, draws=draws, start=start)[0]


def at(
    data: Problem, layout: Layout, x: Floats, *, seed: int, draws: int = 1000, start: Floats | None = None
) -> tuple[Information, Marginal]:
    """`information` and `objective` at x, from the same draws."""
    with precision():
        role = roles(data, layout, np.asarray(x, float))
        d = sample(data, layout.population(jnp.asarray(x)), seed=seed, draws=draws, start=start)
        return derivatives(data, layout, role, x, x, d), marginal(data, d)


# ---- maximum -------------------------------------------------------------------------------------------------------
def run(
    data: Problem,
    layout: Layout,
    x0: Floats,
    *,
    seed: int,
    draws: int = 300,
    max_iterations: int = 60,
    report: Callable[[int, float, Floats], None] | None = None,
) -> Estimate:
    """Maximum of the marginal likelihood from x0: Newton steps on the likelihood at draws that are made anew, of the same
    points, before each.

    report(iteration, objective, x). Converged: a further step would lower the objective by less than 0.001; otherwise the
    message says by how much it still would.
    """
    with precision():
        x = np.asarray(x0, float)
        role, start = roles(data, layout, x), None
        trace, objectives, gain, radius = [], [], np.inf, LONGEST
        held: tuple[float, Floats, Information, Draws] | None = None  # where the next step starts from
        for k in range(max_iterations):
            d = sample(data, layout.population(jnp.asarray(x)), seed=seed, draws=draws, start=start)
            found = derivatives(data, layout, role, x, x, d)
            value = float(found.value.sum())
            trace.append(x)
            objectives.append(value)
            if report:
                report(k + 1, value, x)
            if held is not None and not value < held[0] + NOISE:  # a step too far: back, and a shorter one
                radius *= 0.5
            else:
                radius, held = min(2.0 * radius, LONGEST), (value, x, found, d)
            start = held[3].mode
            step, gain = _newton(held[2].gradient.sum(axis=0), held[2].hessian)
            if gain < LEAST:
                break
            x = held[1] - step * min(1.0, radius / max(float(np.abs(step).max()), 1e-300))
        if held is None:
            raise DataError("nothing to do", column="max_iterations", value=max_iterations, remedy="give 1 or more")
        _, x, found, d = held
        m = marginal(data, d)
        words = "converged" if gain < LEAST else f"the objective could still fall by {gain:.2g}"
        return Estimate(
            x, found.error, np.array(trace), np.array(objectives), m.mean, m.sd, m.mode, gain < LEAST, words, len(trace)
        )


def _newton(gradient: Floats, hessian: Floats) -> tuple[Floats, float]:
    """Newton step with directions of negative curvature turned, and by how much it promises to lower the objective."""
    size, directions = np.linalg.eigh(hessian)
    along = directions.T @ gradient
    safe = np.maximum(np.abs(size), 1e-6 * np.abs(size).max())
    return directions @ (along / safe), float(0.5 * np.sum(along**2 / safe))
