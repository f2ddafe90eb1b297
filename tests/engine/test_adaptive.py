"""Adaptive segments: accuracy against SciPy at tight tolerance, switching, sensitivities, lanes that fail, block mates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gemello.engine import adaptive
from gemello.engine.adaptive import Control, advance, start

pytestmark = pytest.mark.usefixtures("x64")
METHODS = pytest.mark.parametrize("method", [m for m in adaptive.METHODS if m != "rush_larsen"])  # test_rush_larsen.py


def run(
    rhs: Callable[..., Any], y: Sequence[Any], times: Sequence[float], *, method: str = "auto", rtol: float = 1e-6,
    atol: float = 1e-8, max_steps: int = 10_000, p: Any = None,
) -> tuple[np.ndarray, Control]:  # fmt: skip
    """States (times, states, lanes) after each segment, and the last control; `rhs(t, y, p)`."""
    y = tuple(jnp.asarray(v) for v in y)
    lanes, dtype = y[0].shape[0], y[0].dtype

    @jax.jit
    def go(y: Any, p: Any) -> Any:
        def segment(carry: Any, ends: Any) -> Any:
            y, control = carry
            t0, dt = jnp.broadcast_to(ends[0], (lanes,)), jnp.broadcast_to(ends[1] - ends[0], (lanes,))
            y, control = advance(
                lambda t, y: rhs(t, y, p), t0, dt, y, control, method=method, rtol=rtol, atol=atol, max_steps=max_steps
            )
            return (y, control), jnp.stack(y)

        t = jnp.asarray(times, dtype)
        (_, control), out = jax.lax.scan(segment, (y, start(lanes, dtype)), jnp.stack([t[:-1], t[1:]], axis=1))
        return out, control

    out, control = go(y, p)
    return np.asarray(out), control


def excess(got: np.ndarray, exact: np.ndarray, rtol: float, atol: float) -> float:
    """Largest error over the tolerance."""
    return float(np.max(np.abs(got - exact) / (atol + rtol * np.abs(exact))))


# ---- problems ----------------------------------------------------------------------------------------------------------
def brusselator(t: Any, y: Any, p: Any) -> Any:
    return 1 + y[0] ** 2 * y[1] - 4 * y[0], 3 * y[0] - y[0] ** 2 * y[1]


def van_der_pol(t: Any, y: Any, p: Any) -> Any:
    return y[1], 1000.0 * (1 - y[0] ** 2) * y[1] - y[0]


def robertson(t: Any, y: Any, p: Any) -> Any:
    slow, fast, back = 0.04 * y[0], 3e7 * y[1] ** 2, 1e4 * y[1] * y[2]
    return back - slow, slow - back - fast, fast


def authority(rhs: Any, y0: Sequence[float], times: Sequence[float], method: str) -> np.ndarray:
    """SciPy at 1e-12 (Radau, DOP853), states (times, states)."""
    solution = solve_ivp(
        lambda t, y: np.array(rhs(t, y, None)), (times[0], times[-1]), y0, method, list(times), rtol=1e-12, atol=1e-14
    )
    assert solution.success
    return solution.y.T[1:]


# ---- accuracy and switching --------------------------------------------------------------------------------------------
@METHODS
def test_not_stiff_against_dop853(method: str) -> None:
    times = np.linspace(0, 10, 21)
    out, control = run(brusselator, ([1.5] * 2, [3.0] * 2), times, method=method, rtol=1e-8, atol=1e-10)
    exact = authority(brusselator, [1.5, 3.0], times, "DOP853")
    assert excess(out[:, :, 0], exact, 1e-8, 1e-10) < 30  # the tolerance is per step, this is the sum of them (3 and 14 seen)
    assert int(control.switches) == 0
    assert not bool(control.failed.any())


@pytest.mark.parametrize("method", ["auto", "rodas5p"])
def test_robertson_against_radau(method: str) -> None:
    times = [0.0, 0.4, 4.0, 40.0, 400.0, 4e3, 4e4, 4e5]
    out, control = run(robertson, ([1.0], [0.0], [0.0]), times, method=method, rtol=1e-7, atol=1e-12)
    assert excess(out[:, :, 0], authority(robertson, [1.0, 0, 0], times, "Radau"), 1e-7, 1e-12) < 10
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-9)  # mass is conserved
    assert int((control.accepted + control.rejected).max()) < 1000
    assert (int(control.switches) >= 1) == (method == "auto")


@pytest.mark.parametrize("method", ["auto", "rodas5p"])
def test_van_der_pol_against_radau(method: str) -> None:
    """μ = 1000: slow branch, jump, slow branch; auto changes to Rodas5P and takes few steps."""
    times = [0.0, 200.0, 500.0, 1000.0, 1500.0]
    out, control = run(van_der_pol, ([2.0], [0.0]), times, method=method, rtol=1e-7, atol=1e-9)
    exact = authority(van_der_pol, [2.0, 0.0], times, "Radau")
    assert excess(out[:, :, 0], exact, 1e-7, 1e-9) < 10
    assert int((control.accepted + control.rejected).max()) < 3000
    if method == "auto":
        assert int(control.switches) >= 1


def test_auto_goes_both_ways() -> None:
    """Stiff until t = 5, not stiff afterwards: y' = -k(t)(y - cos t), k falls from 1e4 to 1; exact by Radau."""

    def rhs(t: Any, y: Any, p: Any) -> Any:
        np_or_jnp = jnp if isinstance(t, jax.Array) else np
        k = 1 + 1e4 / (1 + np_or_jnp.exp(10 * (t - 5)))
        return (-k * (y[0] - np_or_jnp.cos(t)),)

    times = [0.0, 4.0, 30.0]
    out, control = run(rhs, ([0.0],), times, rtol=1e-7, atol=1e-9)
    assert excess(out[:, :, 0], authority(rhs, [0.0], times, "Radau"), 1e-7, 1e-9) < 10
    assert int(control.switches) >= 2
    assert not bool(control.stiff)


