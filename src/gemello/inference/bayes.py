"""Priors of a population fit and its posterior density with gradient, many posteriors and chains in lanes.

Coordinates of a chain: x (`Layout`), then z_s for every subject with eta_s = L z_s, z_s standard normal a priori (non-centred:
Betancourt & Girolami 2015; L the Cholesky factor of OMEGA). The gradient is pushed forward through the solver along the thetas,
the residual parameters and the etas only: OMEGA acts through the etas, so its part follows by the chain rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ModelError
from gemello.engine.plan import Plan
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Block, Population, Problem
from gemello.model.contract import Model

THETA_SD = {"log": 1.0, "logit": 1.5, "linear": 2.0}  # of the coordinate: by default a factor of 7 either way holds 95 %
RESIDUAL_SD = 1.0  # of ln(residual parameter)
OMEGA_SCALE = 2.0  # SD of the half-normal prior of an eta's SD, in SDs of the parameter table
CORRELATION = "correlation"  # name of the prior of correlations among priors

Floats = NDArray[np.float64]


# ---- priors --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Normal:
    """Normal on the scale of the layout's coordinate (ln; logit between the bounds; a multiple of the table's value): centre
    in the parameter's unit, sd on that scale."""

    centre: float
    sd: float


@dataclass(frozen=True)
class HalfNormal:
    """Density ∝ exp(−v²/(2 scale²)) of a v above 0; for OMEGA, of the eta's standard deviation."""

    scale: float


@dataclass(frozen=True)
class HalfT:
    """Density ∝ (1 + (v/scale)²/degrees)^(−(degrees + 1)/2) of a v above 0; for OMEGA, of the eta's standard deviation."""

    scale: float
    degrees: float = 3.0


@dataclass(frozen=True)
class LKJ:
    """Density ∝ |R|^(shape − 1) of the correlation matrix R of each block of OMEGA (Lewandowski, Kurowicka & Joe 2009)."""

    shape: float = 2.0


Distribution = Normal | HalfNormal | HalfT


