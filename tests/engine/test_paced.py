"""Multistep Rush-Larsen steps and the loop over beats: order, rounding given back, marks of a known wave, lanes that fail."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gemello.engine import paced
from gemello.engine.paced import Accuracy, Drive, Point
from gemello.engine.solvers import rush_larsen
from gemello.engine.solvers.rush_larsen import Coupled

pytestmark = pytest.mark.usefixtures("x64")


# ---- the step ----------------------------------------------------------------------------------------------------------
def channel(v: Any) -> list[list[Any]]:
    k = 20.0 * (1.0 + v)
    return [[-k, 30.0 + 0 * v, 0.0], [k, -31.0 + 0 * v, 0.4 + 0 * v], [0.0, 1.0 + 0 * v, -0.4 + 0 * v]]


def slopes(y: Any) -> list[Any]:
    """A potential, a gate that follows it at 60, and a channel of three states whose rates depend on it."""
    v, m, *x = y
    m_rest = 1.0 / (1.0 + jnp.exp(-2.0 * v))
    return [m - v**3 - 0.3 * x[1], -60.0 * (m - m_rest), *(sum(a * s for a, s in zip(row, x, strict=True)) for row in channel(v))]


def advance(y: Any, past: rush_larsen.Past, h: Any, ratio: Any) -> tuple[Any, Any, rush_larsen.Past]:
    a = jnp.stack([-3.0 * y[0] ** 2, -60.0 + 0 * y[0], *(0 * y[2:])])
    return rush_larsen.step(y, jnp.stack(slopes(y)), a, (Coupled((2, 3, 4), channel(y[0])),), h, ratio, past)


START = np.array([0.2, 0.3, 1.0, 0.0, 0.0])


def to_the_end(sizes: np.ndarray) -> np.ndarray:
    """State after these steps."""
    y = jnp.asarray(START)[:, None]
    past = rush_larsen.nothing(y, (Coupled((2, 3, 4), channel(y[0])),))
    before = np.concatenate([[np.inf], sizes[:-1]])

    def one(carry: Any, h: Any) -> Any:
        y, past = carry
        y, _, past = advance(y, past, h[:1], h[1:])
        return (y, past), None

    run = jax.jit(lambda c, h: jax.lax.scan(one, c, h)[0])
    (y, _) = run((y, past), jnp.stack([jnp.asarray(sizes), jnp.asarray(0.5 * sizes / before)], axis=1))
    return np.asarray(y)[:, 0]


def test_order_2_with_steps_that_differ() -> None:
    """Steps that alternate by a factor of 2; the first, of order 1, is short."""
    f = jax.jit(lambda y: jnp.stack(slopes(y)))
    exact = solve_ivp(lambda t, y: np.asarray(f(y)), (0, 1), START, "Radau", rtol=1e-11, atol=1e-13).y[:, -1]
    errors = []
    for n in (400, 800):
        sizes = np.tile([1.0, 2.0], n // 2)
        sizes = np.concatenate([np.geomspace(1e-3, 1, 12), sizes])
        got = to_the_end(sizes / sizes.sum())
        errors.append(np.abs(got - exact).max())
        assert abs(got[2:].sum() - 1.0) < 1e-12  # a channel is always in one of its states
    assert 3.3 < errors[0] / errors[1] < 4.8
    assert errors[1] < 1e-4


def test_phi1_is_the_exponentials() -> None:
    """Padé (0, 4): order 4 at 0, 0 at −∞, never negative."""
    z = -np.geomspace(1e-4, 0.3, 30)
    error = np.abs(np.asarray(rush_larsen.phi1(jnp.asarray(z))) - np.expm1(z) / z)
    assert np.all(error <= np.abs(z) ** 4 / 100 + 1e-12)
    far = np.asarray(rush_larsen.phi1(-jnp.geomspace(1.0, 1e6, 50)))
    assert np.all(far > 0)
    assert far[-1] < 2e-6


def test_rounding_is_given_back_in_single_precision() -> None:
    """A slope of 1e-4 on a state of 100, 20,000 steps of 0.01: each moves it by less than half a last digit of float32."""

    def one(carry: Any, _: Any) -> Any:
        y, past = carry
        slope, zero = jnp.full_like(y, 1e-4), jnp.zeros_like(y)
        y, _, past = rush_larsen.step(y, slope, zero, (), jnp.full(1, 0.01, y.dtype), jnp.full(1, 0.5, y.dtype), past)
        return (y, past), None

    y = jnp.full((1, 1), 100.0, jnp.float32)
    first = rush_larsen.nothing(y, ())._replace(b=jnp.full_like(y, 1e-4))
    (y, past), _ = jax.lax.scan(one, (y, first), None, 20_000)
    assert y.dtype == jnp.float32
    digit = float(np.spacing(np.float32(100.0)))
    assert digit / 2 > 1e-6  # without the sum of what was lost nothing would move
    assert abs(float(y[0, 0]) + float(past.lost[0, 0]) - 100.02) < 2 * digit


# ---- beats -------------------------------------------------------------------------------------------------------------
class Seen(NamedTuple):
    """Marks: largest value, its time, integral by the trapezoidal rule up to the start of the last step, last value."""

    top: Any
    at: Any
    area: Any
    beat: Any


class Watcher:
    """Watches the first state."""

    def begin(self, y: Any) -> Seen:
        zero = jnp.zeros_like(y[0])
        return Seen(y[0], zero, zero, zero)

    def note(self, m: Seen, time: Any, h: Any, old: Any, new: Any, here: Point, ratio: Any) -> Seen:
        higher = new[0] > m.top
        area = m.area + 0.5 * h * (old[0] + new[0])
        return Seen(jnp.maximum(m.top, new[0]), jnp.where(higher, time + h, m.at), area, m.beat)

    def keep(self, kept: Seen, marks: Seen, beat: Any) -> Seen:
        return marks._replace(beat=beat)


RATE, DRIVE = 0.5, Drive(*(jnp.asarray(v) for v in (10.0, 2.0, 3.0, 4.0, 3.0)))  # period, amplitude, duration, beats, keep
ACCURACY = Accuracy(jnp.asarray(1e-4), jnp.asarray(1e-3), jnp.asarray(0.05))


def leaky(rate: Any) -> paced.Equations:
    """y' = stimulus − rate y, with the rate as relaxation where it is finite."""

    def equations(t: Any, y: Any, stimulus: Any) -> Point:
        return Point(stimulus - rate * y, -rate + 0.0 * y, (), ())

    return equations


