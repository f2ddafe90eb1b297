"""Exact propagation of linear systems y' = A y + r by the matrix exponential, each lane with its own A, dt and r.

The augmented matrix [[A, r], [0, 0]] dt is scaled to norm 1 or less, its exponential summed as a Taylor polynomial of
degree 18 (remainder 1/19! = 8e-18) and squared back. Scaling and squaring, and its errors: Moler & Van Loan, Nineteen
dubious ways to compute the exponential of a matrix, SIAM Review 45, 2003, methods 1 and 3; grouping of the powers:
Paterson & Stockmeyer, SIAM J. Comput. 2, 1973. A Taylor polynomial needs no linear solve, which suits lanes side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Array = Any
DEGREE, GROUP = 18, 4
MOST_SQUARINGS = 60  # norm·dt up to 1e18: beyond, nothing is left to be resolved; such a lane becomes NaN


def expm_propagator(matrix_rows: Sequence[Sequence[Any]]) -> Callable[[Array, Any, Any], Any]:
    """(dt, y, rates) -> y after dt, for A given as rows of scalars or (lanes,) arrays, rates constant meanwhile.

    dt is (lanes,), y and rates are NamedTuples of (lanes,) arrays (or scalars) in the order of the rows. The relative error
    (to the largest entry of exp(A dt)) grows as norm(A) dt times 1e-16 for systems that do not grow. Forward derivatives of
    any order; no reverse mode, because the number of squarings depends on the values. NaN in a lane stays in that lane.
    """
    n = len(matrix_rows)

    def advance(dt: Array, y: Any, rates: Any) -> Any:
        entries = [jnp.asarray(x) for row in matrix_rows for x in row]
        shape = jnp.broadcast_shapes(*(jnp.shape(x) for x in (*entries, dt, *y, *rates)))
        dtype = jnp.result_type(*entries, dt, *y, *rates, float)
        a = jnp.stack([jnp.broadcast_to(x, shape) for x in entries]).astype(dtype).reshape(n, n, *shape)
        r = jnp.stack([jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in rates])
        start = jnp.stack([jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in y])
        # The input is scaled to the size of A, so that large doses do not call for more squarings.
        size = jax.lax.stop_gradient(jnp.max(jnp.abs(r), axis=0) / jnp.maximum(jnp.max(jnp.abs(a), axis=(0, 1)), 1e-30))
        size = jnp.where(size > 0, size, 1.0)
        top = jnp.concatenate([a, (r / size)[:, None]], axis=1) * dt
        grown = exponential(jnp.concatenate([top, jnp.zeros((1, n + 1, *shape), dtype)], axis=0))
        end = (grown[:n, :n] * start[None]).sum(1) + grown[:n, n] * size
        return type(y)(*end)

    return advance


def exponential(x: Array) -> Array:
    """exp of square matrices with lanes last: (n, n, ...) -> (n, n, ...)."""
    norm = jax.lax.stop_gradient(jnp.max(jnp.abs(x).sum(0), axis=0))
    valid = jnp.isfinite(norm) & (norm < 2.0**MOST_SQUARINGS)
    squarings = jnp.where(valid, jnp.maximum(jnp.ceil(jnp.log2(jnp.maximum(norm, 1e-30))), 0.0), 0.0).astype(int)
    x = jnp.where(valid, x * 0.5 ** squarings.astype(x.dtype), 0.0)

    def square(i: Array, e: Array) -> Array:
        return jnp.where(i < squarings, _product(e, e), e)

    e = jax.lax.while_loop(
        lambda s: s[0] < jnp.max(squarings), lambda s: (s[0] + 1, square(s[0], s[1])), (jnp.asarray(0), _taylor(x))
    )[1]
    return jnp.where(valid, e, jnp.nan)


def _taylor(x: Array) -> Array:
    """Taylor polynomial of exp, in groups of `GROUP` powers."""
    one = jnp.eye(x.shape[0], dtype=x.dtype).reshape(x.shape[:2] + (1,) * (x.ndim - 2))
    powers = [jnp.broadcast_to(one, x.shape), x]
    while len(powers) <= GROUP:
        powers.append(_product(powers[-1], x))
    total = jnp.zeros_like(x)
    for first in range(DEGREE - DEGREE % GROUP, -1, -GROUP):
        part = sum(powers[j] / math.factorial(first + j) for j in range(min(GROUP, DEGREE - first + 1)))
        total = part + (_product(total, powers[GROUP]) if first + GROUP <= DEGREE else 0.0)
    return total


def _product(x: Array, y: Array) -> Array:
    """Matrix product with lanes last: a sum of outer products, which vectorises over lanes where a reduction would not."""
    return sum(x[:, j, None] * y[None, j] for j in range(x.shape[1]))
