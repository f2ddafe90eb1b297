"""Conditional estimation (FOCEI, FOCE, Laplace): the objective and its exact gradient, for one block of lanes.

Objective of a subject (Lindstrom & Bates 1990; Wang 2007, eq. 28; NONMEM's METHOD=1, without constants), at the mode η̂:

    Σ (y − f)²/v + ln v  +  η̂'W⁻¹η̂ + ln|W| + ln|H|,   H = J'R⁻¹J + ½ (R'/R)'(R'/R) + W⁻¹

FOCE takes v at etas 0 (no interaction, so R' = 0); Laplace takes the exact second derivatives of the joint density for H (Wang
2007, eq. 11; Tierney & Kadane 1986), which may not be positive definite far from the mode: there the objective is no number.

The gradient is exact: η̂ moves with the population parameters as the implicit function theorem says (Almquist et al. 2015,
eq. 20): dη̂/dx = −M⁻¹ ∂g/∂x with g the gradient of the joint objective by eta and M its derivative.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from gemello.engine.plan import Plan
from gemello.inference.laplace import find_mode, log_determinant, solve_symmetric
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Block, Population, Prior, curvature, joint_gradient, joint_objective, prior
from gemello.model.contract import Model


def exact_hessian(block: Block, pop: Population, eta: Any, w: Prior) -> Any:
    """(etas, etas, lanes) half the second derivative of the joint objective by eta."""
    n = eta.shape[0]
    units = jnp.broadcast_to(jnp.eye(n, dtype=eta.dtype)[:, :, None], (n, *eta.shape))

    def pull(e: Any) -> Any:
        g, slope = block.gradient_parts(pop, e)
        return joint_gradient(block, g, slope, e, w)

    return jax.vmap(lambda e: jax.jvp(pull, (eta,), (e,))[1])(units)


def conditional(block: Block, pop: Population, eta: Any, kind: str) -> tuple[Any, Any]:
    """Objective (lanes,) with etas (etas, lanes) at their mode, and half the gradient by eta of its joint part."""
    w = prior(pop.omega)
    g, slope = block.gradient_parts(pop, eta)
    h = exact_hessian(block, pop, eta, w) if kind == "laplace" else curvature(block, slope, g, w)
    return joint_objective(block, g, eta, w) + log_determinant(h, kind == "laplace"), joint_gradient(block, g, slope, eta, w)


@lru_cache(maxsize=64)
def program(model: Model, plan: Plan, layout: Layout, kind: str = "focei") -> Any:
    """Program for `map_blocks`: shared x, blocks (data, start etas) -> objective, gradient (lanes, x), etas, decrement.

    kind: focei, foce or laplace.
    """

    def run(x: Any, blocks: Any) -> Any:
        data, start = blocks
        block = Block(model, plan, data, interaction=kind != "foce")
        pop = layout.population(x)
        found = find_mode(block, pop, prior(pop.omega), start)

        def parts(x: Any, eta: Any) -> tuple[Any, Any]:
            """Objective, and half the gradient by eta of its joint part."""
            return conditional(block, layout.population(x), eta, kind)

        # one push through the model for all directions of (x, eta)
        m, n = len(layout), start.shape[0]
        units = jnp.eye(m + n, dtype=x.dtype)
        push = lambda e: jax.jvp(parts, (x, found.eta), (e[:m], jnp.broadcast_to(e[m:, None], start.shape)))  # noqa: E731
        (value, _), (by, pull) = jax.vmap(push, out_axes=(None, 0))(units)
        matrix = jnp.moveaxis(pull[m:], 1, 0)  # (etas, etas, lanes), second derivatives of the model included
        shift = lambda rhs: solve_symmetric(matrix, rhs)[0]  # noqa: E731
        moves = -jax.vmap(shift)(pull[:m])  # dη̂/dx, (x, etas, lanes)
        gradient = by[:m] + jnp.einsum("xeb,eb->xb", moves, by[m:])
        return value, gradient.T, found.eta.T, found.decrement

    return run