@METHODS
def test_time_dependence_and_own_clocks(method: str) -> None:
    """y' = t cos(t²) with t0 and dt of each lane its own: y = y0 + (sin t1² - sin t0²)/2; a lane with dt = 0 does not move."""
    t0, dt = jnp.array([0.0, 1.0, 2.0, 5.0]), jnp.array([2.0, 0.5, 0.01, 0.0])
    y, control = advance(
        lambda t, y: (t * jnp.cos(t**2),), t0, dt, (jnp.ones(4),), start(4, jnp.float64), method=method, rtol=1e-9, atol=1e-11
    )
    exact = 1 + (np.sin((t0 + dt) ** 2) - np.sin(t0**2)) / 2
    np.testing.assert_allclose(y[0], exact, rtol=2e-8)
    assert float(y[0][3]) == 1
    assert not bool(control.failed.any())


class Pair(NamedTuple):
    a: Any
    b: Any


@METHODS
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_structure_and_precision_follow_the_inputs(method: str, dtype: Any) -> None:
    y = Pair(jnp.ones(3, dtype), jnp.zeros(3, dtype))
    out, control = jax.jit(
        lambda y: advance(
            lambda t, y: Pair(-y.a, 0.0), jnp.zeros(3, dtype), jnp.ones(3, dtype), y, start(3, dtype), method=method, rtol=1e-4
        )
    )(y)
    assert isinstance(out, Pair)
    assert out.a.dtype == out.b.dtype == control.step.dtype == control.failure_time.dtype == dtype
    np.testing.assert_allclose(out.a, np.exp(-1), rtol=1e-3)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="tsit5"):
        advance(lambda t, y: y, jnp.zeros(1), jnp.ones(1), (jnp.ones(1),), start(1, jnp.float64), method="rk4")


# ---- segments ----------------------------------------------------------------------------------------------------------
@METHODS
def test_idle_block_takes_no_step(method: str) -> None:
    control = start(3, jnp.float64)._replace(step=jnp.full(3, 0.5))
    y = (jnp.array([1.0, 2.0, jnp.inf]),)
    out, new = advance(lambda t, y: (1 / (y[0] - 2),), jnp.zeros(3), jnp.zeros(3), y, control, method=method)
    assert not new.accepted.any()
    assert not new.rejected.any()
    assert np.asarray(new.step).tolist() == [0.5] * 3
    assert np.asarray(out[0])[:2].tolist() == [1, 2]  # a slope that is infinite does no harm where nothing moves
    assert np.asarray(new.failed).tolist() == [False, False, True]


