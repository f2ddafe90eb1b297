"""What the stages of a method share: the type of a slope function, and values computed in one kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
#: f(t, y): `t` and every entry of `y` and of the result have shape (lanes,).
Slope = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]


def together(values: Sequence[Array]) -> tuple[Array, ...]:
    """The same values, each computed once.

    Left alone, XLA on CPU merges the arithmetic of a whole step into each of its results and repeats it for every one of
    them. A division is never repeated, so dividing by a 1 that is hidden until that decision is taken (and costs nothing
    afterwards) ends the merging. The 1 is tied to the values, or it would be carried through the loop as an array.
    design/adaptive_methods.py has the figures.
    """
    if not values:
        return ()
    one, held = lax.optimization_barrier((jnp.ones_like(values[0]), tuple(values)))  # type: ignore[no-untyped-call]
    return tuple(v / one for v in held)
