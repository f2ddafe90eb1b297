"""The matrix exponential over lanes against scipy's, and its derivatives against block-triangular exponentials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from gemello.engine.solvers.linear import expm_propagator, exponential
from gemello.model.parameters import named

LANES = 7


@pytest.fixture(autouse=True, scope="module")
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def draw(n: int, seed: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compartment matrices (columns sum to 0 or less) of (n, n, lanes), amounts, inputs and times."""
    rng = np.random.default_rng(seed)
    a = rng.lognormal(0.0, 1.0, (n, n, LANES)) * scale
    a[np.arange(n), np.arange(n)] = 0.0
    a[np.arange(n), np.arange(n)] = -a.sum(0) - rng.lognormal(-1.0, 1.0, (n, LANES)) * scale
    return a, rng.uniform(0, 100, (n, LANES)), rng.uniform(0, 30, (n, LANES)), rng.uniform(0, 5, LANES)


def rows(a: np.ndarray) -> list[list[Any]]:
    return [[jnp.asarray(x) for x in row] for row in a]


def authority(a: np.ndarray, y: np.ndarray, r: np.ndarray, dt: np.ndarray) -> np.ndarray:
    n = len(y)
    out = np.empty_like(y)
    for k in range(LANES):
        m = np.zeros((n + 1, n + 1))
        m[:n, :n], m[:n, n] = a[..., k], r[:, k]
        out[:, k] = (expm(m * dt[k]) @ np.append(y[:, k], 1.0))[:n]
    return out


@pytest.mark.parametrize("n", [1, 2, 4, 6])
@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 30.0])
def test_matches_scipy(n: int, scale: float) -> None:
    a, y, r, dt = draw(n, n, scale)
    dt[0] = 0.0
    kind = named("State", tuple(f"s{i}" for i in range(n)))
    got = np.array(expm_propagator(rows(a))(jnp.asarray(dt), kind(*y), kind(*r)))
    want = authority(a, y, r, dt)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


def test_general_matrices() -> None:
    """Rotation, growth and a nilpotent block: not compartmental."""
    for a in ([[0.0, 3.0], [-3.0, 0.0]], [[0.4, 1.0], [0.0, 0.4]], [[0.0, 1.0], [0.0, 0.0]], [[-5.0, 80.0], [0.0, -4.9]]):
        got = exponential(jnp.asarray(a)[..., None] * jnp.asarray([0.0, 0.3, 4.0]))
        for k, t in enumerate((0.0, 0.3, 4.0)):
            want = expm(np.array(a) * t)
            np.testing.assert_allclose(got[..., k], want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


def test_structural_zeros_and_scalars_are_taken() -> None:
    kind = named("State", ("depot", "central"))
    step = expm_propagator(((-1.0, 0.0), (jnp.asarray([1.0, 1.0]), -0.1)))
    got = step(jnp.asarray([2.0, 3.0]), kind(jnp.asarray([10.0, 10.0]), 0.0), kind(0.0, 0.0))
    t = np.array([2.0, 3.0])
    np.testing.assert_allclose(got.depot, 10 * np.exp(-t), rtol=1e-14)
    np.testing.assert_allclose(got.central, 10 / 0.9 * (np.exp(-0.1 * t) - np.exp(-t)), rtol=1e-13)


def test_stiff_lane_does_not_disturb_its_mates_and_a_broken_one_stays_alone() -> None:
    kind = named("State", ("x",))
    rate = jnp.asarray([-0.5, -1e7, jnp.nan, -0.5])
    got = expm_propagator(((rate,),))(jnp.asarray([1.0, 1.0, 1.0, jnp.inf]), kind(jnp.ones(4)), kind(jnp.zeros(4))).x
    np.testing.assert_allclose(got[0], np.exp(-0.5), rtol=1e-15)
    assert 0 <= float(got[1]) < 1e-300
    assert np.isnan(got[2])
    assert np.isnan(got[3])


def test_first_and_second_derivatives() -> None:
    n = 3
    a, y, r, dt = draw(n, 3, 1.0)
    e = np.random.default_rng(9).normal(size=a.shape)
    kind = named("State", ("a", "b", "c"))

    def run(x: Any) -> Any:
        return jnp.stack(expm_propagator(list(jnp.asarray(a) + x * e))(jnp.asarray(dt), kind(*y), kind(*r)))

    first, second = (np.asarray(jax.jit(f)(0.0)) for f in (jax.jacfwd(run), jax.jacfwd(jax.jacfwd(run))))
    for k in range(LANES):
        m, d, z = np.zeros((3, n + 1, n + 1))
        m[:n, :n], m[:n, n], d[:n, :n] = a[..., k], r[:, k], e[..., k]
        big = expm(np.block([[m, d, z], [z, m, d], [z, z, m]]) * dt[k])
        start = np.append(y[:, k], 1.0)
        np.testing.assert_allclose(first[:, k], (big[: n + 1, n + 1 : 2 * n + 2] @ start)[:n], rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(second[:, k], 2 * (big[: n + 1, 2 * n + 2 :] @ start)[:n], rtol=1e-10, atol=1e-9)