def test_step_survives_short_segments() -> None:
    """Output a hundred times as often must not cost a hundred times the steps of the start."""
    coarse = run(brusselator, ([1.5], [3.0]), [0.0, 0.5, 1.0])[1]
    fine = run(brusselator, ([1.5], [3.0]), np.linspace(0, 1, 201))[1]
    assert int(fine.accepted[0]) <= 200 + int(coarse.accepted[0])
    assert float(fine.step[0]) > 0.02


@METHODS
def test_lane_alone_and_among_others(method: str) -> None:
    """Within 10 times the tolerance (DESIGN: the price of lockstep)."""
    rng = np.random.default_rng(1)
    k = np.exp(0.5 * rng.standard_normal((4, 64)))
    times = np.linspace(0, 8, 9)

    def rhs(t: Any, y: Any, p: Any) -> Any:
        return -p[0] * y[0], p[0] * y[0] - p[1] * y[1] / (1 + y[1]) - p[2] * y[1], p[2] * y[1] - p[3] * y[2]

    y0 = (np.full(64, 10.0), np.zeros(64), np.zeros(64))
    block, _ = run(rhs, y0, times, method=method, p=tuple(jnp.asarray(k)))
    lane = int(np.argmin(k[0]))  # a slow one, whose own steps would be the longest
    alone, _ = run(rhs, tuple(v[:1] for v in y0), times, method=method, p=tuple(jnp.asarray(k[:, lane : lane + 1])))
    assert excess(block[:, :, lane], alone[:, :, 0], 1e-6, 1e-8) < 10


# ---- sensitivities -----------------------------------------------------------------------------------------------------
def decay(k: Any, method: str) -> Any:
    """y(1.5) of y' = -k y² + k t y - exp(-k t) z, z' = y - k z, from (k, 1): smooth in k in every way at once."""

    def rhs(t: Any, y: Any) -> Any:
        return -k * y[0] ** 2 + k * t * y[0] - jnp.exp(-k * t) * y[1], y[0] - k * y[1]

    n = k.shape[0]
    y0 = (k, jnp.ones(n))
    y, _ = advance(rhs, jnp.zeros(n), jnp.full(n, 1.5), y0, start(n, k.dtype), method=method, rtol=1e-10, atol=1e-12)
    return y[0]


@METHODS
def test_sensitivities_against_finite_differences(method: str) -> None:
    k, e = jnp.array([0.5, 1.0, 2.0]), 1e-3
    f = jax.jit(lambda k: decay(k, method))
    first = jax.jit(lambda k: jax.jvp(f, (k,), (jnp.ones(3),))[1])
    second = jax.jit(lambda k: jax.jvp(first, (k,), (jnp.ones(3),))[1])
    values = [np.asarray(f(k + i * e)) for i in range(-2, 3)]  # fourth-order central differences
    np.testing.assert_allclose(first(k), (values[0] - 8 * values[1] + 8 * values[3] - values[4]) / (12 * e), rtol=1e-6)
    slopes = [np.asarray(first(k + i * e)) for i in range(-2, 3)]
    np.testing.assert_allclose(second(k), (slopes[0] - 8 * slopes[1] + 8 * slopes[3] - slopes[4]) / (12 * e), rtol=1e-5)


@METHODS
def test_sensitivities_against_closed_form(method: str) -> None:
    """y = exp(-k dt): first and second derivative in k and in dt, with tangents in a vmap."""

    def end(q: Any) -> Any:
        k, dt = q
        control = start(3, jnp.float64)
        y, _ = advance(lambda t, y: (-k * y[0],), jnp.zeros(3), dt, (jnp.ones(3),), control, method=method, rtol=1e-9, atol=1e-11)
        return y[0]

    k, dt = jnp.array([0.3, 1.0, 3.0]), jnp.array([1.0, 2.0, 0.0])
    units = (jnp.array([[1.0] * 3, [0.0] * 3]), jnp.array([[0.0] * 3, [1.0] * 3]))

    def gradient(q: Any) -> Any:
        return jax.vmap(lambda v: jax.jvp(end, (q,), (v,))[1])(units)

    exact = np.exp(-k * dt)
    np.testing.assert_allclose(jax.jit(gradient)((k, dt)), [-dt * exact, -k * exact], rtol=1e-7, atol=1e-12)
    second = jax.jit(jax.vmap(lambda v: jax.jvp(gradient, ((k, dt),), (v,))[1]))(units)
    mixed = (k * dt - 1) * exact
    np.testing.assert_allclose(second, [[dt**2 * exact, mixed], [mixed, k**2 * exact]], rtol=1e-6, atol=1e-12)


