"""Steady states that no dosing leads to, and doses that a method cannot give, are refused."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemello.base.errors import UnsupportedError
from gemello.engine.plan import END, NONE, START, STEADY, Plan, PortPlan, Slots
from gemello.engine.solve import solve

pytestmark = pytest.mark.usefixtures("x64")
Amount, Rate, Nothing = namedtuple("Amount", "a"), namedtuple("Rate", "k"), namedtuple("Nothing", "")  # noqa: PYI024


class Growth:
    """a' = k a."""

    outputs, state_type, signal_type = ("a",), Amount, Nothing

    def initial(self, p: Any) -> Any:
        return Amount(0.0 * p.k)

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return Amount(p.k * y.a)

    def advance(self, t: Any, dt: Any, y: Any, p: Any, u: Any) -> Any:
        return Amount(y.a * jnp.exp(p.k * dt))

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (y.a,)


def _solved(method: str, kinds: tuple[int, ...], k: Any) -> Any:
    n = len(kinds)
    column = lambda *v: np.array(v)[:, None]  # noqa: E731
    zero, real = np.zeros((n, 1), np.int32), np.zeros((n, 1))
    slots = Slots(
        column(*np.arange(float(n))), column(*kinds), zero, real + 10.0, real, real + 12.0, zero, zero, zero, zero, zero
    )
    plan = Plan(frozenset(kinds), (PortPlan(0, -1, None, None, None, None),), 0, False, False, False, (), method, 1e-8, 1e-10)
    return jax.jit(lambda k: solve(Growth(), plan, slots, Rate(k), np.arange(n, dtype=np.int32)[:, None]))(k)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_growth_has_no_steady_state(method: str) -> None:
    """k > 0 has the fixed point 10 e^{12 k} / (1 - e^{12 k}) < 0, to which no dosing leads; k = 0 has none."""
    k = np.array([-0.1, 0.1, -0.3, 0.0])
    out = _solved(method, (STEADY, NONE), jnp.asarray(k))
    assert np.asarray(out.failed).tolist() == [False, True, False, True]
    fall = np.exp(12 * k[[0, 2]])
    np.testing.assert_allclose(out.outputs[0][0][np.array([0, 2])], 10 * fall / (1 - fall), rtol=1e-6)
    assert np.isnan(np.asarray(out.outputs[0])[:, [1, 3]]).all()


@pytest.mark.parametrize("kind", [START, END, STEADY])
def test_discrete_model_takes_no_infusion(kind: int) -> None:
    with pytest.raises(UnsupportedError, match="no infusions"):
        _solved("discrete", (kind, NONE), jnp.ones(2))
