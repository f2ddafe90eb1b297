"""Rush-Larsen at its own pace: order, tolerance, decay at any step, Markov blocks, dense output, lanes, derivatives, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from gemello.base.errors import ModelError, UnsupportedError
from gemello.engine import adaptive
from gemello.engine.solvers import grl2
from gemello.engine.solvers.rush_larsen import Coupled
from gemello.model.card import Card
from gemello.model.contract import Model, Output, Port
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

pytestmark = pytest.mark.usefixtures("x64")
FAST = 300.0


# ---- problems ----------------------------------------------------------------------------------------------------------
def excitable(t: Any, y: Any, fast: Any = FAST) -> Any:
    """FitzHugh and Nagumo's equations with a gate of rate `fast` that follows the potential."""
    v, w, m = y
    steady = 1.0 / (1.0 + jnp.exp(-4.0 * v))
    return (3.0 * (m + v - v**3 / 3.0 - w) - 1.2 + 0.2 * jnp.sin(t), 0.08 * (v + 0.7 - 0.8 * w), -fast * (m - steady))


def local(shift: float = 0.0, share: float = 1.0) -> grl2.Equations:
    """Its diagonal, or something else in its place."""

    def equations(t: Any, y: Any) -> grl2.Local:
        a = [share * 3.0 * (1.0 - y[0] ** 2) + shift, -0.064 + 0 * y[0], -FAST * share + 0 * y[0]]
        return grl2.Local(jnp.stack(excitable(t, y)), jnp.stack(a), ())

    return equations


def authority(f: Any, y0: Sequence[float], times: Sequence[float]) -> np.ndarray:
    """SciPy's Radau at 1e-12: (times, states)."""
    slope = jax.jit(lambda t, y: jnp.stack(f(t, y)))
    out = solve_ivp(lambda t, y: np.asarray(slope(t, y)), (times[0], times[-1]), y0, "Radau", list(times), rtol=1e-12, atol=1e-14)
    assert out.success
    return out.y.T


def fixed(equations: grl2.Equations, y0: Sequence[float], end: float, steps: int) -> np.ndarray:
    """State after steps of one size."""
    return np.asarray(_fixed(equations)(jnp.asarray(y0)[:, None], jnp.full(1, end / steps), steps))[:, 0]


@lru_cache
def _fixed(equations: grl2.Equations) -> Any:
    return jax.jit(lambda y, h, n: jax.lax.fori_loop(0, n, lambda k, y: grl2.step(equations, k * h, y, h).y, y))


def turning(t: Any, shape: Any = ()) -> list[list[Any]]:
    """A channel of three states whose rates change with time, up to 90."""
    k, back = 30.0 * (2.0 + jnp.sin(t)), jnp.broadcast_to(jnp.asarray(40.0), shape)
    slow = 1.0 + 0.5 * jnp.cos(2.0 * t)
    return [[-k, back, 0.0], [k, -(back + slow), slow * 0.3], [0.0, slow, -slow * 0.3]]


def channel(t: Any, y: Any) -> grl2.Local:
    m = turning(t, t.shape)
    slope = jnp.stack([sum(a * v for a, v in zip(row, y, strict=True)) for row in m])
    return grl2.Local(slope, jnp.zeros_like(y), (Coupled((0, 1, 2), m),))


# ---- one step ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("equations", [local(), local(share=0.0, shift=-20.0)], ids=["diagonal", "anything at most 0"])
def test_order_3_whatever_the_relaxation(equations: grl2.Equations) -> None:
    start, end = (-1.2, -0.6, 0.008), 0.4
    exact = authority(excitable, start, [0.0, end])[-1]
    errors = [np.abs(fixed(equations, start, end, n) - exact).max() for n in (400, 800)]
    assert 6.5 < errors[0] / errors[1] < 9.5  # 8 for order 3
    assert errors[1] < 1e-6


def test_order_3_of_a_markov_block_that_conserves() -> None:
    start, end = (1.0, 0.0, 0.0), 0.5
    f = lambda t, y: [sum(a * v for a, v in zip(row, y, strict=True)) for row in turning(t)]  # noqa: E731
    exact = authority(f, start, [0.0, end])[-1]
    got = [fixed(channel, start, end, n) for n in (200, 400)]
    errors = [np.abs(g - exact).max() for g in got]
    assert 6.5 < errors[0] / errors[1] < 9.5
    assert abs(got[1].sum() - 1.0) < 1e-13


