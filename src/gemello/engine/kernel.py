"""A loop over the steps of a block, compiled on a CPU into one function.

XLA starts a kernel for each handful of operations (about 50 ns each, some 40 a step), which is half of what a step of a block
costs, and only compiles loops of at most 1 kB of data as a whole. A call with the attribute `xla_cpu_small_call` is compiled as
a whole whatever its size. design/lockstep_kernels.md has the figures. GEMELLO_LOOPS=plain in the environment turns it off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

#: Releases in which the attribute was seen to work; XLA gives no warranty for it. In others a loop is compiled as usual.
KNOWN = "0.10."
#: Operations that XLA can compile this way and that were tried. Not among them: `cond`, since a branch that ignores its operand
#: ends the process, and whatever calls a library (dot, sort, scatter, custom calls).
# fmt: off
PLAIN = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bitcast_convert_type",
    "broadcast_in_dim", "cbrt", "ceil", "clamp", "concatenate", "convert_element_type", "copy", "cos", "cosh", "custom_jvp_call",
    "div",
    "dynamic_slice", "dynamic_update_slice", "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "iota",
    "is_finite", "jit", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not",
    "optimization_barrier", "or", "pjit", "pow", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_sum", "rem",
    "reshape", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "slice", "sqrt", "square", "squeeze", "stack",
    "stop_gradient",
    "sub", "tan", "tanh", "while", "xor",
})
# fmt: on
Carry = TypeVar("Carry")


def loop(more: Callable[[Carry], Any], body: Callable[[Carry], Carry], start: Carry) -> Carry:
    """`lax.while_loop(more, body, start)`, on a CPU as one function where its operations allow it. `start` holds arrays."""
    if jax.default_backend() != "cpu" or not whole():
        return lax.while_loop(more, body, start)
    leaves, tree = jax.tree.flatten(start)
    made = jax.make_jaxpr(lambda *v: jax.tree.leaves(lax.while_loop(more, body, jax.tree.unflatten(tree, v))))(*leaves)

    def run(known: list[Any], leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        return jaxpr_as_fun(ClosedJaxpr(made.jaxpr, known))(*leaves), known

    if plain(made.jaxpr):
        # XLA ends the process if an argument of the call is not used in it. So all are returned (the loop returns its own), and
        # none looks like a constant, which XLA would move into the call.
        known, leaves = jax.tree.map(_hidden, (made.consts, leaves))
        out, _ = set_xla_metadata(jax.jit(run)(known, leaves), xla_cpu_small_call="true", inlineable="false")
    else:
        out, _ = run(made.consts, leaves)
    end: Carry = jax.tree.unflatten(tree, out)
    return end


def whole() -> bool:
    """Whether loops are compiled as one function here."""
    return version("jaxlib").startswith(KNOWN) and os.environ.get("GEMELLO_LOOPS", "") != "plain"


def plain(jaxpr: Any) -> bool:
    """Whether a traced function has nothing but operations in `PLAIN`."""
    inner = (getattr(v, "jaxpr", v) for eqn in jaxpr.eqns for v in eqn.params.values())
    return all(eqn.primitive.name in PLAIN for eqn in jaxpr.eqns) and all(plain(j) for j in inner if hasattr(j, "eqns"))


def _hidden(v: Any) -> Any:
    """The same value, times a 1 (or xor a 0) that XLA cannot see until constants have been moved; so are its tangents."""
    v = jnp.asarray(v)
    if jnp.issubdtype(v.dtype, jnp.inexact):
        return v * lax.optimization_barrier(jnp.ones((), v.dtype))  # type: ignore[no-untyped-call]
    return v ^ lax.optimization_barrier(jnp.zeros((), v.dtype))  # type: ignore[no-untyped-call]
