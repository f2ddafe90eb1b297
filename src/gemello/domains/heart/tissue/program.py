"""The compiled steps of a simulation: cells in blocks that stay in the cache, then diffusion by shifts in the box of nodes.

Cells stand in a list, one for each node of the tissue. Diffusion is done on the box that holds them, one long vector in which
each neighbour is a fixed number of places away, so that no index is looked up for it. Where the tissue fills its box, list and
box are the same. Both are shared out to the devices in equal parts; a part borrows the ends of the parts beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.tissue.reaction import advance

AXIS = "devices"
Shifts = tuple[tuple[int, ...], ...]


@lru_cache(maxsize=32)
def program(cell: CellModel, devices: int, block: int, shifts: Shifts, parts: int, pulses: int) -> Any:
    """(carry, constants, shared, from step, to step) → (carry, potentials at the electrodes), compiled once for these.

    carry: states, and when each node was activated and repolarised, in steps, arrays (nodes,). constants: arrays of the nodes,
    last axis; the stencils' weights (blocks, k, block); `into` and `back` (indices from list to box and from box to list) where
    the tissue does not fill its box. shared: what all devices see whole. shifts: for each stencil where its neighbours are, in
    places.
    """
    v_at = list(cell.states).index(cell.voltage)

    def step(i: Any, carry: Any, constants: Any, shared: Any) -> Any:
        y, up, down = carry
        before, y = y[v_at], cells(cell, block, y, stimulus(i, constants["sites"], shared["pulses"], pulses), constants, shared)
        y[v_at] = after = diffuse(y[v_at], constants, shared["dt"], shifts, parts, devices)
        high, low = shared["levels"]
        at = lambda level: i + (level - before) / (after - before)  # noqa: E731
        up = jnp.where(jnp.isnan(up) & (after > high) & (before <= high), at(high), up)
        down = jnp.where(jnp.isnan(down) & ~jnp.isnan(up) & (after < low) & (before >= low), at(low), down)
        return y, up, down

    def steps(carry: Any, constants: Any, shared: Any, first: Any, last: Any) -> Any:
        carry = lax.fori_loop(first, last, lambda i, c: step(i, c, constants, shared), carry)
        ecg = jnp.sum(constants["leads"] * carry[0][v_at], axis=1)
        return carry, lax.psum(ecg, AXIS) if devices > 1 else ecg

    # on a CPU the older emitters make faster kernels of loops like these (engine/lanes.py)
    options = {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else None
    return jax.jit(_sharded(steps, devices) if devices > 1 else steps, donate_argnums=0, compiler_options=options)


def stimulus(i: Any, sites: Any, pulses: Any, number: int) -> Any:
    """Stimulus of every node at step i, uA/uF: sites (pulses, nodes), pulses as `simulate` times them."""
    start, length, period, times, amplitude = pulses
    since = i - start
    on = (since >= 0) & (since % period < length) & (since // period < times)
    total = jnp.zeros_like(sites, shape=sites.shape[1:])
    for k in range(number):
        total = total + jnp.where(on[k], amplitude[k], 0.0) * sites[k]
    return total


def cells(cell: CellModel, block: int, y: Sequence[Any], current: Any, constants: Any, shared: Any) -> list[Any]:
    """States (nodes,) after every cell has taken its step."""

    def one(b: Any) -> Any:
        state, own, i = b
        p = cell.individual_type(**{**shared["scalars"], **own})
        return list(advance(cell, cell.state_type(*state), p, i, shared["dt"]))

    cut = jax.tree.map(lambda v: v.reshape(-1, block), (list(y), constants["lanes"], current))
    return [v.reshape(-1) for v in lax.map(one, cut)]


def diffuse(v: Any, constants: Any, dt: Any, shifts: Shifts, parts: int, devices: int) -> Any:
    """Potentials (nodes,) after dt of diffusion, in equal steps of forward Euler."""
    whole = (lambda w: lax.all_gather(w, AXIS, tiled=True)) if devices > 1 else (lambda w: w)
    for _ in range(parts):
        change = whole(v)[constants["into"]] if "into" in constants else v
        for at, weights in zip(shifts, constants["stencils"], strict=True):
            change = stencil(change, at, weights, devices)
        if "back" in constants:
            change = whole(change)[constants["back"]]
        v = v + dt / parts * change
    return v


def stencil(v: Any, shifts: Sequence[int], weights: Any, devices: int) -> Any:
    """Σ_k weights_k v[· + shift_k]: v (places,), weights (blocks, k, block) → (places,).

    Block by block, so that a stencil is done when the next begins: merged, they would have the product of their lengths.
    """
    reach, block = max(map(abs, shifts)), weights.shape[-1]
    left, right = jnp.zeros_like(v, shape=(reach,)), jnp.zeros_like(v, shape=(reach,))
    if devices > 1:
        left = lax.ppermute(v[-reach:], AXIS, [(d, d + 1) for d in range(devices - 1)])
        right = lax.ppermute(v[:reach], AXIS, [(d + 1, d) for d in range(devices - 1)])
    wide = jnp.concatenate([left, v, right])

    def one(b: Any) -> Any:
        first, weight = b
        return sum(weight[k] * lax.dynamic_slice(wide, (first + (reach + s),), (block,)) for k, s in enumerate(shifts))

    starts = jnp.arange(weights.shape[0], dtype=jnp.int32) * block
    return lax.map(one, (starts, weights)).reshape(-1)


def _sharded(steps: Any, devices: int) -> Any:
    """`steps` with the nodes shared out: the last axis of every array, the blocks of stencils; `shared` is whole everywhere."""
    mesh = jax.make_mesh((devices,), (AXIS,), devices=jax.devices()[:devices])

    def run(carry: Any, constants: Any, shared: Any, first: Any, last: Any) -> Any:
        last_axis = lambda v: PartitionSpec(*[None] * (v.ndim - 1), AXIS)  # noqa: E731
        whole, nodes = PartitionSpec(), jax.tree.map(last_axis, carry)
        given = {n: PartitionSpec(AXIS) if n == "stencils" else jax.tree.map(last_axis, v) for n, v in constants.items()}
        inner = jax.shard_map(
            steps, mesh=mesh, in_specs=(nodes, given, whole, whole, whole), out_specs=(nodes, whole), check_vma=False
        )
        return inner(carry, constants, shared, first, last)

    return run