def test_a_fast_gate_and_a_fast_block_settle_in_one_step() -> None:
    """h times the rate from 3e3 to 9e5: an explicit step would explode, an L-stable one ends at rest."""
    rest = np.linalg.svd(np.asarray(turning(0.0), float))[2][-1]
    rest = rest / rest.sum()

    def equations(t: Any, y: Any) -> grl2.Local:
        m = [[1e4 * v for v in row] for row in turning(0.0 * t, t.shape)]
        m = [[0.0 if isinstance(a, float) and a == 0.0 else a for a in row] for row in m]
        slopes = [sum(a * v for a, v in zip(row, y[:3], strict=True)) for row in m]
        gate = -3e3 * (y[3] - 0.25)
        a = jnp.concatenate([jnp.zeros_like(y[:3]), jnp.full_like(y[3:], -3e3)])
        return grl2.Local(jnp.stack([*slopes, gate]), a, (Coupled((0, 1, 2), m),))

    y = jnp.array([1.0, 0.0, 0.0, 1.0])[:, None]
    for _ in range(3):
        y = grl2.step(equations, jnp.zeros(1), y, jnp.ones(1)).y
    np.testing.assert_allclose(np.asarray(y)[:, 0], [*rest, 0.25], atol=1e-6)


def test_what_enters_a_block_from_outside_counts() -> None:
    """x' = M x + r: r is in the slope alone, M is the block's. Exact by the matrix exponential."""
    m, r = np.array([[-3.0, 5.0], [3.0, -5.0]]), np.array([0.7, 0.0])

    def equations(t: Any, y: Any) -> grl2.Local:
        rows = [[jnp.full_like(t, v) for v in row] for row in m]
        slope = jnp.stack([sum(a * v for a, v in zip(row, y, strict=True)) + s for row, s in zip(rows, r, strict=True)])
        return grl2.Local(slope, jnp.zeros_like(y), (Coupled((0, 1), rows),))

    whole = np.zeros((3, 3))
    whole[:2, :2], whole[:2, 2] = m, r
    exact = (expm(whole) @ [0.2, 0.1, 1.0])[:2]
    np.testing.assert_allclose(fixed(equations, (0.2, 0.1), 1.0, 200), exact, rtol=1e-7)


# ---- at its own pace ---------------------------------------------------------------------------------------------------
def adaptively(y: Any, control: Any, fast: Any, t0: Any, dt: Any, rtol: Any, max_steps: Any) -> Any:
    def equations(t: Any, y: Any) -> grl2.Local:
        a = jnp.stack([3.0 * (1.0 - y[0] ** 2), -0.064 + 0 * y[0], -fast + 0 * y[0]])
        return grl2.Local(jnp.stack(excitable(t, y, fast)), a, ())

    return adaptive.advance(
        lambda t, y: excitable(t, y, fast), t0, dt, y, control, method="rush_larsen", rtol=rtol, atol=0.01 * rtol,
        max_steps=max_steps, equations=equations,
    )  # fmt: skip


@jax.jit
def _segments(y0: Any, control: Any, fast: Any, ends: Any, rtol: Any, max_steps: Any) -> Any:
    def one(carry: Any, ends: Any) -> Any:
        t0, dt = jnp.broadcast_to(ends[0], fast.shape), jnp.broadcast_to(ends[1] - ends[0], fast.shape)
        y, control = adaptively(*carry, fast, t0, dt, rtol, max_steps)
        return (y, control), jnp.stack(y)

    (_, control), out = jax.lax.scan(one, (tuple(y0), control), ends)
    return out, control


def run(
    y0: np.ndarray, rtol: float, *, fast: Any = FAST, first: float = 0.0, max_steps: int = 10_000
) -> tuple[np.ndarray, adaptive.Control]:
    """States (times, states, lanes) after each segment of TIMES; y0 (states, lanes)."""
    lanes = y0.shape[1]
    control = adaptive.start(lanes, jnp.float64)._replace(step=jnp.full(lanes, first))
    ends = jnp.stack([jnp.asarray(TIMES[:-1]), jnp.asarray(TIMES[1:])], axis=1)
    out, control = _segments(jnp.asarray(y0), control, jnp.broadcast_to(jnp.asarray(fast), lanes), ends, rtol, max_steps)
    return np.asarray(out), control


