"""Which outputs of a traced function depend on which inputs: structural zeros, found once when a program is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core


def dependence(jaxpr: Any, inputs: Sequence[frozenset[int]], *, derivative: bool) -> list[frozenset[int]]:
    """For each output of a traced function, the inputs on which it may depend, or (derivative) on which its derivative may:
    comparisons, integers and stopped gradients carry none of that."""
    nothing: frozenset[int] = frozenset()
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(v: Any) -> frozenset[int]:
        return nothing if isinstance(v, core.Literal) else known.get(v, nothing)

    for eqn in jaxpr.eqns:
        given = [of(v) for v in eqn.invars]
        inner = eqn.params.get("jaxpr") if eqn.primitive.name in ("jit", "pjit", "closed_call", "remat", "checkpoint") else None
        inner = inner if inner is not None else eqn.params.get("call_jaxpr")
        if inner is not None and len(getattr(inner, "jaxpr", inner).invars) == len(given):
            found = dependence(getattr(inner, "jaxpr", inner), given, derivative=derivative)
        elif derivative and eqn.primitive.name == "stop_gradient":
            found = [nothing] * len(eqn.outvars)
        else:
            found = [nothing.union(*given)] * len(eqn.outvars)
        for v, d in zip(eqn.outvars, found, strict=True):
            known[v] = d if not derivative or jnp.issubdtype(v.aval.dtype, jnp.inexact) else nothing
    return [of(v) for v in jaxpr.outvars]