@dataclass(frozen=True)
class Priors:
    """Prior of every coordinate of a layout. values: thetas, then residual parameters; sds: standard deviations of the etas,
    in the order of `layout.etas` (None: not estimated), then of what varies between occasions, in the order of
    `layout.changing`."""

    layout: Layout
    values: tuple[Distribution, ...]
    sds: tuple[Distribution | None, ...]
    correlation: LKJ

    @property
    def kinds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the families: what a program is compiled for."""
        return tuple(type(d).__name__ for d in self.values), tuple(type(d).__name__ for d in self.sds)

    @property
    def numbers(self) -> tuple[Floats, Floats, float]:
        """Their numbers, (values, 2), (standard deviations, 2) and the shape of LKJ."""
        entries = (*self.layout.thetas, *self.layout.sigmas)
        values = [_numbers(d, e.inverse) for d, e in zip(self.values, entries, strict=True)]
        sds = [_numbers(d, np.log) if d else (0.0, 1.0) for d in self.sds]
        return np.reshape(values, (-1, 2)), np.reshape(sds, (-1, 2)), self.correlation.shape

    def words(self) -> tuple[str, ...]:
        """One line for each prior, to be printed with a result."""
        out = []
        for d, e in zip(self.values, (*self.layout.thetas, *self.layout.sigmas), strict=True):
            out.append(_words(e.name, d, {"log": "ln ", "logit": "logit ", "linear": ""}[e.transform], e.scale))
        between = (*(f"SD({n})" for n in self.layout.etas), *(f"SD({n}) between occasions" for n in self.layout.changing))
        out += [_words(n, d, "ln ", 1.0) for n, d in zip(between, self.sds, strict=True) if d]
        if any(len(b) > 1 for b in self.layout.blocks):
            out.append(f"correlations of etas ~ LKJ({self.correlation.shape:g})")
        return tuple(out)


def _numbers(d: Distribution, inverse: Any) -> tuple[float, float]:
    if isinstance(d, Normal):
        return float(inverse(d.centre)), d.sd
    return (d.scale, d.degrees) if isinstance(d, HalfT) else (d.scale, 0.0)


def _words(name: str, d: Distribution, scale: str, unit: float) -> str:
    if isinstance(d, Normal):
        return f"{scale}{name} ~ normal({scale}{d.centre:g}, {d.sd * unit:g})"
    more = f", {d.degrees:g} degrees of freedom" if isinstance(d, HalfT) else ""
    return f"{name} ~ half-{'t' if more else 'normal'}({d.scale:g}{more})"


def priors(data: Problem, layout: Layout, given: Mapping[str, Any] | None = None) -> Priors:
    """Priors of a fit: weakly informative ones around the parameter table, but for what is `given` by name.

    By default ln theta ~ normal(ln table value, 1) (logit: 1.5, linear: twice its size), ln residual ~ normal(ln table value, 1),
    the SD of an eta half-normal with twice the table's SD, correlations LKJ(2). Names are those of `layout.names`: a theta or
    residual parameter, "OMEGA(CL,CL)" for the standard deviation of CL's eta, "OCCASION(CL,CL)" for that between occasions; and
    "correlation". Raises ModelError.
    """
    rest, table = dict(given or {}), data.model.parameters
    correlation = rest.pop(CORRELATION, LKJ())
    entries = (*layout.thetas, *layout.sigmas)
    values = []
    for e in entries:
        row = table[e.name]
        sd = RESIDUAL_SD if row.kind == "residual" else THETA_SD[e.transform]
        centre = row.value if row.value > 0 or e.transform != "log" else e.forward(0.0)
        values.append(rest.pop(e.name, Normal(float(centre), sd)))
        if not isinstance(values[-1], Normal) and e.transform != "log":
            raise ModelError(
                f"prior of {e.name}: half distributions are for parameters above 0 without an upper bound; give Normal"
            )
    estimated = {layout.etas[i] for i, j in layout.elements if i == j}
    start = dict(zip(layout.etas, layout.scale, strict=True))
    sds = [rest.pop(f"OMEGA({n},{n})", HalfNormal(OMEGA_SCALE * start[n])) if n in estimated else None for n in layout.etas]
    for n, scale in zip(layout.changing, layout.changing_scale, strict=True):
        sds.append(rest.pop(f"OCCASION({n},{n})", HalfNormal(OMEGA_SCALE * scale)))
    if rest:
        known = ", ".join((*layout.names, CORRELATION))
        raise ModelError(f"priors: nothing of the name {', '.join(map(repr, rest))} is estimated; give some of {known}")
    for d in (*values, *sds, correlation):
        numbers = [] if d is None else list(vars(d).values())
        if not all(np.isfinite(v) for v in numbers) or any(v <= 0 for v in numbers[1 if isinstance(d, Normal) else 0 :]):
            raise ModelError(f"prior {d}: give finite numbers, scales above 0")
    return Priors(layout, tuple(values), tuple(sds), correlation)


def _log_density(kind: str, a: Any, b: Any, x: Any, v: Any) -> Any:
    """Of the coordinate x with v = exp(x) for the half distributions, without constants."""
    if kind == "Normal":
        return -0.5 * ((x - a) / b) ** 2
    if kind == "HalfNormal":
        return -0.5 * (v / a) ** 2 + x
    return -0.5 * (b + 1.0) * jnp.log1p((v / a) ** 2 / b) + x


def log_prior(layout: Layout, kinds: Any, numbers: Any, x: Any) -> Any:
    """(chains,) log prior density of the coordinates x (x, chains), without constants.

    Row i of a block's factor L is SD_i times a row of the correlations' factor C. In these terms the density is that of the SD
    times C_ii^(K − i + 2 shape − 2) (K: size of the block; Lewandowski et al. 2009, section 3.2, for Cholesky factors), and the
    change of variables to the row of L, its diagonal as a logarithm, brings C_ii SD_i^(1 − i) L_ii.
    """
    (families, sd_families), (values, sds, shape) = kinds, numbers
    total = jnp.zeros(x.shape[1:])
    for k, kind in enumerate(families):
        total += _log_density(kind, values[k, 0], values[k, 1], x[k], jnp.exp(x[k]))
    factor = jax.vmap(layout.factor, in_axes=-1, out_axes=-1)(x)
    for block in layout.blocks:
        size = len(block)
        for i, name in enumerate(block, start=1):
            at = layout.etas.index(name)
            if sd_families[at] == "NoneType":
                continue
            sd = jnp.sqrt(jnp.sum(factor[at] ** 2, axis=0))
            log_sd, log_own = jnp.log(sd), jnp.log(factor[at, at])
            total += _log_density(sd_families[at], sds[at, 0], sds[at, 1], log_sd, sd) - log_sd  # density of the SD itself
            total += (size - i + 2.0 * shape - 1.0) * (log_own - log_sd if i > 1 else 0.0) + (1.0 - i) * log_sd + log_own
    first = len(layout) - len(layout.changing)
    for k in range(len(layout.changing)):
        at = len(layout.etas) + k
        total += _log_density(sd_families[at], sds[at, 0], sds[at, 1], x[first + k], jnp.exp(x[first + k]))
    return total


def prior_draws(p: Priors, count: int, rng: np.random.Generator) -> Floats:
    """(count, x) coordinates drawn from the prior."""

    def draw(d: Distribution, at: Any) -> Any:
        if isinstance(d, Normal):
            return at + d.sd * rng.standard_normal(count)
        tail = rng.standard_t(d.degrees, count) if isinstance(d, HalfT) else rng.standard_normal(count)
        return np.log(d.scale * np.abs(tail))

    layout, (values, sds, shape) = p.layout, p.numbers
    x = np.zeros((count, len(layout)))
    for k, d in enumerate(p.values):
        x[:, k] = draw(d, values[k, 0])
    factor = np.zeros((count, len(layout.etas), len(layout.etas)))
    for block in layout.blocks:
        rows = [layout.etas.index(n) for n in block]
        for i, row in enumerate(rows):
            prior = p.sds[row]
            if prior is None:
                continue
            sd = np.exp(draw(prior, sds[row, 0]))
            share = rng.beta(0.5 * i, 0.5 * (len(block) - i - 1 + 2.0 * shape), count) if i else np.zeros(count)
            way = rng.standard_normal((count, i))
            way *= np.sqrt(share)[:, None] / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-300)
            factor[:, row, rows[:i]] = sd[:, None] * way
            factor[:, row, row] = sd * np.sqrt(1.0 - share)
    first = len(p.values)
    for k, (i, j) in enumerate(layout.elements, start=first):
        x[:, k] = np.log(factor[:, i, i]) if i == j else factor[:, i, j] / layout.scale[i]
    for k in range(len(layout.changing)):
        at = len(layout.etas) + k
        between = p.sds[at]
        if between is not None:
            x[:, len(layout) - len(layout.changing) + k] = draw(between, sds[at, 0])
    return x


# ---- densities -----------------------------------------------------------------------------------------------------
def _pushed(model: Model, plan: Plan, data: Any, population: Any, c: Any, eta: Any) -> tuple[Any, Any]:
    """Data objective (lanes,), and its derivatives by c (numbers, lanes) and eta (etas, lanes), (numbers + etas, lanes)."""
    block = Block(model, plan, data)
    m, n = len(c), len(eta)

    def objective(c: Any, eta: Any) -> Any:
        return block.data_objective(block.predict(population(c), eta))

    units = jnp.eye(m + n, dtype=eta.dtype)
    along = lambda e: (jnp.broadcast_to(e[:m, None], c.shape), jnp.broadcast_to(e[m:, None], eta.shape))  # noqa: E731
    return jax.vmap(lambda e: jax.jvp(objective, (c, eta), along(e)), out_axes=(None, 0))(units)


@lru_cache(maxsize=64)
def population_density(model: Model, plan: Plan, layout: Layout, kinds: Any) -> Any:
    """Density of a population's posterior for `hamiltonian.program`.

    shared: `data` (leaves (..., subjects)), `priors` (numbers). own: {} or what differs by chain, (..., subjects, chains) by name
    of a leaf of data. q: (x + subjects · etas, chains).
    """
    m, etas = len(layout.thetas) + len(layout.sigmas), len(layout.etas) + layout.occasions * len(layout.changing)
    factors = jax.vmap(layout.factor, in_axes=-1, out_axes=-1)
    populations = jax.vmap(layout.population, in_axes=-1, out_axes=-1)

    def density(shared: Any, own: Any, q: Any) -> tuple[Any, Any]:
        chains = q.shape[-1]
        subjects = shared["data"]["lane"].shape[-1]
        lanes = lambda v: v.reshape(*v.shape[:-2], subjects * chains)  # noqa: E731
        data = jax.tree.map(lambda v: lanes(jnp.broadcast_to(v[..., None], (*v.shape, chains))), shared["data"])
        data = {**data, **{k: lanes(v) for k, v in own.items()}}
        x, z = q[: len(layout)], q[len(layout) :].reshape(subjects, etas, chains)
        factor, pull = jax.vjp(factors, x)
        eta = jnp.sum(factor[:, :, None] * jnp.moveaxis(z, 0, 1)[None], axis=1)  # (etas, subjects, chains)

        def population(c: Any) -> Population:
            rest = jnp.broadcast_to(x[m:, None], (len(layout) - m, subjects, chains))
            return populations(jnp.concatenate([c, lanes(rest)]))

        c = lanes(jnp.broadcast_to(x[:m, None], (m, subjects, chains)))
        value, slope = _pushed(model, plan, data, population, c, lanes(eta))
        value, slope = value.reshape(subjects, chains), slope.reshape(m + etas, subjects, chains)
        by_eta = slope[m:]
        by_z = jnp.sum(factor[:, :, None] * by_eta[:, None], axis=0)  # (etas, subjects, chains)
        (by_x,) = pull(jnp.sum(by_eta[:, None] * jnp.moveaxis(z, 0, 1)[None], axis=2))
        by_x = by_x.at[:m].add(jnp.sum(slope[:m], axis=1))
        prior, back = jax.vjp(lambda v: log_prior(layout, kinds, shared["priors"], v), x)
        (of_prior,) = back(jnp.ones_like(prior))
        logp = prior - 0.5 * jnp.sum(value, axis=0) - 0.5 * jnp.sum(z**2, axis=(0, 1))
        gradient_z = -0.5 * jnp.moveaxis(by_z, 0, 1) - z
        return logp, jnp.concatenate([of_prior - 0.5 * by_x, gradient_z.reshape(subjects * etas, chains)])

    return density


@lru_cache(maxsize=64)
def individual_density(model: Model, plan: Plan) -> Any:
    """Density of each subject's z given the population. shared: `population` and the `factor` of its OMEGA. own: each
    subject's data, leaves (..., chains)."""

    def density(shared: Any, own: Any, z: Any) -> tuple[Any, Any]:
        pop, factor = shared["population"], shared["factor"]
        none = jnp.zeros((0, z.shape[-1]), z.dtype)
        value, slope = _pushed(model, plan, own, lambda _: pop, none, factor @ z)
        return -0.5 * value - 0.5 * jnp.sum(z**2, axis=0), -0.5 * factor.T @ slope - z

    return density


def lanes_of(data: Problem) -> Any:
    """The data of all subjects, leaves (..., subjects) in the order of lanes."""

    def join(v: Any) -> NDArray[Any]:
        a = np.moveaxis(np.asarray(v), 0, -2)
        return a.reshape(*a.shape[:-2], -1)[..., : data.blocks.lanes]

    return jax.tree.map(join, data.blocks.tree)
