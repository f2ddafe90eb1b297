"""Tsit5 with one pace for the whole block, where its lanes share one schedule: the cheapest step there is.

With one clock the choice of a step is a handful of scalars, no lane is masked, and an output between two steps is the same
step's polynomial in every lane. The worst lane sets the pace, so this pays for lanes that are alike (`model/simulate.py` sorts
them). When a lane cannot go on, the block leaves the march where it stands, and each lane walks on at its own pace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from gemello.engine import dense, pace
from gemello.engine.kernel import loop
from gemello.engine.solvers import tsit5
from gemello.engine.solvers.stages import Array, Slope


class March(NamedTuple):
    """State of the loop over steps of one segment; s and h are scalars."""

    s: Array
    h: Array  # next step in s
    y: tuple[Array, ...]
    slope: tuple[Array, ...]
    accepted: Array
    rejected: Array
    trouble: Array
    seen: tuple[Array, ...]
    next: Array


def march(f: Slope, t0: Array, clock: Array, m: March, reader: dense.Reader, rtol: float, atol: float, max_steps: int) -> March:
    """To the segment's end, or to trouble. Lanes with clock 0 do not count."""
    counts = lax.stop_gradient(clock) > 0
    begin = lax.stop_gradient(t0)[0]
    length = jnp.max(lax.stop_gradient(clock))
    most = m.accepted + m.rejected + max_steps

    def body(m: March) -> March:
        now, last = pace.attempt(m.s, m.h)
        step = tsit5.step(f, t0 + m.s * clock, m.y, now * clock, m.slope)
        worst = jnp.max(jnp.where(counts, pace.square(step.error, m.y, step.y, rtol, atol), 0))
        ok = worst <= 1
        factor = jnp.clip(pace.SAFETY * jnp.maximum(worst, 1e-20) ** (-0.5 / pace.ORDER), pace.SHRINK, pace.GROW)
        s = jnp.where(ok, jnp.where(last, 1, m.s + now), m.s)
        accepted, rejected = m.accepted + ok, m.rejected + ~ok
        trouble = (s < 1) & ((~ok & pace.too_short(now, m.s)) | (accepted + rejected >= most))
        row, seen = _read_out(m, reader, dense.Bend(*step.bend), step.y, now, s, begin, length)
        y = tuple(jnp.where(ok, b, a) for a, b in zip(m.y, step.y, strict=True))
        slope = tuple(jnp.where(ok, b, a) for a, b in zip(m.slope, step.slope, strict=True))
        return March(s, pace.grown(now, factor, ok, m.h), y, slope, accepted, rejected, trouble, seen, row)

    return loop(lambda m: (m.s < 1) & ~m.trouble, body, m)


def _read_out(
    m: March, reader: dense.Reader, bend: dense.Bend, new: tuple[Array, ...], now: Array, s: Array, begin: Array, length: Array
) -> tuple[Array, tuple[Array, ...]]:
    """The slots that this step has passed (none if it was rejected), and the next slot."""

    def clock_at(k: Array) -> Array:
        return (lax.dynamic_index_in_dim(reader.times, k, keepdims=False)[0] - begin) / length

    def due(carry: Any) -> Array:
        return (carry[0] < reader.stop) & (s > m.s) & (jnp.minimum(clock_at(carry[0]), 1) <= s)

    def one(carry: Any) -> Any:
        k, seen = carry
        x = (clock_at(k) - m.s) / now
        values = tuple(dense.between(x, m.y[i], new[i], bend.a[i], bend.b[i], bend.c[i]) for i in reader.wanted)
        out = reader.observe(k, values)
        return k + 1, tuple(lax.dynamic_update_index_in_dim(old, v, k, 0) for old, v in zip(seen, out, strict=True))

    repeat: Callable[..., Any] = lax.while_loop
    return repeat(due, one, (m.next, m.seen))