def beats(rate: Any, drive: Drive = DRIVE, relaxed: Any = None) -> paced.Walk:
    def run(rate: Any) -> paced.Walk:
        y, equations = jnp.zeros((1, rate.size)), (relaxed or leaky)(rate)
        start = paced.begin(equations, y, Watcher(), ACCURACY)
        return paced.walk(equations, jnp.ones_like, Watcher(), drive, ACCURACY, start)

    return jax.jit(run)(jnp.asarray(rate))


def wave(rate: Any) -> tuple[Any, Any, Any]:
    """Top (at the pulse's end), area and end of the fourth beat of the leaky state, in closed form."""
    period, amplitude, duration = (float(v) for v in DRIVE[:3])
    y = 0.0
    for _ in range(4):
        rest, decay = amplitude / rate, np.exp(-rate * duration)
        top = rest + (y - rest) * decay
        area = rest * duration + (y - rest) * (1 - decay) / rate
        y = top * np.exp(-rate * (period - duration))
        area = area + (top - y) / rate
    return top, area, y


def test_marks_of_a_known_wave_each_lane_its_own() -> None:
    rate = np.array([0.2, RATE, 3.0])
    w = beats(rate)
    top, area, end = wave(rate)
    np.testing.assert_allclose(w.kept.top, top, rtol=2e-5)  # its rate is exact, so what is wrong is φ₁
    np.testing.assert_allclose(w.kept.at, 3.0, rtol=1e-12)
    np.testing.assert_allclose(w.y[0], end, rtol=0, atol=2e-5)
    np.testing.assert_allclose(w.kept.area, area, rtol=1e-2)
    assert np.asarray(w.kept.beat).tolist() == [3.0] * 3
    assert np.asarray(w.beat).tolist() == [4.0] * 3
    assert not np.asarray(w.failed).any()


