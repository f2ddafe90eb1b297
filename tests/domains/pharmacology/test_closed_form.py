"""The closed forms against scipy's matrix exponential, its block-triangular derivatives, and an ODE solver."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from gemello.domains.pharmacology import closed_form, linear_pk
from gemello.domains.pharmacology.closed_form import Constants
from gemello.model.parameters import named

PROFILE = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(autouse=True, scope="module")
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def states(peripherals: int, oral: bool) -> Any:
    names = ("depot",) * oral + ("central",) + tuple(f"peripheral{i}" for i in range(peripherals)) + ("auc",)
    return named("State", names)


def constants(v: np.ndarray, peripherals: int, oral: bool) -> Constants:
    """From a vector CL, V1, KA, Q2, V2, Q3, V3."""
    return Constants(v[0], v[1], tuple((v[3 + 2 * i], v[4 + 2 * i]) for i in range(peripherals)), v[2] if oral else None)


def system(v: np.ndarray, peripherals: int, oral: bool) -> np.ndarray:
    return np.array(linear_pk.matrix(constants(v, peripherals, oral)), float)


def exact(a: np.ndarray, r: np.ndarray, y: np.ndarray, dt: float) -> np.ndarray:
    n = len(y)
    m = np.zeros((n + 1, n + 1))
    m[:n, :n], m[:n, n] = a, r
    return (expm(m * dt) @ np.append(y, 1.0))[:n]


@jax.jit
def propagate(p: Any, dt: Any, y: Any, r: Any) -> Any:
    return closed_form.propagator(p)(dt, y, r)


def closed(v: np.ndarray, peripherals: int, oral: bool, y: np.ndarray, r: np.ndarray, dt: float) -> np.ndarray:
    kind = states(peripherals, oral)
    lane = [jnp.asarray([x]) for x in np.concatenate([y, r])]
    n = len(y)
    c = jax.tree.map(lambda x: jnp.asarray([x]), constants(v, peripherals, oral))
    return np.array(propagate(c, jnp.asarray([dt]), kind(*lane[:n]), kind(*lane[n:])))[:, 0]


positive = st.floats(0.02, 50.0)
vectors = st.lists(positive, min_size=7, max_size=7).map(np.array)
amounts = st.lists(st.floats(0.0, 1000.0), min_size=5, max_size=5).map(np.array)
shapes = st.tuples(st.integers(0, 2), st.booleans())
times = st.one_of(st.floats(0.0, 1e-3), st.floats(1e-3, 50.0))


def close(got: np.ndarray, want: np.ndarray, v: np.ndarray, total: float, relative: float = 1e-10) -> None:
    """Amounts to 1e-10 of what is there; auc to 1e-10 of itself plus its declared rounding error."""
    np.testing.assert_allclose(got[:-1], want[:-1], rtol=relative, atol=relative * total * 1e-2)
    np.testing.assert_allclose(got[-1], want[-1], rtol=relative, atol=1e-13 * total / v[0])


@PROFILE
@given(vectors, amounts, amounts, shapes, times)
def test_matches_matrix_exponential(v: np.ndarray, y: np.ndarray, r: np.ndarray, shape: tuple[int, bool], dt: float) -> None:
    n = shape[0] + shape[1] + 2
    y, r = y[:n], r[:n]
    got = closed(v, *shape, y, r, dt)
    close(got, exact(system(v, *shape), r, y, dt), v, 1.0 + y.sum() + r.sum() * dt)


@PROFILE
@given(vectors, amounts, shapes, st.integers(0, 2), st.sampled_from([0.0, 1e-14, 1e-9, -1e-6, 1e-4, 1e-2, -5e-2]), times)
def test_absorption_rate_equal_or_near_a_disposition_rate(
    v: np.ndarray, y: np.ndarray, shape: tuple[int, bool], mode: int, off: float, dt: float
) -> None:
    rates = closed_form.disposition(constants(v, shape[0], False)).rates
    v = v.copy()
    v[2] = float(rates[mode % len(rates)]) * (1 + off)
    y = y[: shape[0] + 3]
    got = closed(v, shape[0], True, y, y[::-1], dt)
    close(got, exact(system(v, shape[0], True), y[::-1], y, dt), v, 1.0 + y.sum() * (1 + dt))


@PROFILE
@given(vectors, amounts, amounts, shapes, times, times)
def test_semigroup(v: np.ndarray, y: np.ndarray, r: np.ndarray, shape: tuple[int, bool], one: float, two: float) -> None:
    n = shape[0] + shape[1] + 2
    y, r = y[:n], r[:n]
    half = closed(v, *shape, y, r, one)
    close(closed(v, *shape, half, r, two), closed(v, *shape, y, r, one + two), v, 1 + y.sum() + r.sum() * (one + two))


@PROFILE
@given(vectors, amounts, shapes, st.floats(0.1, 20.0))
def test_mass_balance_against_quadrature_of_the_concentration(
    v: np.ndarray, y: np.ndarray, shape: tuple[int, bool], dt: float
) -> None:
    """CL times an area under cp found by Gauss-Legendre, not by auc itself, is what has left."""
    y = np.append(y[: shape[0] + shape[1] + 1], 0.0)
    nothing = np.zeros_like(y)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 40)]) * dt
    width = np.diff(edges)[:, None]
    at, by = (edges[:-1, None] + (nodes + 1) / 2 * width).ravel(), (weights / 2 * width).ravel()
    kind, c = states(*shape), constants(v, *shape)
    many = propagate(c, jnp.asarray(at), kind(*(jnp.full(len(at), x) for x in y)), kind(*nothing))
    area = float(np.sum(by * np.asarray(many.central))) / v[1]
    end = closed(v, *shape, y, nothing, dt)
    np.testing.assert_allclose(v[0] * area, y[:-1].sum() - end[:-1].sum(), rtol=1e-6, atol=1e-6 * (1 + y.sum()))
    np.testing.assert_allclose(end[-1], area, rtol=1e-6, atol=1e-6 * (1 + y.sum()) / v[0])


@cache
def sensitivities(peripherals: int, oral: bool) -> Any:
    """(parameters, direction, dt, y, rates) -> first and second derivative of the state and first one of the matrix."""

    def matrix(w: Any) -> Any:
        rows = linear_pk.matrix(constants(w, peripherals, oral))
        return jnp.stack([jnp.stack([jnp.asarray(x) for x in row]) for row in rows])

    @jax.jit
    def derivatives(v: Any, d: Any, dt: Any, y: Any, r: Any) -> Any:
        run = lambda w: jnp.stack(closed_form.propagator(constants(w, peripherals, oral))(dt, y, r))  # noqa: E731
        return *jax.jvp(lambda w: jax.jvp(run, (w,), (d,))[1], (v,), (d,)), jax.jvp(matrix, (v,), (d,))[1]

    return derivatives


@pytest.mark.parametrize("shape", [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("off", [None, 0.0, 1e-10, 1e-5, -1e-3, 2e-2])
def test_first_and_second_derivatives(shape: tuple[int, bool], off: float | None) -> None:
    """jvp and jvp of jvp against exponentials of block-triangular matrices (Van Loan 1978; Mathias 1996), scipy's."""
    peripherals, oral = shape
    v = np.array([3.0, 20.0, 0.9, 6.0, 45.0, 1.5, 90.0])
    if off is not None:
        v[2] = float(closed_form.disposition(constants(v, peripherals, False)).rates[-1]) * (1 + off)
    y = np.array([100.0, 40.0, 10.0, 5.0, 2.0])[: peripherals + oral + 2]
    r = np.array([4.0, 7.0, 3.0, 1.0, 0.5])[: len(y)]
    kind, n = states(peripherals, oral), len(y)

    times = np.array([1e-3, 0.3, 5.0, 60.0])
    # The matrix is linear in CL, KA, Q2, Q3, so that this direction has no second derivative of its own.
    flows = np.array([0.7, 0.0, 1.3, -0.4, 0.0, 0.9, 0.0])
    volumes = np.array([0.0, 5.0, 0.0, 0.0, -4.0, 0.0, 9.0])
    start, z = np.append(y, 1.0), np.zeros((n + 1, n + 1))
    a = z.copy()
    a[:n, :n], a[:n, n] = system(v, *shape), r
    for direction in (flows, volumes):
        first, second, tangent = sensitivities(*shape)(v, direction, times, kind(*y), kind(*r))
        e = z.copy()
        e[:n, :n] = tangent
        for k, dt in enumerate(times):
            big = expm(np.block([[a, e, z], [z, a, e], [z, z, a]]) * dt)
            want = (big[: n + 1, n + 1 : 2 * n + 2] @ start)[:n]
            np.testing.assert_allclose(first[:, k], want, rtol=1e-9, atol=1e-11 * 150)
            if direction is flows:
                want = 2 * (big[: n + 1, 2 * n + 2 :] @ start)[:n]
                np.testing.assert_allclose(second[:, k], want, rtol=1e-8, atol=1e-9 * 150)


