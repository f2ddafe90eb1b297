"""Readouts between the steps of lanes that each go at their own pace: a log of steps, and the polynomial over each.

Over a step from y0 to y1 (Tsit5 and Rodas5P have their own a, b, c, of order 4), with θ from 0 to 1,

    y(θ) = (1 - θ) y0 + θ y1 + θ (1 - θ) (a + b θ + c θ²)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from gemello.engine.solvers.stages import Array

#: Steps kept before they are read out: a power of 2, few enough to stay in the cache.
CAPACITY = 64


class Bend(NamedTuple):
    """Coefficients a, b, c of one step, a tuple of arrays (lanes,) each, one for each state."""

    a: tuple[Array, ...]
    b: tuple[Array, ...]
    c: tuple[Array, ...]


def between(x: Array, y0: Array, y1: Array, a: Array, b: Array, c: Array) -> Array:
    """The polynomial at θ = x."""
    return (1 - x) * (y0 + x * (a + x * (b + x * c))) + x * y1


class Log(NamedTuple):
    """Steps since the last readout. taken: how many. s: (CAPACITY + 1, lanes) clock after each; row 0 is where they began. rows:
    y after the step and its a, b, c for each state that is wanted, (CAPACITY + 1, lanes) each."""

    taken: Array
    s: Array
    rows: tuple[tuple[Array, Array, Array, Array], ...]


class Reading(NamedTuple):
    """What readouts carry from segment to segment: the log, (slots, lanes) of each value read out, the next slot to read."""

    log: Log
    seen: tuple[Array, ...]
    next: Array


class Reader(NamedTuple):
    """How to read out: times (slots, lanes) or (slots, 1), `stop` (scalar) the slot at which the segment ends, `wanted` states by
    index, and `observe`: (slot, values of the states wanted) -> values as in `Reading.seen`."""

    times: Array
    stop: Array
    wanted: tuple[int, ...]
    observe: Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]


def reading(slots: int, lanes: int, wanted: int, outputs: int, dtype: Any) -> Reading:
    empty = jnp.zeros((CAPACITY + 1, lanes), dtype)
    log = Log(jnp.zeros((), jnp.int32), empty, ((empty,) * 4,) * wanted)
    return Reading(log, (jnp.zeros((slots, lanes), dtype),) * outputs, jnp.zeros((), jnp.int32))


def begin(log: Log, s: Array, y: Sequence[Array], wanted: Sequence[int]) -> Log:
    """An empty log that starts at clocks `s` and states `y`."""
    rows: Any = tuple((old.at[0].set(y[i]), *bend) for i, (old, *bend) in zip(wanted, log.rows, strict=True))
    return Log(jnp.zeros_like(log.taken), log.s.at[0].set(s), rows)


def note(log: Log, s: Array, y: Sequence[Array], bend: Bend, wanted: Sequence[int]) -> Log:
    """The log with one more step, to clocks `s` and states `y`. A lane whose step was rejected notes that it stands still."""
    k = log.taken + 1
    put = lambda old, new: lax.dynamic_update_index_in_dim(old, new, k, 0)  # noqa: E731
    rows = tuple(
        (put(y_, y[i]), put(a, bend.a[i]), put(b, bend.b[i]), put(c, bend.c[i]))
        for i, (y_, a, b, c) in zip(wanted, log.rows, strict=True)
    )
    return Log(k, put(log.s, s), rows)


def _at(log: Log, s: Array) -> tuple[Array, ...]:
    """States at clocks `s` (lanes,), which lie between the first and the last row of the log."""
    lanes = s.shape[0]
    lane = lax.iota(jnp.int32, lanes)
    take = lambda v, k: v.reshape(-1).at[k * lanes + lane].get(mode="promise_in_bounds")  # noqa: E731
    target, clocks = lax.stop_gradient(s), lax.stop_gradient(log.s)
    before, half = jnp.zeros_like(lane), CAPACITY // 2
    while half:  # the last row before s, by halving
        go = (before + half <= log.taken) & (take(clocks, before + half) < target)
        before, half = jnp.where(go, before + half, before), half // 2
    after = jnp.minimum(before + 1, log.taken)
    start, end = take(clocks, before), take(clocks, after)
    moved = end > start
    x = (s - start) / jnp.where(moved, end - start, 1)
    out = []
    for y, a, b, c in log.rows:
        y1 = take(y, after)
        out.append(jnp.where(moved, between(x, take(y, before), y1, take(a, after), take(b, after), take(c, after)), y1))
    return tuple(out)


def read_out(r: Reading, reader: Reader, s: Array, t0: Array, clock: Array) -> Reading:
    """Read out every slot before `stop` that a lane has passed since the log began; lanes that have not keep their place."""
    first = r.log.s[0]
    moving = clock > 0

    def due(k: Array) -> tuple[Array, Array]:
        time = lax.dynamic_index_in_dim(reader.times, k, keepdims=False)
        at = jnp.where(moving, (time - t0) / jnp.where(moving, clock, 1), 1)
        return at, jnp.minimum(lax.stop_gradient(at), 1) <= s

    def body(carry: Any) -> Any:
        k, complete, seen, _ = carry
        at, passed = due(k)
        values = reader.observe(k, _at(r.log, at))
        mine = passed & (lax.stop_gradient(at) >= first)
        new = []
        for old, v in zip(seen, values, strict=True):
            row = lax.dynamic_index_in_dim(old, k, keepdims=False)
            new.append(lax.dynamic_update_index_in_dim(old, jnp.where(mine, v, row), k, 0))
        complete = complete + jnp.all(passed)
        return k + 1, complete, tuple(new), (k + 1 < reader.stop) & jnp.any(due(jnp.minimum(k + 1, reader.stop))[1])

    go = (r.next < reader.stop) & jnp.any(due(jnp.minimum(r.next, reader.stop))[1])
    _, complete, seen, _ = lax.while_loop(lambda c: c[3], body, (r.next, r.next, r.seen, go))
    return Reading(r.log, seen, complete)
