"""Tsit5: coefficients against the order conditions, order of convergence, the stiffness border."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemello.engine.solvers import tsit5

pytestmark = pytest.mark.usefixtures("x64")


def matrix() -> np.ndarray:
    return np.array([[*row, *[0.0] * (7 - len(row))] for row in tsit5.A])


def test_coefficients_meet_the_order_conditions() -> None:
    """Quadrature and Σ b a c conditions to order 5 (Hairer, Nørsett & Wanner I, table II.2.2), to rounding of the table."""
    a, c = matrix(), np.array(tsit5.C)
    b = a[6]
    np.testing.assert_allclose(a.sum(axis=1), c, atol=1e-13)
    for k in range(1, 6):
        assert b @ c ** (k - 1) == pytest.approx(1 / k, abs=1e-13)
    assert b @ a @ c == pytest.approx(1 / 6, abs=1e-13)
    assert b @ (c * (a @ c)) == pytest.approx(1 / 8, abs=1e-13)
    assert b @ a @ c**2 == pytest.approx(1 / 12, abs=1e-13)
    assert b @ a @ a @ c == pytest.approx(1 / 24, abs=1e-13)
    assert b @ a @ a @ a @ c == pytest.approx(1 / 120, abs=1e-13)
    e = np.array(tsit5.E)
    for k in range(1, 5):
        assert e @ c ** (k - 1) == pytest.approx(0, abs=1e-12)
    assert abs(e @ c**4) > 1e-4  # the embedded method has order 4, no more


def fixed_steps(n: int) -> float:
    """Error at t = 2 of y' = cos(t) y, y(0) = 1, with n equal steps."""

    def f(t: jax.Array, y: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return (jnp.cos(t) * y[0],)

    h = jnp.full(1, 2 / n)
    y: tuple[jax.Array, ...] = (jnp.ones(1),)
    slope = f(jnp.zeros(1), y)
    for i in range(n):
        step = tsit5.step(f, i * h, y, h, slope)
        y, slope = step.y, step.slope
    return abs(float(y[0][0]) - np.exp(np.sin(2.0)))


def test_order_of_convergence_is_five() -> None:
    errors = [fixed_steps(n) for n in (32, 64, 128)]  # with fewer steps the observed order is still above, and falls to 5
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 4.6) & (orders < 5.6)), orders


def test_last_slope_is_the_slope_at_the_new_point() -> None:
    def f(t: jax.Array, y: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return (y[1] + t, -y[0])

    y, h = (jnp.array([1.0]), jnp.array([0.5])), jnp.array([0.1])
    step = tsit5.step(f, jnp.array([0.3]), y, h, f(jnp.array([0.3]), y))
    for a, b in zip(step.slope, f(jnp.array([0.4]), step.y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


def test_stability_border() -> None:
    """|R(z)| is at most 1 down to z = -STABILITY and beyond 1 soon after."""

    def growth(z: float) -> float:
        def f(t: jax.Array, y: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            return (z * y[0],)

        one = (jnp.ones(1),)
        return abs(float(tsit5.step(f, jnp.zeros(1), one, jnp.ones(1), f(jnp.zeros(1), one)).y[0][0]))

    assert max(growth(z) for z in np.linspace(-tsit5.STABILITY, 0, 50)) <= 1
    assert growth(-tsit5.STABILITY - 0.1) > 1