START = np.array([-1.2, -0.6, 0.008])
TIMES = (0.0, 3.0, 11.0)


def test_errors_follow_the_tolerance() -> None:
    exact = authority(excitable, START, TIMES)[1:]
    size = np.abs(exact) + 0.01
    errors, steps = [], []
    for rtol in (1e-4, 1e-6):
        out, control = run(START[:, None], rtol)
        errors.append(float(np.max(np.abs(out[:, :, 0] - exact) / size)))
        steps.append(int(control.accepted[0]))
        assert int(control.rejected[0]) < 0.2 * steps[-1]
    assert errors[0] < 1e-2
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] > 10
    assert 4 < steps[1] / steps[0] < 16  # 100^(1/3) = 4.6 by order 3; while the gate follows at h times its rate > 1, 100^(1/2)


def test_a_step_that_is_too_long_is_repeated() -> None:
    usual, control = run(START[:, None], 1e-5)
    out, after = run(START[:, None], 1e-5, first=100.0)
    assert int(after.rejected[0]) > int(control.rejected[0]) + 2
    np.testing.assert_allclose(out, usual, rtol=1e-3)


def test_lanes_keep_their_own_pace() -> None:
    """A lane alone, beside others, and beside one that is given up: the same to rounding, the failure is told with its time."""
    y0 = np.stack([START, START + 0.3, START * np.nan], axis=1)
    fast = np.array([FAST, 30.0, FAST])
    alone = [run(y0[:, i : i + 1], 1e-5, fast=fast[i]) for i in range(2)]
    out, control = run(y0, 1e-5, fast=fast)
    for i, (one, own) in enumerate(alone):
        np.testing.assert_allclose(out[:, :, i], one[:, :, 0], rtol=1e-9)
        assert int(control.accepted[i]) == int(own.accepted[0])
    assert np.asarray(control.failed).tolist() == [False, False, True]
    assert float(control.failure_time[2]) == 0.0
    assert np.isnan(out[:, :, 2]).all()


def test_a_lane_with_too_many_steps_is_given_up() -> None:
    out, control = run(np.stack([START] * 3, axis=1), 1e-5, fast=np.array([FAST, 1.0, 1.0]), max_steps=500)
    assert np.asarray(control.failed).tolist() == [True, False, False]
    assert 0 < float(control.failure_time[0]) < TIMES[-1]
    assert np.isnan(out[-1, :, 0]).all()
    assert np.isfinite(out[:, :, 1:]).all()


def test_forward_derivative_against_differences() -> None:
    """By the rate of the gate and by a state at the start; differences of order 4 at steps where the pace's noise is small."""

    def end(v: Any) -> Any:
        y = tuple(jnp.broadcast_to(x, (1,)) for x in (START[0], START[1] + v[1], START[2]))
        control = adaptive.start(1, y[0].dtype)
        out, _ = adaptively(y, control, v[0] * FAST, jnp.zeros(1), jnp.full(1, 3.0), 1e-7, 100_000)
        return jnp.stack(out)[:, 0]

    point = jnp.array([0.1, 0.0])
    exact = np.asarray(jax.jit(jax.jacfwd(end))(point))
    f, h = jax.jit(end), 1e-2
    for j, size in enumerate((0.1, 1.0)):
        a, b, c, d = (np.asarray(f(point.at[j].add(k * h * size))) for k in (-2, -1, 1, 2))
        np.testing.assert_allclose(exact[:, j], (8 * (c - b) - (d - a)) / (12 * h * size), rtol=1e-3, atol=1e-5)


# ---- through the contract ----------------------------------------------------------------------------------------------
def _row(name: str, value: float, unit: str) -> Parameter:
    return Parameter(name=name, value=value, unit=unit, lower=0.0, upper=1e6, source="made up", description=name)


