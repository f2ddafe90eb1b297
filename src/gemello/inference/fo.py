"""FO: the first-order method, for one block of lanes.

The model is linear in the etas around 0: y ~ N(f(0), V), V = J W J' + R, and a subject's objective is ln|V| + r'V⁻¹r
(Beal & Sheiner 1982; NONMEM's METHOD=0, without constants).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from gemello.engine.plan import Plan
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Block
from gemello.model.contract import Model


@lru_cache(maxsize=64)
def program(model: Model, plan: Plan, layout: Layout) -> Any:
    """Program for `map_blocks`, with the arguments and results of `focei.program` (etas 0)."""

    def run(x: Any, blocks: Any) -> Any:
        data, start = blocks
        block = Block(model, plan, data)
        zero = jnp.zeros_like(start)
        seen = data["seen"]

        def objective(x: Any) -> Any:
            pop = layout.population(x)
            g, slope = block.gradient_parts(pop, zero)
            j = jnp.where(seen, slope.f, 0.0)
            v = jnp.einsum("irb,ij,jsb->brs", j, pop.omega, j)
            v = v + jax.vmap(jnp.diag)(jnp.where(seen, g.v, 1.0).T)
            root = jnp.linalg.cholesky(v)
            r = jax.scipy.linalg.solve_triangular(root, block.residual(g).T[..., None], lower=True)[..., 0]
            return jnp.sum(r**2, axis=1) + 2.0 * jnp.sum(jnp.log(jnp.diagonal(root, axis1=1, axis2=2)), axis=1)

        push = lambda e: jax.jvp(objective, (x,), (e,))  # noqa: E731
        value, gradient = jax.vmap(push, out_axes=(None, 0))(jnp.eye(len(layout), dtype=x.dtype))
        return value, gradient.T, zero.T, jnp.zeros_like(value)

    return run
