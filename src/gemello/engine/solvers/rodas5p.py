"""Rodas5P: linearly implicit (Rosenbrock) method of order 5(4), L-stable and stiffly accurate, for stiff problems.

Source: G. Steinebach, Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia
Differential Equations package, BIT Numerical Mathematics 63:27 (2023). The transformed stages U_i of Hairer & Wanner,
Solving ODEs II, eq. IV.7.25, are multiplied by γh, which leaves no division by h, so that a lane with h = 0 stays put:

    (I - γh J) U_i = γh f(t + c_i h, y + Σ a_ij U_j) + γ Σ c_ij U_j + γh² d_i ∂f/∂t

The Jacobian comes from forward-mode differentiation, one column at a time; entries that are structurally zero are found
once, from the traced equations, and cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gemello.engine.solvers import lu
from gemello.engine.solvers.dependence import dependence
from gemello.engine.solvers.stages import Array, Slope, together

ORDER = 5
GAMMA = 0.21193756319429014
A: tuple[tuple[float, ...], ...] = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946),
)
#: c_ij; stages 7 and 8 start from the stage before (a_7j = a_6j + e_6, a_8j = a_7j + e_7), and U_8 is the error estimate.
C: tuple[tuple[float, ...], ...] = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623, -28.087943162872662),
    (
        37.80277123390563,
        -3.2571969029072276,
        112.26918849496327,
        66.9347231244047,
        -40.06618937091002,
        -54.66780262877968,
        -9.48861652309627,
    ),
)
#: Times of the stages and weights of ∂f/∂t: sums of the rows of α and of γ_ij.
TIMES = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
WEIGHTS = (0.21193756319429014, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069)
#: Weights of the stages in the interpolant of order 4: a, b, c of engine/dense.py.
H: tuple[tuple[float, ...], ...] = (
    (
        25.948786856663858,
        -2.5579724845846235,
        10.433815404888879,
        -2.3679251022685204,
        0.524948541321073,
        1.1241088310450404,
        0.4272876194431874,
        -0.17202221070155493,
    ),
    (
        -9.91568850695171,
        -0.9689944594115154,
        3.0438037242978453,
        -24.495224566215796,
        20.176138334709044,
        15.98066361424651,
        -6.789040303419874,
        -6.710236069923372,
    ),
    (
        11.419903575922262,
        2.8879645146136994,
        72.92137995996029,
        80.12511834622643,
        -52.072871366152654,
        -59.78993625266729,
        -0.15582684282751913,
        4.883087185713722,
    ),
)


class Pattern(NamedTuple):
    """Which slopes depend on which states: `entries[i][j]` for df_i/dy_j, `time[i]` for df_i/dt."""

    entries: tuple[tuple[bool, ...], ...]
    time: tuple[bool, ...]


class Step(NamedTuple):
    """What one step gives: tuples of arrays `(lanes,)`, and the rows of the Jacobian (None: structurally zero)."""

    y: tuple[Array, ...]
    error: tuple[Array, ...]
    jacobian: list[list[Array | None]]
    bend: tuple[tuple[Array, ...], ...]  # a, b, c of engine/dense.py


def pattern(f: Slope, t: Array, y: tuple[Array, ...]) -> Pattern:
    """Structural non-zeros of the derivatives of `f`, by dependence of the traced equations on their inputs."""
    jaxpr = jax.make_jaxpr(f)(t, y).jaxpr
    inputs = [frozenset([k]) for k in range(1 + len(y))]
    outputs = dependence(jaxpr, inputs, derivative=True)
    entries = tuple(tuple(1 + j in d for j in range(len(y))) for d in outputs)
    return Pattern(entries, tuple(0 in d for d in outputs))


def derivatives(f: Slope, t: Array, y: tuple[Array, ...], where: Pattern) -> tuple[list[list[Array | None]], list[Array | None]]:
    """Rows of the Jacobian and ∂f/∂t, None where structurally zero."""
    n = len(y)
    rows: list[list[Array | None]] = [[None] * n for _ in range(n)]
    for j in range(n):
        if any(where.entries[i][j] for i in range(n)):

            def along(v: Array, j: int = j) -> tuple[Array, ...]:
                return f(t, (*y[:j], v, *y[j + 1 :]))

            column = jax.jvp(along, (y[j],), (jnp.ones_like(y[j]),))[1]
            for i in range(n):
                rows[i][j] = column[i] if where.entries[i][j] else None
    if not any(where.time):
        return rows, [None] * n
    rate = jax.jvp(lambda v: f(v, y), (t,), (jnp.ones_like(t),))[1]
    return rows, [r if w else None for r, w in zip(rate, where.time, strict=True)]


def step(f: Slope, t: Array, y: tuple[Array, ...], h: Array, where: Pattern) -> Step:
    """One step of size `h` (lanes,) from `y` at time `t` (lanes,); `where` from `pattern`."""
    n = len(y)
    jacobian, rate = derivatives(f, t, y, where)
    scale = GAMMA * h
    matrix: list[list[Array | None]] = []
    for i in range(n):
        row = [None if v is None else -(scale * v) for v in jacobian[i]]
        own = row[i]
        row[i] = jnp.ones_like(h) if own is None else 1 + own
        matrix.append(row)
    factors = lu.factor(matrix)
    stages: list[tuple[Array, ...]] = []
    now = y
    for k in range(8):
        if k < 6:
            now = together([_add(y[i], A[k], stages, i, 1.0) for i in range(n)]) if k else y
        else:
            now = together([v + stages[k - 1][i] for i, v in enumerate(now)])
        slope = f(t + TIMES[k] * h if any(where.time) and k else t, now)
        right = []
        for i in range(n):
            value = slope[i]
            drift = rate[i]
            if drift is not None and k < len(WEIGHTS):
                value = value + (WEIGHTS[k] * h) * drift
            right.append(_add(scale * value, C[k], stages, i, GAMMA))
        stages.append(lu.solve(factors, together(right)))
    bend = tuple(tuple(_add(row[0] * stages[0][i], row[1:], stages[1:], i, 1.0) for i in range(n)) for row in H)
    return Step(tuple(v + stages[7][i] for i, v in enumerate(now)), stages[7], jacobian, bend)


def _add(start: Array, weights: Sequence[float], stages: Sequence[tuple[Array, ...]], i: int, factor: float) -> Array:
    for w, k in zip(weights, stages, strict=True):
        start = start + (factor * w) * k[i]
    return start
