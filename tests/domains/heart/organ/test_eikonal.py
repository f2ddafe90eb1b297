"""Arrival times against closed forms: plane and point waves in isotropic and anisotropic media."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.organ.eikonal import arrival, speed_squared


def box(n: int, size: float) -> tuple[np.ndarray, np.ndarray, float]:
    """A cube of n voxels along each edge of `size` mm, places of the voxels from its centre, spacing."""
    mask = np.ones((n, n, n), bool)
    h = size / (n - 1)
    return mask, np.argwhere(mask) * h - size / 2, h


@pytest.mark.parametrize("fibre", [(1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("normal", [(1.0, 0.3, 0.2), (0.0, 1.0, 1.0)])
def test_plane_waves_are_exact(fibre: tuple[float, ...], normal: tuple[float, ...]) -> None:
    """T = n·x / √(nᵀ S n): linear functions are solved without error, to 1e-9 ms, when the inflow is given."""
    mask, at, h = box(9, 8.0)
    f = np.array(fibre) / np.linalg.norm(fibre)
    s = speed_squared(np.tile(f, (len(at), 1)), 0.65, 0.48)
    n = np.array(normal) / np.linalg.norm(normal)
    exact = (at @ n - (at @ n).min()) / np.sqrt(n @ s[0] @ n)
    inflow = np.flatnonzero(np.abs(at).max(1) > 4.0 - 0.5 * h)  # all faces: no wave enters that is not the plane one
    found = arrival(mask, h, s, inflow, exact[inflow])
    assert np.abs(found - exact).max() < 1e-9


@pytest.mark.parametrize(("fibre", "along", "across"), [((1, 0, 0), 0.6, 0.6), ((1, 0, 0), 0.6, 0.2), ((2, 1, 0), 0.65, 0.48)])
def test_point_waves_converge(fibre: tuple[int, ...], along: float, across: float) -> None:
    """T = √(xᵀ S⁻¹ x) from a small ball. Never early; the error halves with the spacing (first order; 0.4 to 0.65 of it is
    taken)."""
    errors = []
    for n in (13, 25):
        mask, at, h = box(n, 24.0)
        f = np.array(fibre) / np.linalg.norm(fibre)
        s = speed_squared(np.tile(f, (len(at), 1)), along, across)
        exact = np.sqrt(np.einsum("ni,ij,nj->n", at, np.linalg.inv(s[0]), at))
        ball = np.flatnonzero(np.linalg.norm(at, axis=1) < 4.1)
        found = arrival(mask, h, s, ball, exact[ball])
        assert (found - exact).min() > -1e-9
        errors.append(np.sqrt(((found - exact) ** 2).mean()))
    assert 0.4 < errors[1] / errors[0] < 0.65
    assert errors[1] < 0.05 * exact.mean()


def test_a_fast_layer_is_taken() -> None:
    """Along a strip 10 times faster than the rest, the way pays where it is shorter in time: closed form of a head wave, within
    10 %."""
    mask = np.ones((41, 11, 1), bool)
    at = np.argwhere(mask).astype(float)
    slow, fast = 0.2, 2.0
    s = np.tile(slow**2 * np.eye(3), (len(at), 1, 1))
    s[at[:, 1] == 0] = fast**2 * np.eye(3)
    found = arrival(mask, 1.0, s, np.array([0]), [0.0])
    end = np.flatnonzero((at[:, 0] == 40) & (at[:, 1] == 6))[0]
    exact = 40.0 / fast + 6.0 * np.sqrt(1.0 / slow**2 - 1.0 / fast**2)
    assert found[end] == pytest.approx(exact, rel=0.1)


def test_it_goes_around_holes() -> None:
    """Around the end of a wall, 2 · 10 mm and not 2 mm through it."""
    mask = np.ones((21, 11, 1), bool)
    mask[10, :10] = False
    at = np.argwhere(mask)
    s = np.tile(np.eye(3), (len(at), 1, 1))
    found = arrival(mask, 1.0, s, np.flatnonzero((at == [9, 0, 0]).all(1)), [0.0])
    assert found[np.flatnonzero((at == [11, 0, 0]).all(1))[0]] >= 20.0


def test_band_changes_nothing() -> None:
    mask, at, h = box(11, 10.0)
    s = speed_squared(np.tile([0.6, 0.8, 0.0], (len(at), 1)), 0.65, 0.3)
    a, b = (arrival(mask, h, s, np.array([0, 700]), [0.0, 3.0], band=w) for w in (0.3, 30.0))
    assert np.abs(a - b).max() < 1e-6


def test_refusals() -> None:
    mask, at, h = box(3, 2.0)
    s = np.tile(np.eye(3), (len(at), 1, 1))
    with pytest.raises(DataError, match="no voxel to start from"):
        arrival(mask, h, s, np.array([99]), [0.0])
    apart = np.zeros((5, 1, 1), bool)
    apart[[0, 1, 4]] = True
    with pytest.raises(DataError, match="cannot reach 1 of 3"):
        arrival(apart, 1.0, np.tile(np.eye(3), (3, 1, 1)), np.array([0]), [0.0])