def test_lanes_with_periods_of_their_own() -> None:
    drive = DRIVE._replace(period=jnp.array([10.0, 4.0]), beats=jnp.array([1.0, 3.0]), keep=jnp.array([0.0, 2.0]))
    w = beats(np.array([RATE, RATE]), drive)
    assert np.asarray(w.beat).tolist() == [1.0, 3.0]
    assert float(w.kept.top[1]) > float(w.kept.top[0]) + 0.1  # the short period leaves something from the beat before


def test_a_lane_that_fails_does_not_stop_the_others() -> None:
    """The second lane's slope is not a number in its third beat's pulse."""

    def broken(rate: Any) -> paced.Equations:
        def equations(t: Any, y: Any, stimulus: Any) -> Point:
            bad = jnp.where((rate == 1.0) & (y[0] > 1.0), jnp.nan, 0.0)
            return Point(stimulus - rate * y + bad, -rate + 0.0 * y, (), ())

        return equations

    w = beats(np.array([RATE, 1.0, 3.0]), relaxed=broken)
    alone = beats(np.array([RATE, 3.0]))
    assert np.asarray(w.failed).tolist() == [0.0, 1.0, 0.0]
    np.testing.assert_allclose(np.asarray(w.y[0])[[0, 2]], np.asarray(alone.y[0]), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(w.kept.top)[[0, 2]], np.asarray(alone.kept.top), rtol=1e-12)
    assert np.isfinite(np.asarray(w.y)).all()  # it stands where it last could


def test_until_stops_within_a_beat() -> None:
    def run(rate: Any) -> Any:
        y, equations = jnp.zeros((1, 1)), leaky(rate)
        w = paced.begin(equations, y, Watcher(), ACCURACY)
        one = jnp.ones_like
        for until in (1.5, 3.0, 5.0):
            w = paced.walk(equations, one, Watcher(), DRIVE, ACCURACY, w, jnp.asarray(until))
        return w

    w = jax.jit(run)(jnp.asarray([RATE]))
    top = 2.0 / RATE * (1 - np.exp(-RATE * 3.0))
    np.testing.assert_allclose(w.time, 5.0)
    np.testing.assert_allclose(w.y[0], top * np.exp(-RATE * 2.0), rtol=1e-6)


def test_smaller_tolerance_smaller_error() -> None:
    """A bent system without relaxation rates: y' = stimulus − y², errors against SciPy, by tolerance."""

    def bent(t: Any, y: Any, stimulus: Any) -> Point:
        return Point(stimulus - y * y, 0.0 * y, (), ())

    a = solve_ivp(lambda t, y: 2.0 - y * y, (0, 3), [0.1], "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    exact = solve_ivp(lambda t, y: -y * y, (3, 10), a, "DOP853", rtol=1e-12, atol=1e-14).y[0, -1]
    drive = DRIVE._replace(beats=jnp.asarray(1.0), keep=jnp.asarray(0.0))

    @jax.jit
    def end(tolerance: Any) -> Any:
        accuracy = ACCURACY._replace(tolerance=tolerance, longest=jnp.asarray(0.5))
        start = paced.begin(bent, jnp.full((1, 1), 0.1), Watcher(), accuracy)
        return paced.walk(bent, jnp.ones_like, Watcher(), drive, accuracy, start)

    errors = [abs(float(end(jnp.asarray(t)).y[0, 0]) - exact) for t in (1e-3, 1e-5)]
    assert errors[0] < 3e-3
    assert errors[1] < errors[0] / 20