@final
class Membrane(Model):
    """A potential that a stimulus moves, a gate and a channel of three states."""

    name, version, time_unit = "membrane", "1", "ms"
    states = dict.fromkeys(("v", "w", "m", "x1", "x2", "x3"), "1")
    outputs = (Output("v", "1"), Output("open", "1"))
    ports = (Port("stimulus", "1/ms", kind="signal"), Port("dose", "1", state="w"))
    parameters = ParameterTable((_row("fast", 300.0, "1/ms"), _row("scale", 3.0, "1/ms")))
    card = Card("membrane", {})
    method = "rush_larsen"
    coupled = (("x1", "x2", "x3"),)

    def initial(self, p: Any) -> Any:
        zero = p.fast * 0.0
        return self.state_type(zero - 1.2, zero - 0.6, zero + 0.008, zero + 1.0, zero, zero)

    def _matrix(self, y: Any) -> Any:
        k = 60.0 / (1.0 + jnp.exp(-3.0 * y.v))
        return ((-k, 20.0, 0.0), (k, -21.0, 0.5), (0.0, 1.0, -0.5))

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        steady = 1.0 / (1.0 + jnp.exp(-4.0 * y.v))
        x = (y.x1, y.x2, y.x3)
        return self.state_type(
            p.scale * (y.m + y.v - y.v**3 / 3.0 - y.w) - 1.2 + u.stimulus - 0.1 * y.x2,
            0.08 * (y.v + 0.7 - 0.8 * y.w),
            -p.fast * (y.m - steady),
            *(sum(a * v for a, v in zip(row, x, strict=True)) for row in self._matrix(y)),
        )

    def relaxation(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(p.scale * (1.0 - y.v**2), -0.064, -p.fast, 0.0, 0.0, 0.0)

    def coupling(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (self._matrix(y),)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return y.v, y.x2


MEMBRANE = Membrane()
LOOKS = np.linspace(0.05, 12.0, 160)
TIGHT: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-8}


def plan(shift: float) -> Schedule:
    """A stimulus, a dose at once and an infusion into a state."""
    out = Schedule.of(0.0, evid=2).signal(1.0 + shift, 1.5, port=1).signal(2.5 + shift, 0.0, port=1)
    return out.dose(4.0, 0.3, port=2).dose(6.0 + shift, 0.4, port=2, duration=1.5).observe(LOOKS)


@lru_cache
def solved(shift: float, method: str, rtol: float) -> tuple[np.ndarray, int]:
    """v and x2 at LOOKS of one cell (outputs, records), and the steps."""
    out = simulate(MEMBRANE, plan(shift), method=method, rtol=rtol, atol=0.01 * rtol).check()
    at = [int(np.flatnonzero(out.time[0] == t)[-1]) for t in LOOKS]
    return np.stack([v[0, at] for v in out.outputs.values()]), out.steps[0]


def test_simulate_with_stimulus_doses_and_readouts_between_steps_against_tsit5() -> None:
    """The same model, by another method that it may be solved by."""
    exact, _ = solved(0.0, "tsit5", 1e-9)
    for rtol, allowed in ((1e-6, 3e-5), (1e-4, 3e-3)):
        got, steps = solved(0.0, "rush_larsen", rtol)
        np.testing.assert_allclose(got, exact, atol=allowed)
    assert steps < 600  # at 1e-4


def test_one_subject_or_many_with_schedules_of_their_own() -> None:
    both = simulate(MEMBRANE, [Subject("a", plan(0.0)), Subject("b", plan(0.3))], **TIGHT).check()
    for i, shift in enumerate((0.0, 0.3)):
        at = [int(np.flatnonzero(both.time[i] == t)[-1]) for t in LOOKS]
        np.testing.assert_allclose(both.outputs["v"][i, at], solved(shift, "rush_larsen", 1e-6)[0][0], atol=3e-5)


class Plain(Model):
    name, version, time_unit = "plain", "1", "h"
    states = {"y": "1"}  # noqa: RUF012
    outputs = (Output("y", "1"),)
    parameters = ParameterTable((_row("k", 1.0, "1/h"),))
    card = Card("plain", {})

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(-p.k * y.y)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (y.y,)


class Hasty(Plain):
    method = "rush_larsen"


def test_without_relaxation_it_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="model plain: method 'rush_larsen' needs `relaxation`; use 'auto'"):
        simulate(Plain(), Schedule().observe([1.0]), method="rush_larsen")
    with pytest.raises(ModelError, match="model plain: method 'rush_larsen' without `relaxation`; write it"):
        simulate(Hasty(), Schedule().observe([1.0]))
