"""Tsit5: explicit Runge-Kutta pair of order 5(4), the first choice for problems that are not stiff.

Source: Ch. Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption,
Computers & Mathematics with Applications 62 (2011) 770-775, table 1. The last stage is the slope at the new point (first
same as last), so a step costs six evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gemello.engine.solvers.stages import Array, Slope, together

ORDER = 5
#: Largest h·|λ| on the negative real axis with |R| ≤ 1; used to recognise stiffness.
STABILITY = 3.5

C = (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)
A: tuple[tuple[float, ...], ...] = (
    (),
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
#: Fifth-order minus fourth-order weights.
E = (
    0.00178001105222577714,
    0.0008164344596567469,
    -0.007880878010261995,
    0.1447110071732629,
    -0.5823571654525552,
    0.45808210592918697,
    -1 / 66,
)


#: Weights of θ⁴ in the paper's interpolant of order 4, which meets state and slope at both ends and so has no other freedom.
QUARTIC = (
    -1.0530884977290216,
    0.1017,
    2.490627285651253,
    -16.548102889244902,
    47.37952196281928,
    -34.87065786149661,
    2.5,
)


class Step(NamedTuple):
    """What one step gives; every entry is a tuple of arrays `(lanes,)`, one for each state."""

    y: tuple[Array, ...]
    error: tuple[Array, ...]
    slope: tuple[Array, ...]  # at the new point: the next step's first stage
    inner_y: tuple[Array, ...]  # argument and slope of stage 6, which has the same time as the new point
    inner_slope: tuple[Array, ...]
    bend: tuple[tuple[Array, ...], ...]  # a, b, c of engine/dense.py


def _combine(weights: Sequence[float], stages: Sequence[tuple[Array, ...]], i: int) -> Array:
    total = weights[0] * stages[0][i]
    for w, k in zip(weights[1:], stages[1:], strict=True):
        total = total + w * k[i]
    return total


def step(f: Slope, t: Array, y: tuple[Array, ...], h: Array, slope: tuple[Array, ...]) -> Step:
    """One step of size `h` (lanes,) from `y` at time `t` (lanes,); `slope` is f(t, y)."""
    stages, new, inner = [slope], y, y
    for c, row in zip(C[1:], A[1:], strict=True):
        inner, new = new, tuple(v + h * _combine(row, stages, i) for i, v in enumerate(y))
        stages.append(together(f(t + c * h, new)))
    error = tuple(h * _combine(E, stages, i) for i in range(len(y)))
    return Step(new, error, stages[6], inner, stages[5], _bend(y, new, h, stages))


def _bend(
    y: tuple[Array, ...], new: tuple[Array, ...], h: Array, stages: Sequence[tuple[Array, ...]]
) -> tuple[tuple[Array, ...], ...]:
    rise = [b - a for a, b in zip(y, new, strict=True)]
    a = tuple(h * k - r for k, r in zip(stages[0], rise, strict=True))
    c = tuple(-h * _combine(QUARTIC, stages, i) for i in range(len(y)))
    b = tuple(r - h * k - u - w for r, k, u, w in zip(rise, stages[6], a, c, strict=True))
    return a, b, c
