"""The operator: symmetry, conservation and positivity on any mask, exact solutions, orders of convergence, its bound."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.tissue import Diffusion, Grid, cable, fibre_conductivity, largest_piece, slab

FRONT = 1.99  # 1/√ms, of ten Tusscher & Panfilov's cell


def ragged(seed: int, shape: tuple[int, ...] = (6, 5, 5)) -> Grid:
    """A mask with holes and dangling corners, fibres and sheets in random directions."""
    rng = np.random.default_rng(seed)
    f, s = rng.standard_normal((2, *shape, 3))
    return Grid(shape, (0.3, 0.4, 0.5), fibre_conductivity(f, 0.2, 0.05, 0.02, s), largest_piece(rng.random(shape) < 0.75))


def matrix(operator: Diffusion) -> np.ndarray:
    return np.stack([operator(e) for e in np.eye(operator.grid.size)], axis=1)


@pytest.mark.parametrize(("front", "order"), [(0.0, 2), (0.0, 4), (FRONT, 4)])
def test_symmetric_conservative_dissipative(front: float, order: int) -> None:
    """W L is symmetric, has nothing but constants in its kernel and no positive eigenvalue; Σ W L V = 0 (all to 1e-12 of L)."""
    for seed in range(2):
        operator = Diffusion(ragged(seed), front, order)
        dense = matrix(operator)
        weighted, scale = operator.volume[:, None] * dense, np.abs(dense).max()
        assert np.abs(weighted - weighted.T).max() < 1e-12 * scale
        assert np.abs(dense.sum(axis=1)).max() < 1e-12 * scale
        assert np.abs(weighted.sum(axis=0)).max() < 1e-12 * scale
        root = np.sqrt(operator.volume)
        rates = np.linalg.eigvalsh(-root[:, None] * dense / root)
        assert abs(rates[0]) < 1e-10 * scale
        assert rates[1] > 1e-3
        assert rates[-1] <= 1.25 * operator.fastest  # the steps of `simulate` leave this room


def test_volume_is_the_tissues() -> None:
    grid = ragged(3)
    assert Diffusion(grid).volume.sum() == pytest.approx(len(grid.elements) * np.prod(grid.spacing), rel=1e-12)


@pytest.mark.parametrize(("front", "order", "least"), [(0.0, 2, 1.9), (0.0, 4, 3.8), (FRONT, 4, 2.2)])
def test_order_in_an_anisotropic_box(front: float, order: int, least: float) -> None:
    """Modes cos(kπx) of a box without flux: L's error against −Σ D k²π² falls with the order from 16 to 32 voxels.

    The fitted operator, of order 3 in the limit, has not reached it there."""
    error = []
    for n in (16, 32):
        grid = Grid((n, n // 2, n // 2), 1.0 / n, (0.13, 0.02, 0.05, 0.0, 0.0, 0.0))
        x = grid.positions
        mode = np.cos(np.pi * x[:, 0]) * np.cos(2.0 * np.pi * x[:, 1]) * np.cos(4.0 * np.pi * x[:, 2])
        rate = np.pi**2 * 1e3 / 1400.0 * (0.13 + 4.0 * 0.02 + 16.0 * 0.05)
        operator = Diffusion(grid, front / 30.0 * 16.0 if front else 0.0, order)  # q about 0.3 to 1.5
        error.append(np.abs(operator(mode) + rate * mode).max() / rate)
    assert np.log2(error[0] / error[1]) > least


@pytest.mark.parametrize("front", [0.0, FRONT])
def test_gaussian_spreads_along_oblique_fibres(front: float) -> None:
    """A Gaussian in tissue whose fibres lie across all axes: covariance A + 2 D t, no part of it off by 1.5 % of the largest."""
    fibre, n, h, t = np.array([1.0, 0.8, 0.5]), 24, 0.25, 2.0
    grid = Grid((n,) * 3, h, fibre_conductivity(fibre, 0.3, 0.06))
    operator, x = Diffusion(grid, front), grid.positions - 0.5 * n * h
    v = np.exp(-0.5 * (x**2).sum(axis=1) / 0.3)
    steps = int(np.ceil(t * operator.fastest))
    for _ in range(steps):  # two stages, second order
        half = v + 0.5 * t / steps * operator(v)
        v = v + t / steps * operator(half)
    weight = operator.volume * v / (operator.volume @ v)
    spread = (x * weight[:, None]).T @ x
    wanted = 0.3 * np.eye(3) + 2.0 * t * operator.diffusivity[0]
    assert np.abs(spread - wanted).max() < 0.015 * wanted.max()


def test_a_cable_and_a_slab_have_one_operator() -> None:
    """Potentials that depend on x alone: L of the slab is L of the cable (1e-12)."""
    line, box = cable(2.0, 0.2, 0.13), slab((2.0, 0.6, 0.4), 0.2, 0.13, 0.02)
    v = np.random.default_rng(5).standard_normal(line.size)
    for front, order in ((0.0, 2), (0.0, 4), (FRONT, 4)):
        wanted = Diffusion(line, front, order)(v)
        got = Diffusion(box, front, order)(v[box.nodes[:, 0]])
        assert np.abs(got - wanted[box.nodes[:, 0]]).max() < 1e-12 * np.abs(wanted).max()


def test_tensor_is_seen_from_any_axis() -> None:
    """Fibres turned by 90° with the grid: the same operator, axes exchanged (1e-12)."""
    rng, shape = np.random.default_rng(6), (4, 3, 5)
    fibre, mask = rng.standard_normal((*shape, 3)), largest_piece(rng.random(shape) < 0.8)
    first = Grid(shape, 0.4, fibre_conductivity(fibre, 0.2, 0.04), mask)
    turned = Grid(
        (5, 4, 3), 0.4, fibre_conductivity(fibre.transpose(2, 0, 1, 3)[..., [2, 0, 1]], 0.2, 0.04), mask.transpose(2, 0, 1)
    )
    v = rng.standard_normal(first.size)
    box = first.to_box(v).transpose(2, 0, 1)
    there = Diffusion(turned, FRONT)(box[tuple(turned.nodes.T)])
    assert turned.to_box(there).transpose(1, 2, 0)[tuple(first.nodes.T)] == pytest.approx(Diffusion(first, FRONT)(v), rel=1e-10)


def test_bad_order() -> None:
    with pytest.raises(DataError, match="2 or 4"):
        Diffusion(cable(1.0, 0.1, 0.1), order=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing_mm": 0.0}, "spacing"),
        ({"mask": np.zeros((3, 3, 3), bool)}, "no voxel"),
        ({"mask": np.eye(3, dtype=bool)[:, :, None] & np.ones(3, bool)}, "3 pieces"),
        ({"conductivity": (0.1, 0.1, 0.1)}, "6 components"),
        ({"conductivity": (0.1, 0.1, 0.1, 0.2, 0.0, 0.0)}, "positive definite"),
        ({"beta": -1.0}, "beta"),
        ({"shape": (2, 3, 3)}, "mask"),
    ],
)
def test_bad_grids(change: dict[str, object], words: str) -> None:
    whole = {
        "shape": (3, 3, 3),
        "spacing_mm": 0.5,
        "conductivity": (0.1, 0.1, 0.1, 0.0, 0.0, 0.0),
        "mask": np.ones((3, 3, 3), bool),
    }
    with pytest.raises(DataError, match=words) as e:
        Grid(**{**whole, **change})  # type: ignore[arg-type]
    assert "\n" not in str(e.value)


def test_numbers_of_nodes() -> None:
    grid = ragged(7)
    assert (grid.number(grid.nodes) == np.arange(grid.size)).all()
    touched = {tuple(e + c) for e in grid.elements for c in product((0, 1), repeat=3)}
    assert {tuple(n) for n in grid.nodes} == touched
    assert grid.to_nodes(np.full(grid.shape, 3.0)) == pytest.approx(np.full(grid.size, 3.0))
    assert grid.nearest(grid.positions[11] + 0.01) == 11
