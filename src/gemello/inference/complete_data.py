"""The likelihood of data and etas together, as SAEM and importance sampling take it: parameters split by how they act.

A theta that moves individual parameters only through the centre of their distribution (log p ~ N(h(theta, covariates), OMEGA),
"mu-referenced") is estimated with the individual parameters held: the data then say nothing more about it, and no equation is
solved. All other thetas and the residual parameters act on the data at given etas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from gemello.base.errors import UnsupportedError
from gemello.engine.lanes import Cut
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Population, Problem
from gemello.model.contract import Model

PROBES = 3  # points at which the roles of thetas are looked at
SAME = 1e-9  # relative size below which a derivative counts as 0, or two as equal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roles:
    """Positions in x. through: thetas that act through the centres of individual parameters alone; direct: other thetas.
    linear: whether all centres are linear in the former's coordinates."""

    through: tuple[int, ...]
    direct: tuple[int, ...]
    linear: bool


@dataclass(frozen=True)
class Estimate:
    """What a stochastic method found.

    x: layout coordinates. error: their Monte Carlo standard errors (x,). trace (iterations, x) and objectives (iterations,): what
    each iteration had, the complete −2 log-likelihood of SAEM, the marginal one of importance sampling. mean, sd, mode:
    (subjects, etas), of the etas given the data at x. converged, message: the method's own verdict, by the rule that its `run`
    states.
    """

    x: Floats
    error: Floats
    trace: Floats
    objectives: Floats
    mean: Floats
    sd: Floats
    mode: Floats
    converged: bool
    message: str
    iterations: int


def check_etas(data: Problem) -> None:
    """Raise UnsupportedError for a model without etas: then data and complete data are the same."""
    if data.etas == 0:
        raise UnsupportedError(f"model {data.model.name}: no parameter varies between subjects; fit it with method 'focei'")


def first_record(v: Any, lanes: int) -> Any:
    """(lanes,) from a scalar, (lanes,) or (records, lanes)."""
    v = jnp.asarray(v)
    return jnp.broadcast_to(v[0] if v.ndim == 2 else v, (lanes,))


def typical(model: Model, theta: dict[str, Any], data: Any) -> Any:
    """Individual parameters at etas 0 of a block's subjects."""
    return model.typical(model.theta_type(*(data["bound"].get(n, theta[n]) for n in model.parameters.theta_names)), data["cov"])


def transformed(model: Model, name: str, v: Any) -> Any:
    """A value of the individual parameter `name` on the scale on which it is typical + eta."""
    kind = model.parameters[name].distribution
    return jnp.log(v) if kind == "lognormal" else v if kind == "normal" else jnp.log(v / (1.0 - v))


def centres(model: Model, theta: dict[str, Any], data: Any, etas: int) -> Any:
    """Centre of each eta's individual parameter on its transformed scale, (etas, lanes); 0 for etas of occasions."""
    lanes = data["lane"].shape[-1]
    p = typical(model, theta, data)
    rows = [transformed(model, n, first_record(getattr(p, n), lanes)) for n in model.parameters.eta_names]
    rows = [jnp.where(jnp.isfinite(v), v, 0.0) for v in rows]  # a log-normal lag of 0 has no centre, and nothing moves it
    return jnp.stack([*rows, *(jnp.zeros(lanes) for _ in range(etas - len(rows)))])


def replaced(layout: Layout, pop: Population, positions: tuple[int, ...], values: Any) -> Population:
    """`pop` with the thetas and residual parameters at these positions of x set from their coordinates; others untouched, so
    that derivatives by `values` go only where those act."""
    entries = (*layout.thetas, *layout.sigmas)
    theta, sigma = dict(pop.theta), dict(pop.sigma)
    for k, i in enumerate(positions):
        (theta if i < len(layout.thetas) else sigma)[entries[i].name] = entries[i].forward(values[k])
    return pop._replace(theta=theta, sigma=sigma)