def test_divided_difference_at_confluence() -> None:
    """Value and derivatives at a = b: t e, -t² e/2, t³ e/3 with e = exp(-a t) (the integral's own derivatives)."""
    t, b = 1.7, 0.6
    f = lambda a: closed_form.dd(a, b, t)  # noqa: E731
    e = np.exp(-b * t)
    np.testing.assert_allclose(f(b), t * e, rtol=1e-14)
    np.testing.assert_allclose(jax.jacfwd(f)(b), -(t**2) / 2 * e, rtol=1e-13)
    np.testing.assert_allclose(jax.jacfwd(jax.jacfwd(f))(b), t**3 / 3 * e, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(f)(b), -(t**2) / 2 * e, rtol=1e-13)


@pytest.mark.parametrize("shape", [(0, True), (1, True), (2, True)])
def test_extremes(shape: tuple[int, bool]) -> None:
    v = np.array([3.0, 20.0, 0.9, 6.0, 45.0, 1.5, 90.0])
    y = np.array([100.0, 40.0, 10.0, 5.0, 2.0])[: shape[0] + 3]
    r = np.zeros_like(y)
    r[0], r[1] = 6.0, 3.0
    np.testing.assert_allclose(closed(v, *shape, y, r, 0.0)[:-1], y[:-1], rtol=1e-14)
    steady = closed(v, *shape, y, r, 1e9)
    a = system(v, *shape)[:-1, :-1]
    np.testing.assert_allclose(steady[:-1], np.linalg.solve(a, -r[:-1]), rtol=1e-12)
    for entry, size in ((0, 1e-9), (2, 1e-12), (2, 1e6), (3, 1e-9)):  # clearance, absorption, exchange nearly nothing or at once
        w = v.copy()
        w[entry] = size
        got = closed(w, *shape, y, r, 2.0)
        np.testing.assert_allclose(got[:-1], exact(system(w, *shape), r, y, 2.0)[:-1], rtol=1e-10, atol=1e-10)


