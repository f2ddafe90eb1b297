"""Rodas5P: coefficients, order, L-stability, structural zeros; the unrolled LU against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.engine.solvers import lu, rodas5p

pytestmark = pytest.mark.usefixtures("x64")
Values = tuple[jax.Array, ...]


# ---- coefficients ------------------------------------------------------------------------------------------------------
def original() -> tuple[np.ndarray, np.ndarray]:
    """α and Γ from the transformed table: Γ = (I/γ - C)⁻¹, α = A Γ (Hairer & Wanner II, section IV.7)."""
    a, c = np.zeros((8, 8)), np.zeros((8, 8))
    for i, row in enumerate(rodas5p.A):
        a[i, : len(row)] = row
    a[6, :6] = [*rodas5p.A[5], 1.0]
    a[7, :7] = [*rodas5p.A[5], 1.0, 1.0]
    for i, row in enumerate(rodas5p.C):
        c[i, : len(row)] = row
    gamma = np.linalg.inv(np.eye(8) / rodas5p.GAMMA - c)
    return a @ gamma, gamma


def test_stage_times_and_time_weights_are_row_sums() -> None:
    alpha, gamma = original()
    np.testing.assert_allclose(alpha.sum(axis=1), rodas5p.TIMES, atol=1e-13)
    np.testing.assert_allclose(gamma.sum(axis=1), [*rodas5p.WEIGHTS, 0, 0, 0], atol=1e-13)


# ---- order -------------------------------------------------------------------------------------------------------------
def march(f: Callable[[jax.Array, Values], Values], y: Values, end: float, n: int) -> Values:
    h, t = jnp.full(1, end / n), jnp.zeros(1)
    where = rodas5p.pattern(f, t, y)
    one = jax.jit(lambda t, y: rodas5p.step(f, t, y, h, where).y)
    for i in range(n):
        y = one(i * h, y)
    return y


def test_order_of_convergence_is_five_with_explicit_time() -> None:
    """y' = cos(t) y and y' = cos t, whose solutions are exp(sin t) and sin t: without ∂f/∂t the order would fall to 1."""

    def f(t: jax.Array, y: Values) -> Values:
        return (jnp.cos(t) * y[0], jnp.cos(t))

    exact = np.exp(np.sin(2.0)), np.sin(2.0)
    errors = np.array([[abs(float(v[0]) - e) for v, e in zip(march(f, (jnp.ones(1), jnp.zeros(1)), 2.0, n), exact, strict=True)]
                       for n in (10, 20, 40)])  # fmt: skip
    orders = np.log2(errors[:-1] / errors[1:])
    assert np.all((orders > 4.5) & (orders < 6.6)), orders


def test_order_of_convergence_is_five_on_coupled_states() -> None:
    """Lotka-Volterra against steps that are so small that their error does not count."""

    def f(t: jax.Array, y: Values) -> Values:
        return (y[0] * (1.5 - y[1]), y[1] * (y[0] - 3.0))

    y0 = (jnp.ones(1), jnp.ones(1))
    exact = march(f, y0, 1.0, 400)
    errors = [max(abs(float((a - b)[0])) for a, b in zip(march(f, y0, 1.0, n), exact, strict=True)) for n in (10, 20, 40)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 4.5) & (orders < 6.0)), orders


def test_l_stability() -> None:
    """R(∞) = 0: one step on y' = λ y with hλ = -1e12 leaves nothing of y, and none of it goes beyond 1 on the way."""

    def growth(z: float) -> float:
        def f(t: jax.Array, y: Values) -> Values:
            return (z * y[0],)

        return abs(float(march(f, (jnp.ones(1),), 1.0, 1)[0][0]))

    assert growth(-1e12) < 1e-9
    assert growth(-1e6) < 1e-3
    assert max(growth(-(10.0**k)) for k in np.linspace(-2, 8, 30)) <= 1