@METHODS
def test_idle_block_is_differentiable_in_its_length(method: str) -> None:
    """dt = 0 in every lane: dy/ddt = f and d²y/ddt² = f' f, as for an output at a time that is itself estimated."""

    def end(dt: Any) -> Any:
        y0, t0 = (jnp.array([2.0, 3.0]),), jnp.array([1.0, 2.0])
        return advance(lambda t, y: (-y[0] * t,), t0, dt, y0, start(2, jnp.float64), method=method)[0][0]

    def slope(dt: Any) -> Any:
        return jax.jvp(end, (dt,), (jnp.ones(2),))[1]

    zero = jnp.zeros(2)
    first, second = jax.jit(lambda dt: jax.jvp(slope, (dt,), (jnp.ones(2),)))(zero)
    np.testing.assert_allclose(first, [-2, -6], rtol=1e-14)
    # y'' = -y't - y
    np.testing.assert_allclose(second, [2 - 2, 12 - 3], rtol=1e-13, atol=1e-13)


def test_loops_do_not_depend_on_tangents() -> None:
    """Under vmap of tangents every loop condition stays one bool, or the lanes would be masked."""

    def gradient(k: Any) -> Any:
        return jax.vmap(lambda v: jax.jvp(lambda k: decay(k, "auto"), (k,), (v,))[1])(jnp.eye(2))

    loops = []

    def visit(jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "while":
                loops.append(eqn.params["cond_jaxpr"].jaxpr.outvars[0].aval.shape)
            if eqn.primitive.name == "cond":
                loops.append(eqn.invars[0].aval.shape)
            for value in eqn.params.values():
                for part in value if isinstance(value, tuple | list) else (value,):
                    if hasattr(part, "jaxpr"):
                        visit(part.jaxpr)
                    elif hasattr(part, "eqns"):
                        visit(part)

    visit(jax.make_jaxpr(gradient)(jnp.ones(2)).jaxpr)
    assert len(loops) >= 4
    assert set(loops) == {()}


# ---- failures ----------------------------------------------------------------------------------------------------------
def growing(t: Any, y: Any, p: Any) -> Any:
    """y' = p y²: y0 = 1 blows up at t = 1/p; negative p decays as 1/(1 - p t)."""
    return (p * y[0] ** 2,)


@METHODS
def test_lane_that_blows_up_stops_alone(method: str) -> None:
    p = np.array([-1.0, 0.8, -2.0, -0.5])
    times = np.linspace(0, 4, 9)
    out, control = run(growing, (np.ones(4),), times, method=method, p=jnp.asarray(p))
    assert np.asarray(control.failed).tolist() == [False, True, False, False]
    assert float(control.failure_time[1]) == pytest.approx(1.25, abs=1e-3)
    assert np.all(np.isnan(np.asarray(control.failure_time)[[0, 2, 3]]))
    exact = 1 / (1 - np.outer(times[1:], p))
    fine = [0, 2, 3]
    assert excess(out[:, 0, fine], exact[:, fine], 1e-6, 1e-8) < 10
    assert np.all(np.isnan(out[2:, 0, 1]))
    assert np.all(np.isfinite(out[:2, 0, 1]))


@METHODS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_lane_with_a_parameter_that_is_no_number(method: str, bad: float) -> None:
    p = np.array([-1.0, bad, -2.0])
    out, control = run(growing, (np.ones(3),), [1.0, 2.0, 3.0], method=method, p=jnp.asarray(p))
    assert np.asarray(control.failed).tolist() == [False, True, False]
    assert float(control.failure_time[1]) == 1
    assert np.all(np.isnan(out[:, 0, 1]))
    exact = 1 / (1 - np.outer([1.0, 2.0], p[[0, 2]]))
    assert excess(out[:, 0, [0, 2]], exact, 1e-6, 1e-8) < 10


@METHODS
def test_slope_that_ends_being_a_number(method: str) -> None:
    """sqrt of a falling state: NaN once it is below 0 (at t = 2 in lane 0), not before."""
    out, control = run(
        lambda t, y, p: (-jnp.ones_like(y[0]), jnp.sqrt(y[0])), ([2.0, 9.0], [0.0, 0.0]), [0.0, 1.0, 4.0], method=method
    )
    assert np.asarray(control.failed).tolist() == [True, False]
    assert 1 < float(control.failure_time[0]) <= 2 + 1e-12
    np.testing.assert_allclose(out[1, :, 1], [5.0, 2 / 3 * (27 - 5**1.5)], rtol=1e-5)


@METHODS
@pytest.mark.parametrize("name", ["y", "t0", "dt", "negative dt"])
def test_inputs_that_are_no_number_fail_their_lane(method: str, name: str) -> None:
    values = {"y": jnp.ones(2), "t0": jnp.zeros(2), "dt": jnp.ones(2)}
    key = name.removeprefix("negative ")
    values[key] = values[key].at[1].set(-1.0 if name.startswith("negative") else jnp.nan)
    y, control = advance(lambda t, y: (-y[0],), values["t0"], values["dt"], (values["y"],), start(2, jnp.float64), method=method)
    assert np.asarray(control.failed).tolist() == [False, True]
    assert float(y[0][0]) == pytest.approx(np.exp(-1), rel=1e-5)
    assert np.isnan(float(y[0][1]))


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_too_many_steps_blame_the_lane_that_needs_them(method: str) -> None:
    """One lane oscillates 2,000 times as fast as the others; 200 steps are enough for these and not for that one."""
    w = np.array([1.0, 2000.0, 2.0, 3.0])
    out, control = run(
        lambda t, y, p: (p * y[1], -p * y[0]), (np.ones(4), np.zeros(4)), [0.0, 1.0, 2.0], method=method, max_steps=200,
        p=jnp.asarray(w),
    )  # fmt: skip
    assert np.asarray(control.failed).tolist() == [False, True, False, False]
    assert 0 < float(control.failure_time[1]) < 1
    fine = [0, 2, 3]
    assert excess(out[:, 0, fine], np.cos(np.outer([1.0, 2.0], w[fine])), 1e-6, 1e-6) < 20


def test_all_lanes_may_fail() -> None:
    out, control = run(growing, (np.ones(2),), [0.0, 1.0, 2.0, 3.0], p=jnp.array([2.0, 1.5]))
    assert bool(control.failed.all())
    np.testing.assert_allclose(control.failure_time, [0.5, 2 / 3], atol=1e-3)
    assert np.all(np.isnan(out))


def test_failed_lane_keeps_its_first_time() -> None:
    control = run(growing, (np.ones(2),), np.linspace(0, 5, 6), p=jnp.array([2.0, -1.0]))[1]
    assert float(control.failure_time[0]) == pytest.approx(0.5, abs=1e-3)


@METHODS
def test_sensitivities_beside_a_failing_lane(method: str) -> None:
    """The others' derivatives are finite and right: d/dp 1/(1 - p t) = t/(1 - p t)²."""

    def end(p: Any) -> Any:
        rhs = lambda t, y: (p * y[0] ** 2,)  # noqa: E731
        return advance(rhs, jnp.zeros(3), jnp.full(3, 2.0), (jnp.ones(3),), start(3, p.dtype), method=method, rtol=1e-8)[0][0]

    p = jnp.array([-1.0, 0.8, -2.0])
    slope = np.asarray(jax.jit(lambda p: jax.jvp(end, (p,), (jnp.ones(3),))[1])(p))
    np.testing.assert_allclose(slope[[0, 2]], 2 / (1 - 2 * np.array([-1.0, -2.0])) ** 2, rtol=1e-5)
