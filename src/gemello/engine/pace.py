"""How long the next step may be: sizes of errors, and the choice of steps from them.

Safety factor and limits: Hairer, Nørsett & Wanner, Solving ODEs I, eq. II.4.13.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from gemello.engine.solvers.stages import Array

ORDER = 5  # of Tsit5 and of Rodas5P
SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0
#: A step that reaches to this part of what is left of the segment is stretched to its end.
STRETCH = 0.95
#: Square of the error that stands for one that is not finite.
HUGE = 1e20


def attempt(s: Array, h: Array) -> tuple[Array, Array]:
    """Step in s from `s` with `h` allowed, and whether it ends the segment. The last two are equal, so that none is tiny."""
    rest = jnp.maximum(1 - s, 0)
    last = rest * STRETCH <= h
    return jnp.where(last, rest, jnp.minimum(h, rest / 2)), last


def scales(old: Sequence[Array], new: Sequence[Array], rtol: float, atol: float) -> tuple[Array, ...]:
    pairs = zip(lax.stop_gradient(tuple(old)), lax.stop_gradient(tuple(new)), strict=True)
    return tuple(atol + rtol * jnp.maximum(jnp.abs(a), jnp.abs(b)) for a, b in pairs)


def square(error: Sequence[Array], old: Sequence[Array], new: Sequence[Array], rtol: float, atol: float) -> Array:
    """Mean square over the states of each lane's error over the tolerance (lanes,)."""
    squares = top = jnp.zeros_like(old[0])
    for e, scale in zip(lax.stop_gradient(tuple(error)), scales(old, new, rtol, atol), strict=True):
        squares, top = squares + (e / scale) ** 2, jnp.maximum(top, scale)
    size = squares / len(new)
    return jnp.where(size + top < jnp.inf, size, HUGE)  # false where either is NaN or infinite


def stacked_square(error: Array, old: Array, new: Array, rtol: float, atol: float) -> Array:
    """`square` where all states are in one array (states, lanes)."""
    error, old, new = lax.stop_gradient((error, old, new))
    scale = atol + rtol * jnp.maximum(jnp.abs(old), jnp.abs(new))
    size = jnp.sum((error / scale) ** 2, axis=0) * (1.0 / len(new))
    return jnp.where(size + jnp.max(scale, axis=0) < jnp.inf, size, HUGE)


def too_short(now: Array, s: Array) -> Array:
    """Whether a step is lost in rounding."""
    eps = float(jnp.finfo(s.dtype).eps)  # type: ignore[no-untyped-call]
    return now <= 4 * eps * s + eps * eps


def grown(now: Array, factor: Array, ok: Array, before: Array) -> Array:
    """Next step after `now`, of which `before` was allowed: a short step to the end says little about longer ones."""
    h = now * factor
    return jnp.where(ok & (factor >= GROW), jnp.maximum(h, before), h)
