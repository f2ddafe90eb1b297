"""A linear flow over segment lengths that recur: one matrix for each length, made once, instead of exponentials each time.

y(dt) = M(dt) y + N(dt) r is linear in the state and in the rates, so the columns of M and N are the flow of unit vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Flow = Callable[[Any, Any, Any], Any]
Pattern = Sequence[Sequence[bool]]


def reach(rows: Sequence[Sequence[Any]]) -> list[list[bool]]:
    """Pattern of exp(A dt) from the rows of A, in which a structural zero is the number 0."""
    n = len(rows)
    out = [[i == j or not (isinstance(rows[i][j], int | float) and rows[i][j] == 0) for j in range(n)] for i in range(n)]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                out[i][j] |= out[i][k] and out[k][j]
    return out


def repeated(
    flow: Flow, of: Any, pattern: Pattern, lengths: Any, fed: Sequence[int], lanes: int
) -> Callable[[Any, Any, Any], Any]:
    """Function (k, y, rates) -> y after `lengths[k]`.

    flow: (dt, y, rates) -> y. of: type of the state. pattern: which entries of M can differ from 0. fed: states into which
    rates can flow. lengths: (repeats,).
    """
    n = len(pattern)
    zero, one = jnp.zeros(lanes, lengths.dtype), jnp.ones(lanes, lengths.dtype)

    def unit(j: int) -> Any:
        return of(*(one if i == j else zero for i in range(n)))

    nothing = of(*(0 for _ in range(n)))

    def columns(dt: Any) -> Any:
        wide = jnp.broadcast_to(dt, (lanes,))
        by_state = [flow(wide, unit(j), nothing) for j in range(n)]
        by_rate = [flow(wide, unit(-1), of(*(one if i == j else 0 for i in range(n)))) for j in fed]
        moves = [by_state[j][i] for i in range(n) for j in range(n) if pattern[i][j]]
        feeds = [c[i] for j, c in zip(fed, by_rate, strict=True) for i in range(n) if pattern[i][j]]
        return jnp.stack([jnp.broadcast_to(v, (lanes,)) for v in (*moves, *feeds)])

    table = jax.vmap(columns)(lengths)  # (repeats, entries, lanes)

    def advance(k: Any, y: Any, rates: Any) -> Any:
        entry = iter(jax.lax.dynamic_index_in_dim(table, k, keepdims=False))
        new: list[Any] = [None] * n
        for i in range(n):
            for j in range(n):
                if pattern[i][j]:
                    term = next(entry) * y[j]
                    new[i] = term if new[i] is None else new[i] + term
        for j in fed:
            for i in range(n):
                if pattern[i][j]:
                    new[i] = new[i] + next(entry) * rates[j]
        return of(*new)

    return advance
