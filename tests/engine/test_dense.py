"""Readouts between steps: the interpolants' order; answers and sensitivities against closed forms in every way of stepping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemello.domains.pharmacology.one_compartment.model import oral
from gemello.engine import dense
from gemello.engine.plan import BOLUS, NONE, Plan, PortPlan, Slots
from gemello.engine.solve import solve
from gemello.engine.solvers import rodas5p, tsit5

pytestmark = pytest.mark.usefixtures("x64")
METHODS = pytest.mark.parametrize("method", ["tsit5", "rodas5p", "auto"])


def _error(method: str, h: float) -> float:
    """Largest error between the ends of one step from t = 0 of y' = -y² cos t, whose solution is 1/(1 + sin t)."""

    def f(t: Any, y: Any) -> Any:
        return -(y[0] ** 2) * jnp.cos(t), y[0] - y[1]

    t, y = jnp.zeros(1), (jnp.ones(1), jnp.zeros(1))
    step: Any
    if method == "tsit5":
        step = tsit5.step(f, t, y, jnp.full(1, h), f(t, y))
    else:
        step = rodas5p.step(f, t, y, jnp.full(1, h), rodas5p.pattern(f, t, y))
    x = np.linspace(0.1, 0.9, 9)
    got = np.array([dense.between(v, y[0], step.y[0], step.bend[0][0], step.bend[1][0], step.bend[2][0])[0] for v in x])
    return float(np.abs(got - 1 / (1 + np.sin(h * x))).max())


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_interpolant_is_of_order_4(method: str) -> None:
    """Local error h^5: halving the step divides it by 32 (by 16 for a cubic)."""
    ratios = [_error(method, h) / _error(method, h / 2) for h in (0.1, 0.05)]
    assert min(ratios) > 25, ratios


LANES = 5


def _solved(p: Any, method: str, shared: bool) -> Any:
    """Concentrations (records, lanes): two doses, records between; a schedule for all, or the same one for each lane."""
    times = np.r_[0.0, np.linspace(0.1, 11.9, 30), 12.0, np.linspace(12.5, 24.0, 12)][:, None]
    kind = np.where((times == 0) | (times == 12), BOLUS, NONE).astype(np.int32)
    wide = lambda v: np.asarray(v if shared else np.repeat(v, LANES, axis=1))  # noqa: E731
    whole, real = (lambda k: wide(np.full(times.shape, k, np.int32))), (lambda v: wide(np.full(times.shape, v)))
    slots = Slots(
        wide(times), wide(kind), whole(0), real(100.0), real(0.0), real(1.0), whole(0), whole(0), whole(0), whole(0), whole(0)
    )
    plan = Plan(
        frozenset({BOLUS, NONE}), (PortPlan(0, -1, None, None, None, None),), 0, False, False, False, (), method, 1e-9, 1e-11
    )
    records = wide(np.arange(len(times), dtype=np.int32)[:, None])
    return solve(oral, plan, slots, p, records, outputs=(0,))


def _parameters(ka: Any, cl: Any) -> Any:
    known = {"KA": ka, "CL": cl, "V": 20.0}
    fill = lambda n: jnp.broadcast_to(jnp.asarray(known.get(n, 1.0)), (LANES,))  # noqa: E731
    return oral.individual_type(*(fill(n) for n in oral.individual_type._fields))


def _exact(t: Any, ka: Any, cl: Any) -> Any:
    k = cl / 20.0
    one = lambda s: 5.0 * ka / (ka - k) * (jnp.exp(-k * s) - jnp.exp(-ka * s))  # noqa: E731
    return one(t) + jnp.where(t >= 12, one(jnp.maximum(t - 12, 0)), 0)


@METHODS
@pytest.mark.parametrize("shared", [True, False])
def test_values_and_sensitivities_against_closed_form(method: str, shared: bool) -> None:
    ka, cl = jnp.array([0.5, 1.0, 2.0, 4.0, 8.0]), jnp.array([2.0, 9.0, 1.0, 4.0, 3.0])
    t = np.r_[0.0, np.linspace(0.1, 11.9, 30), 12.0, np.linspace(12.5, 24.0, 12)][:, None]

    def ours(q: Any) -> Any:
        return _solved(_parameters(*q), method, shared).outputs[0]

    def gradient(f: Any) -> Any:
        one, zero = jnp.ones(LANES), jnp.zeros(LANES)
        return lambda q: jax.vmap(lambda v: jax.jvp(f, (q,), (v,))[1])((jnp.stack([one, zero]), jnp.stack([zero, one])))

    exact = lambda q: _exact(t, *q)  # noqa: E731
    q = (ka, cl)
    np.testing.assert_allclose(jax.jit(ours)(q), exact(q), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(jax.jit(gradient(ours))(q), gradient(exact)(q), rtol=1e-6, atol=1e-6)
    if method == "tsit5":  # the slowest to compile by far
        np.testing.assert_allclose(jax.jit(gradient(gradient(ours)))(q), gradient(gradient(exact))(q), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
@METHODS
def test_lane_that_fails_is_alone(method: str, shared: bool) -> None:
    """A rate that is not a number: that lane is NaN and reported, the others are as without it."""
    good = _parameters(jnp.linspace(1.0, 2.0, LANES), jnp.full(LANES, 3.0))
    bad = good._replace(CL=good.CL.at[2].set(jnp.nan))
    a, b = (jax.jit(lambda p: _solved(p, method, shared))(p) for p in (good, bad))
    assert np.asarray(b.failed).tolist() == [False, False, True, False, False]
    fine = [0, 1, 3, 4]
    np.testing.assert_allclose(b.outputs[0][:, fine], a.outputs[0][:, fine], rtol=1e-7)
    assert np.isnan(b.outputs[0][1:, 2]).all()
