"""LU factorisation of many small matrices at once, unrolled per entry: one array `(lanes,)` for each structural non-zero.

A matrix is a list of rows; `None` stands for a structural zero, which costs nothing. The pivots are the diagonal, in an
order chosen once from the pattern so that few entries fill in (Markowitz, Management Science 3 (1957) 255-269). There is no
exchange by size: I - γhJ has a dominant diagonal for small h, and a pivot that vanishes gives a step that is not finite,
which the step control rejects and repeats with a smaller h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gemello.engine.solvers.stages import Array, together

Rows = Sequence[Sequence[Array | None]]


class Factors(NamedTuple):
    """`rows` hold L (unit diagonal, below) and U (above) in pivot order; `reciprocal` the inverse pivots; `order` the pivots."""

    rows: list[list[Array | None]]
    reciprocal: list[Array]
    order: tuple[int, ...]


def pivot_order(pattern: Sequence[Sequence[bool]]) -> tuple[int, ...]:
    """Order of diagonal pivots that keeps the fill-in small: least (row count - 1)·(column count - 1) first."""
    n = len(pattern)
    rows = [{j for j in range(n) if pattern[i][j] or i == j} for i in range(n)]
    left, order = set(range(n)), []
    while left:

        def cost(k: int) -> tuple[int, int]:
            return (len(rows[k] & left) - 1) * (sum(k in rows[i] for i in left) - 1), k

        k = min(left, key=cost)
        left.remove(k)
        order.append(k)
        for i in left:
            if k in rows[i]:
                rows[i] |= rows[k] & left
    return tuple(order)


def factor(matrix: Rows) -> Factors:
    """Factors of a matrix whose diagonal is structurally full; raises ValueError where it is not."""
    n = len(matrix)
    if any(matrix[i][i] is None for i in range(n)):
        raise ValueError("lu: a diagonal entry is structurally zero; every pivot must be an array")
    order = pivot_order([[v is not None for v in row] for row in matrix])
    a = [[matrix[i][j] for j in order] for i in order]
    reciprocal: list[Array] = []
    for k in range(n):
        pivot = a[k][k]
        assert pivot is not None
        inverse = 1 / pivot
        reciprocal.append(inverse)
        for i in range(k + 1, n):
            lower = a[i][k]
            if lower is None:
                continue
            a[i][k] = ratio = lower * inverse
            for j in range(k + 1, n):
                upper, old = a[k][j], a[i][j]
                if upper is not None:
                    a[i][j] = -(ratio * upper) if old is None else old - ratio * upper
    return _together(Factors(a, reciprocal, order))


def _together(factors: Factors) -> Factors:
    rows, reciprocal, order = factors
    n = len(order)
    places = [(i, j) for i in range(n) for j in range(n) if i != j and rows[i][j] is not None]
    entries = [v for i, j in places if (v := rows[i][j]) is not None]
    values = together([*entries, *reciprocal])
    out: list[list[Array | None]] = [[None] * n for _ in range(n)]
    for (i, j), v in zip(places, values[: len(places)], strict=True):
        out[i][j] = v
    return Factors(out, list(values[len(places) :]), order)


def solve(factors: Factors, right: Sequence[Array]) -> tuple[Array, ...]:
    """Solution of A x = right, one array `(lanes,)` for each row."""
    rows, reciprocal, order = factors
    n = len(order)
    x = [right[i] for i in order]
    for i in range(n):
        for j in range(i):
            v = rows[i][j]
            if v is not None:
                x[i] = x[i] - v * x[j]
        if 0 < i < n - 1:
            (x[i],) = together(x[i : i + 1])
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            v = rows[i][j]
            if v is not None:
                x[i] = x[i] - v * x[j]
        (x[i],) = together([x[i] * reciprocal[i]])
    out: list[Array] = [x[0]] * n
    for place, i in enumerate(order):
        out[i] = x[place]
    return tuple(out)
