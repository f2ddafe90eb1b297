"""Rush–Larsen steps of order 2 in one step (GRL2), and of order 3 with an error estimate by doing each once and in halves.

Written as y' = a y + b with a the diagonal of the Jacobian, or any a ≤ 0 (it serves stability alone), a step is the midpoint rule
with exponentials in place of the lines (Sundnes, Artebrant, Skavhaug & Tveito, IEEE Trans Biomed Eng 56, 2009; for gates alone:
Rush & Larsen 1978). One formula does both halves: with the equations taken at a point p,

    E(y, p, h) = y + h φ₁(a h) (f + a (y − p)),    the middle E(y, y, h/2) and the end E(y, middle, h).

Where states hold one another (the Markov states of a channel, x' = M x) M stands for a, and the two-stage L-stable SDIRK of
order 2 (Alexander, SIAM J Numer Anal 1977) for the exponential. A step h and two steps h/2 give an error estimate and,
extrapolated (Hairer, Nørsett & Wanner, Solving ODEs I, theorem II.4.1), order 3. Decay is damped at any h: the rational φ₁ and
the SDIRK vanish at −∞. While h is long for a gate that follows a moving target, its error falls as h² only.

A step takes six evaluations of the equations, in a loop, so that the long equations of a cell are compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from gemello.engine.solvers import lu
from gemello.engine.solvers.rush_larsen import GAMMA, Coupled, phi1, put
from gemello.engine.solvers.stages import Array

ORDER = 3


class Local(NamedTuple):
    """What the equations say at one point: slope and a, (states, lanes) each, and the blocks of states that hold one another."""

    slope: Array
    relaxation: Array
    coupled: tuple[Coupled, ...]


#: (t (lanes,), y (states, lanes)) -> Local
Equations = Callable[[Array, Array], Local]


class Step(NamedTuple):
    """y: state at the end. error: estimate of the error of order 2. bend: a of engine/dense.py (b and c are 0): the parabola
    through both ends and the middle. (states, lanes) each."""

    y: Array
    error: Array
    bend: Array


def step(equations: Equations, t: Array, y: Array, h: Array) -> Step:
    """One step of size `h` (lanes,) from `y` (states, lanes) at time `t` (lanes,)."""

    def stage(c: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        k, base, point, middle, once = c
        whole, second, ends = k < 2, k >= 4, k % 2 == 1
        length = jnp.where(whole, h, 0.5 * h)
        begin = jnp.where(second, t + 0.5 * h, t)
        here = equations(jnp.where(ends, begin + 0.5 * length, begin), point)
        new = along(here, base, point, jnp.where(ends, length, 0.5 * length))
        once = jnp.where(k == 1, new, once)
        middle = jnp.where(k == 3, new, middle)
        base = jnp.where(k == 1, y, jnp.where(ends, new, base))
        return k + 1, base, jnp.where(k == 1, y, new), middle, once

    # a while-loop, not a scan: engine/kernel.py compiles the loop around this one as a whole
    start = (jnp.zeros((), jnp.int32), y, y, y, y)
    _, twice, _, middle, once = lax.while_loop(lambda c: c[0] < 6, stage, start)
    error = (twice - once) / 3.0
    new = twice + error
    return Step(new, error, 4.0 * (middle + 0.5 * error) - 2.0 * (y + new))


def along(here: Local, base: Array, point: Array, h: Array) -> Array:
    """E(base, point, h) of the module's text; `here` is what the equations say at `point`."""
    a = jnp.minimum(here.relaxation, 0.0)
    new = base + h * phi1(a * h) * (here.slope + a * (base - point))
    for c in here.coupled:
        away = [base[i] - point[i] for i in c.states]
        drive = [here.slope[i] + _row(row, away) for i, row in zip(c.states, c.matrix, strict=True)]
        moves = _sdirk(c.matrix, drive, h)
        new = put(new, c.states, [base[i] + d for i, d in zip(c.states, moves, strict=True)])
    return new


def _row(row: Sequence[Any], x: Sequence[Array]) -> Array:
    return sum((m * v for m, v in zip(row, x, strict=True) if not _zero(m)), start=jnp.zeros_like(x[0]))


def _zero(v: Any) -> bool:
    return isinstance(v, float) and v == 0.0


def _sdirk(matrix: Sequence[Sequence[Any]], drive: Sequence[Array], h: Array) -> list[Array]:
    """d(h) of d' = M d + drive, d(0) = 0."""
    n, g = range(len(drive)), GAMMA * h
    rows = [[1.0 - g * matrix[i][j] if i == j else None if _zero(matrix[i][j]) else -(g * matrix[i][j]) for j in n] for i in n]
    factors = lu.factor(rows)
    first = lu.solve(factors, drive)
    lean = (1.0 - GAMMA) / GAMMA
    second = lu.solve(factors, [c + lean * (k - c) for c, k in zip(drive, first, strict=True)])
    return [h * ((1.0 - GAMMA) * k + GAMMA * q) for k, q in zip(first, second, strict=True)]