def roles(data: Problem, layout: Layout, x: Floats) -> Roles:
    """How each theta acts, found from derivatives at x and near it."""
    model, n = data.model, len(layout.thetas)
    names = model.parameters.eta_names
    subjects = {"cov": data.prepared.cov, "bound": data.prepared.bound, "lane": np.zeros(data.prepared.lanes)}
    lanes = data.prepared.lanes

    def look(t: Any) -> tuple[Any, Any]:
        """Centres and the parameters without etas, (parameters, records or 1, lanes)."""
        p = typical(model, layout.population(jnp.concatenate([t, x[n:]])).theta, subjects)
        depth = max([1, *(jnp.shape(v)[0] for v in p if jnp.ndim(v) == 2)])
        wide = lambda v: jnp.broadcast_to(v, (depth, lanes))  # noqa: E731
        inside = [wide(transformed(model, k, getattr(p, k))) for k in names]
        rest = [wide(jnp.asarray(v, float)) for k, v in p._asdict().items() if k not in names]
        return (jnp.stack(inside) if inside else jnp.zeros((0, depth, lanes))), (jnp.stack(rest) if rest else None)

    through = np.ones(n, bool)
    linear = np.ones(n, bool)
    first: Any = None
    for k in range(PROBES):
        t = jnp.asarray(x[:n] + 0.1 * k * np.cos(1.0 + np.arange(n)))
        inside, rest = (None if v is None else np.asarray(v) for v in jax.jacfwd(look)(t))
        assert inside is not None
        size = np.maximum(np.abs(inside).max(axis=(1, 2), initial=0.0, keepdims=True), 1e-300)
        first = inside if first is None else first
        through &= np.isfinite(inside).all(axis=(0, 1, 2)) & (np.abs(inside).max(axis=(0, 1, 2), initial=0.0) > 0)
        if rest is not None:
            through &= (rest == 0).all(axis=(0, 1, 2))
        flat = (np.abs(inside - inside[:, :1]) <= SAME * size).all(axis=(0, 1, 2))
        linear &= (np.abs(inside - first) <= SAME * size).all(axis=(0, 1, 2))
        through &= flat & (linear if inside.shape[1] > 1 else True)
    chosen = np.flatnonzero(through)
    return Roles(tuple(map(int, chosen)), tuple(int(i) for i in np.flatnonzero(~through)), bool(linear[chosen].all()))


def omega_basis(layout: Layout, x: Floats) -> tuple[Floats, Floats]:
    """OMEGA as a linear function of its estimated elements ω: basis G (elements, etas, etas) and the part F that is held, with
    OMEGA = F + Σ ω G."""
    first = len(layout.thetas) + len(layout.sigmas)
    by_x = np.asarray(jax.jacfwd(lambda v: layout.population(v).omega)(jnp.asarray(x)))[:, :, first:]
    natural = np.asarray(jax.jacfwd(layout.natural)(jnp.asarray(x)))[first:, first:]
    basis = np.moveaxis(by_x @ np.linalg.inv(natural), -1, 0)
    basis[np.abs(basis) < 1e-9] = 0.0
    omega, values = np.asarray(layout.population(jnp.asarray(x)).omega), np.asarray(layout.natural(jnp.asarray(x)))[first:]
    held = omega - np.einsum("k,kij->ij", values, basis)
    return basis, np.where(np.abs(held) < 1e-9 * np.abs(omega).max(initial=0.0), 0.0, held)


def tiled(data: Any, times: int) -> Any:
    """A block's data with its lanes repeated: lane k of copy c becomes lane c · lanes + k."""
    return jax.tree.map(lambda v: jnp.tile(v, (1,) * (v.ndim - 1) + (times,)), data)


# ---- a program that sees all blocks --------------------------------------------------------------------------------
def filled(blocks: Cut) -> tuple[NDArray[np.int32], Floats]:
    """Number of each block (blocks,), and 1 for its lanes that are subjects, 0 for those that fill up, (blocks, block)."""
    count = jax.tree.leaves(blocks.tree)[0].shape[0]
    there = np.arange(count * blocks.block).reshape(count, blocks.block) < blocks.lanes
    return np.arange(count, dtype=np.int32), there.astype(float)


def spread_out(tree: Any, devices: int) -> Any:
    """Leaves (blocks, ...) on the devices, as the data are."""
    if devices == 1:
        return tree
    mesh = jax.make_mesh((devices,), ("devices",), devices=jax.devices()[:devices])
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("devices")))


@lru_cache(maxsize=64)
def over_blocks(fn: Callable[[Any, Any, Any], Any], devices: int) -> Any:
    """Compiled `fn(total, shared, blocks) -> (shared, blocks)` that sees all blocks of its device at once.

    `total` sums a tree of arrays over the devices; what fn returns as shared must be the same on all of them.
    """
    options = {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else None  # as engine/lanes.py
    if devices == 1:
        return jax.jit(lambda shared, blocks: fn(lambda v: v, shared, blocks), compiler_options=options)
    mesh = jax.make_mesh((devices,), ("devices",), devices=jax.devices()[:devices])
    one, many = PartitionSpec(), PartitionSpec("devices")
    run = lambda shared, blocks: fn(lambda v: jax.lax.psum(v, "devices"), shared, blocks)  # noqa: E731
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(one, many), out_specs=(one, many), check_vma=False)
    return jax.jit(mapped, compiler_options=options)