def test_equal_peripherals_share_a_rate_constant() -> None:
    """k21 = k31: one rate constant is k21 itself and two cofactors vanish."""
    v = np.array([3.0, 20.0, 0.9, 6.0, 60.0, 3.0, 30.0])
    y = np.array([100.0, 40.0, 10.0, 5.0, 2.0])
    got = closed(v, 2, True, y, y, 3.0)
    np.testing.assert_allclose(got, exact(system(v, 2, True), y, y, 3.0), rtol=1e-12)
    assert np.any(np.isclose(closed_form.disposition(constants(v, 2, True)).rates, 0.1, rtol=1e-14))


def test_no_flow_at_all_keeps_every_amount() -> None:
    kind = states(1, False)
    c = Constants(jnp.asarray(0.0), 20.0, ((jnp.asarray(0.0), 30.0),))
    end = closed_form.propagator(c)(5.0, kind(10.0, 4.0, 0.0), kind(0.0, 0.0, 0.0))
    assert (float(end.central), float(end.peripheral0)) == (10.0, 4.0)
    assert np.isnan(float(end.auc))


def test_derivative_by_an_ode_solver() -> None:
    """The equations themselves: DOP853 on `derivative`."""
    v = np.array([3.0, 20.0, 0.9, 6.0, 45.0, 1.5, 90.0])
    y = np.array([100.0, 40.0, 10.0, 5.0, 2.0])
    r = np.array([4.0, 7.0, 3.0, 1.0, 0.0])
    kind, c = states(2, True), constants(v, 2, True)
    f = lambda t, s: np.array(linear_pk.derivative(kind(*s), c), float) + r  # noqa: E731
    want = solve_ivp(f, (0, 12.0), y, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(closed(v, 2, True, y, r, 12.0), want, rtol=1e-10)


def test_zero_rate_as_a_python_number_is_the_same() -> None:
    v = np.array([3.0, 20.0, 0.9, 6.0, 45.0, 1.5, 90.0])
    kind = states(1, True)
    y = kind(*map(jnp.asarray, (100.0, 40.0, 10.0, 5.0)))
    step = closed_form.propagator(constants(v, 1, True))
    none, zeros = step(3.0, y, kind(0, 0.0, 0, 0.0)), step(3.0, y, kind(*(jnp.zeros(()) for _ in y)))
    np.testing.assert_allclose(none, zeros, rtol=1e-15)


def test_too_many_compartments() -> None:
    with pytest.raises(ValueError, match="matrix exponential"):
        closed_form.disposition(Constants(1.0, 1.0, ((1.0, 1.0),) * 3))