def test_lane_with_no_step_stays() -> None:
    def f(t: jax.Array, y: Values) -> Values:
        return (-y[0] * y[1], y[0] - y[1])

    y = (jnp.array([1.0, 2.0]), jnp.array([0.5, 0.25]))
    step = rodas5p.step(f, jnp.zeros(2), y, jnp.array([0.0, 0.1]), rodas5p.pattern(f, jnp.zeros(2), y))
    assert all(float(a[0]) == float(b[0]) and float(a[1]) != float(b[1]) for a, b in zip(step.y, y, strict=True))


# ---- structural zeros --------------------------------------------------------------------------------------------------
def test_pattern_sees_through_nested_functions_and_comparisons() -> None:
    @jax.jit
    def inner(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        return a * 2, b * a

    k = jnp.linspace(1.0, 2.0, 4)

    def f(t: jax.Array, y: Values) -> Values:
        u, v = inner(y[0], y[2])
        return (u, v + jnp.sin(t), jnp.where(y[0] > y[1], k * y[2], 0.0), jnp.zeros_like(k))

    found = rodas5p.pattern(f, jnp.zeros(4), tuple(jnp.ones(4) for _ in range(4)))
    assert found.entries == (
        (True, False, False, False),
        (True, False, True, False),
        (False, False, True, False),
        (False, False, False, False),
    )
    assert found.time == (False, True, False, False)


def test_derivatives_against_dense_differentiation() -> None:
    def f(t: jax.Array, y: Values) -> Values:
        return (-y[0] * t, y[0] * y[1] - jnp.exp(-y[2]), y[1] ** 2 + t**2)

    y = (jnp.array([0.3, 1.0]), jnp.array([2.0, -1.0]), jnp.array([0.1, 0.7]))
    t = jnp.array([0.5, 1.5])
    rows, rate = rodas5p.derivatives(f, t, y, rodas5p.pattern(f, t, y))
    for lane in range(2):
        dense = jax.jacfwd(lambda t, v: jnp.stack(f(t, tuple(v))), argnums=(0, 1))(t[lane], jnp.stack(y)[:, lane])
        got = [[0.0 if v is None else float(v[lane]) for v in row] for row in rows]
        np.testing.assert_allclose(got, dense[1], rtol=1e-14)
        np.testing.assert_allclose([0.0 if v is None else float(v[lane]) for v in rate], dense[0], rtol=1e-14)
    assert rows[0][1] is None
    assert rows[0][2] is None
    assert rate[1] is None


# ---- LU ----------------------------------------------------------------------------------------------------------------
@given(st.integers(1, 7), st.floats(0.0, 1.0), st.integers(0, 2**31 - 1))
def test_lu_solves_like_numpy(n: int, density: float, seed: int) -> None:
    """Diagonally dominant random matrices of any pattern, 3 lanes: to 1e-11 of numpy.linalg.solve."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((n, n)) < density) | np.eye(n, dtype=bool)
    a = np.where(mask, rng.standard_normal((3, n, n)), 0.0) + 2 * n * np.eye(n)
    b = rng.standard_normal((3, n))
    rows = [[jnp.asarray(a[:, i, j]) if mask[i, j] else None for j in range(n)] for i in range(n)]
    x = lu.solve(lu.factor(rows), [jnp.asarray(b[:, i]) for i in range(n)])
    np.testing.assert_allclose(np.stack(x, axis=1), np.linalg.solve(a, b[..., None])[..., 0], rtol=1e-11, atol=1e-13)


def test_lu_skips_structural_zeros() -> None:
    """An arrow matrix has no fill-in with its tip eliminated last, whichever end the tip is at."""
    n = 6
    full = [[jnp.full(1, 10.0 if i == j else 1.0) if i == j or 0 in (i, j) else None for j in range(n)] for i in range(n)]
    factors = lu.factor(full)
    assert sum(v is not None for row in factors.rows for v in row) <= 2 * (n - 1) + n
    assert 0 in factors.order[-2:]


def test_lu_needs_a_full_diagonal() -> None:
    with pytest.raises(ValueError, match="diagonal"):
        lu.factor([[None, jnp.ones(1)], [jnp.ones(1), jnp.ones(1)]])
