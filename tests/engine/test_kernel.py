"""Loops compiled as one function give what ordinary loops give, and no equation that one may write ends the process.

XLA ends the process, with no exception, where an argument of such a function goes unused: these systems have constants, states
and parameters that nothing uses, tables, branches and library calls, in value and in first and second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gemello.engine import adaptive, kernel, lanes, lockstep

LANES = 16
OPTIONS = {"xla_cpu_use_fusion_emitters": False}  # those of engine/lanes.py
TABLE = np.linspace(0.0, 1.0, 7)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with lanes.precision():
        yield


def course(slope: Callable[[Any, Any], Any], y: list[Any], dt: Any, method: str = "tsit5") -> Any:
    return adaptive.advance(slope, jnp.zeros(LANES), dt, y, adaptive.start(LANES, jnp.float64), method=method)[0]


def compare(f: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """f of (lanes,) values compiled with both kinds of loop; relative tolerance 1e-11: the order of operations may differ."""
    k = jnp.linspace(0.1, 2.0, LANES)
    assert kernel.whole()
    ours = jax.jit(f, compiler_options=OPTIONS)(k)
    for module in (adaptive, lockstep):
        monkeypatch.setattr(module, "loop", lax.while_loop)
    theirs = jax.jit(f, compiler_options=OPTIONS)(k)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), ours, theirs)


def chain(k: Any, method: str, clock: Any = 5.0) -> Any:
    ones = jnp.ones(LANES)
    return course(lambda t, y: [-k * y[0], k * y[0] - y[1]], [ones, jnp.zeros(LANES)], clock * ones, method)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "auto"])
def test_values_and_two_derivatives(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = jnp.ones(LANES)
    first = lambda k: jax.jvp(lambda k: chain(k, method), (k,), (one,))  # noqa: E731
    compare(lambda k: jax.jvp(first, (k,), (one,)), monkeypatch)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "auto"])
def test_several_directions_of_which_some_do_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def f(k: Any) -> Any:
        def solve(c: Any) -> Any:
            clock = 5.0 * jnp.ones(LANES) * c[3]
            return course(
                lambda t, y: [-k * c[0] * y[0], c[1] * k * y[0] - y[1] * c[2], jnp.zeros(LANES)],
                [jnp.ones(LANES), jnp.zeros(LANES), k], clock, method,
            )  # fmt: skip

        return jax.vmap(lambda e: jax.jvp(solve, (jnp.ones(5),), (e,))[1])(jnp.eye(5))

    compare(f, monkeypatch)


def test_constants_and_what_nothing_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    one, zero = jnp.ones(LANES), jnp.zeros(LANES)

    def f(k: Any) -> Any:
        alone = course(lambda t, y: [-y[0], y[0] - y[1]], [one, zero], jnp.full(LANES, 5.0))
        unused = course(lambda t, y: [-y[0] + 0 * k, y[0] - y[1] * k[0], zero], [one, zero, k], jnp.full(LANES, 5.0))
        table = course(
            lambda t, y: [-k * y[0] * TABLE[3] + jnp.asarray(TABLE)[2], jnp.where(t > 2, k, 0 * k)],
            [one, one],
            jnp.full(LANES, 5.0),
        )
        return alone, unused, table, k

    compare(f, monkeypatch)


BRANCHES: dict[str, Callable[[Any], Callable[[Any, Any], Any]]] = {
    "cond": lambda k: lambda t, y: [lax.cond(t[0] > 2, lambda v: v, lambda v: jnp.zeros(LANES), -k * y[0])],
    "switch": lambda k: lambda t, y: [lax.switch(jnp.asarray(1), [lambda v: v, lambda v: -k * v], y[0])],
    "interpolation": lambda k: lambda t, y: [-k * y[0] * jnp.interp(t, jnp.arange(7.0), jnp.asarray(TABLE))],
    "table": lambda k: lambda t, y: [-k * y[0] * jnp.asarray(TABLE)[jnp.clip(t.astype(int), 0, 6)]],
    "dot": lambda k: lambda t, y: list(-jnp.eye(1) @ jnp.stack(y)),
    "jit": lambda k: lambda t, y: [jax.jit(lambda v, unused: -k * v)(y[0], t)],
    "sort": lambda k: lambda t, y: [-k * jnp.sort(y[0])],
    "fori": lambda k: lambda t, y: [lax.fori_loop(0, 3, lambda i, v: 0.5 * (v - y[0]), y[0])],
    "functions": lambda k: lambda t, y: [
        0.1 * (jnp.tanh(y[0]) + jnp.exp(-(y[0] ** 2)) + jnp.log1p(y[0] ** 2) + jax.nn.sigmoid(y[0]) + y[0] ** k / (1 + y[0] ** k)
        + lax.rsqrt(1 + y[0] ** 2) + jnp.arctan2(y[0], 1.0) + jax.scipy.special.erf(y[0]) + jnp.floor(y[0]) + y[0] % 1.3) - y[0]
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", BRANCHES)
def test_equations_of_every_kind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def f(k: Any) -> Any:
        return course(BRANCHES[name](k), [0.5 + jnp.zeros(LANES)], jnp.full(LANES, 3.0))

    one = jnp.ones(LANES)
    compare(lambda k: jax.jvp(f, (k,), (one,)) if name != "sort" else f(k), monkeypatch)


def test_what_is_compiled_whole() -> None:
    inside = lambda f: kernel.plain(jax.make_jaxpr(f)(jnp.ones(3)).jaxpr)  # noqa: E731
    assert inside(lambda x: jnp.where(x > 0, jnp.exp(-x), x**2.5))
    assert not inside(lambda x: lax.cond(x[0] > 0, lambda v: v, lambda v: 0 * v, x))
    assert not inside(jnp.sort)


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMELLO_LOOPS", "plain")
    assert not kernel.whole()
