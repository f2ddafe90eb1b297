"""FO: the first-order method, for one block of lanes.

The model is linear in the etas around 0: y ~ N(f(0), V), V = J W J' + R, and a subject's objective is ln|V| + r'V⁻¹r
(Beal & Sheiner 1982; NONMEM's METHOD=0, without constants). With W = LL' and A = 1 + L'J'R⁻¹JL, which has the size of the etas
and an inverse even where W is singular, ln|V| = ln|R| + ln|A| and r'V⁻¹r = r'R⁻¹r - b'A⁻¹b, b = L'J'R⁻¹r (Woodbury).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from gemello.engine.plan import Plan
from gemello.inference.laplace import solve_symmetric
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Block, Population
from gemello.model.contract import Model


def first_order(block: Block, pop: Population, root: Any) -> Any:
    """(lanes,) objective; root: lower triangular factor of OMEGA."""
    g, slope = block.gradient_parts(pop, jnp.zeros((len(root), block.lanes), root.dtype))
    # v is 1 and its slope nothing where nothing was seen
    scaled = jnp.einsum("ki,krb->irb", root, jnp.where(block.data["seen"], slope.f, 0.0)) / jnp.sqrt(g.v)
    a = jnp.einsum("irb,jrb->ijb", scaled, scaled) + jnp.eye(len(root), dtype=root.dtype)[:, :, None]
    b = jnp.einsum("irb,rb->ib", scaled, block.residual(g) / jnp.sqrt(g.v))
    solved, logdet = solve_symmetric(a, b)
    return block.data_objective(g) + logdet - jnp.sum(b * solved, axis=0)


@lru_cache(maxsize=64)
def program(model: Model, plan: Plan, layout: Layout) -> Any:
    """Program for `map_blocks`, with the arguments and results of `focei.program` (etas 0)."""

    def run(x: Any, blocks: Any) -> Any:
        data, start = blocks
        block = Block(model, plan, data)
        push = lambda e: jax.jvp(lambda x: first_order(block, layout.population(x), layout.factor(x)), (x,), (e,))  # noqa: E731
        value, gradient = jax.vmap(push, out_axes=(None, 0))(jnp.eye(len(layout), dtype=x.dtype))
        return value, gradient.T, jnp.zeros_like(start).T, jnp.zeros_like(value)

    return run
