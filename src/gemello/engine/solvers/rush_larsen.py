"""Exponential Adams–Bashforth of order 2 with the diagonal of the Jacobian: Rush–Larsen's idea for every state.

Written as y' = a y + b, a the diagonal of the Jacobian (for a gate −1/τ; 0 where an explicit step will do), a step is
y + h φ₁(α h) (α y + β), with α and β extrapolated from this point and the one before (Coudière, Douanla-Lontsi & Pierre,
J Comput Appl Math 2018, RL2; here with variable steps). It takes one evaluation of the equations, and any a ≤ 0 keeps the
order: a serves stability alone. Where nothing came before it is the first-order step of Rush & Larsen (IEEE Trans Biomed Eng
1978) and Sundnes et al. (2009).

States of a Markov channel hold each other, x' = M x, at rates up to hundreds per ms; the diagonal alone does not tame them.
Such a block takes a step of the two-stage L-stable SDIRK of order 2 (Alexander, SIAM J Numer Anal 1977) with M extrapolated
to the middle of the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.engine.solvers import lu

Array = Any
GAMMA = 1.0 - math.sqrt(0.5)


class Coupled(NamedTuple):
    """A linear block of the system: the indices of its states, and M as rows (the number 0.0 where structurally zero)."""

    states: tuple[int, ...]
    matrix: Sequence[Sequence[Array]]


class Past(NamedTuple):
    """The point before: a and b of every state, b = y' − a y, (states, lanes); the entries of the blocks' matrices, (entries,
    lanes); and what rounding has taken from each state so far, given back at the next step (Kahan 1965): a concentration moves by
    less than a float32's last digit in a step."""

    a: Array
    b: Array
    entries: Array
    lost: Array


def nothing(y: Array, coupled: Sequence[Coupled]) -> Past:
    """The past where there is none. y: (states, lanes). coupled: blocks, whose matrices' zeros alone matter."""
    zero = jnp.zeros_like(y)
    n = sum(len(_places(c)) for c in coupled)
    return Past(zero, zero, jnp.zeros((n, *y.shape[1:]), y.dtype), zero)


def phi1(z: Array) -> Array:
    """φ₁(z) = (e^z − 1)/z for z ≤ 0 from the Padé approximant (0, 4) of e^z: order 4, 0 at −∞, and without an exponential."""
    z2 = z * z
    num = 1.0 - z * (1.0 / 2.0) + z2 * (1.0 / 6.0 - z * (1.0 / 24.0))
    den = 1.0 - z + z2 * (1.0 / 2.0 - z * (1.0 / 6.0) + z2 * (1.0 / 24.0))
    return num / den


def step(
    y: Array, slope: Array, a: Array, coupled: Sequence[Coupled], h: Array, ratio: Array, past: Past
) -> tuple[Array, Array, Past]:
    """One step of length h: the new state, by how much each state differs from a first-order step, and the present as past.

    y, slope (y' at y), a: (states, lanes). h: (lanes,). ratio: h over twice the step before, 0 where there is none, (lanes,).
    """
    bend = ratio * (slope - past.a * y - past.b)
    reach = h * phi1(jnp.minimum(a + ratio * (a - past.a), 0.0) * h)
    move = reach * (slope + bend) + past.lost
    new = y + move
    change, lost = reach * bend, move - (new - y)
    entries: list[Array] = []
    for c in coupled:
        places = _places(c)
        now = [jnp.broadcast_to(c.matrix[i][j], h.shape) for i, j in places]
        start = len(entries)
        middle = {at: m + ratio * (m - past.entries[start + k]) for k, (at, m) in enumerate(zip(places, now, strict=True))}
        after, first = _sdirk(middle, tuple(y[i] for i in c.states), h)
        new = put(new, c.states, after)
        change = put(change, c.states, tuple(v - w for v, w in zip(after, first, strict=True)))
        lost = put(lost, c.states, (jnp.zeros_like(h),) * len(after))
        entries += now
    return new, change, Past(a, slope - a * y, jnp.stack(entries) if entries else past.entries, lost)


def put(rows: Array, where: tuple[int, ...], values: Sequence[Array]) -> Array:
    """rows with some of them replaced; runs of neighbours move as one."""
    known = dict(zip(where, values, strict=True))
    parts: list[Array] = []
    start = 0
    for i in sorted(known):
        if i > start:
            parts.append(rows[start:i])
        parts.append(known[i][None])
        start = i + 1
    if start < rows.shape[0]:
        parts.append(rows[start:])
    return jnp.concatenate(parts)


def _places(c: Coupled) -> list[tuple[int, int]]:
    n = range(len(c.states))
    return [(i, j) for i in n for j in n if not _zero(c.matrix[i][j])]


def _zero(v: Array) -> bool:
    return isinstance(v, float) and v == 0.0


def _sdirk(m: dict[tuple[int, int], Array], x: tuple[Array, ...], h: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """x after h by x' = M x to second order, and to first order (the same stages)."""
    n, g = len(x), GAMMA * h
    rows = [
        [(1.0 - g * m.get((i, i), 0.0) if i == j else (-g * m[i, j] if (i, j) in m else None)) for j in range(n)]
        for i in range(n)
    ]
    factors = lu.factor(rows)
    w = lu.solve(factors, x)
    lean = (1.0 - 2.0 * GAMMA) / GAMMA
    after = lu.solve(factors, tuple(b + lean * (b - v) for v, b in zip(x, w, strict=True)))
    return after, tuple(v + (b - v) * (1.0 / GAMMA) for v, b in zip(x, w, strict=True))
