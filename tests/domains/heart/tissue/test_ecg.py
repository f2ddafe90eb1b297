"""Pseudo-ECG against the dipole that a distant electrode sees."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.tissue import lead_field, pseudo_ecg, slab

CUBE = slab((2.0, 2.0, 2.0), 0.25, 0.3, 0.1)
CENTRE = np.ones(3)


@pytest.mark.parametrize("way", [(1.0, 0.0, 0.0), (0.3, -0.5, 0.8)])
def test_uniform_gradient_is_a_dipole(way: tuple[float, float, float]) -> None:
    """∇V = g over a volume U: φ = −U g·d/(4π|d|³) far away; 1 % at 15 times the half width. With a bath, g becomes σ g/σ_b."""
    d = np.array([9.0, 7.0, -10.0])
    v = CUBE.positions @ np.array(way)
    for bath, gradient in ((None, np.array(way)), (0.6, np.array([0.3, 0.1, 0.1]) * way / 0.6)):
        field = lead_field(CUBE, [CENTRE + d], bath)
        wanted = -8.0 * gradient @ d / (4.0 * np.pi * np.linalg.norm(d) ** 3)
        assert pseudo_ecg(field, v)[0] == pytest.approx(wanted, rel=0.01)


def test_a_wave_that_comes_near_is_positive() -> None:
    """Depolarised behind, at rest ahead: positive where it goes, negative where it comes from; nothing at uniform potential."""
    v = np.where(CUBE.positions[:, 0] < 1.0, 30.0, -85.0)
    ahead, behind = pseudo_ecg(lead_field(CUBE, [(12.0, 1.0, 1.0), (-10.0, 1.0, 1.0)]), v)
    assert ahead > 0.0 > behind
    assert ahead == pytest.approx(-behind, rel=0.15)
    assert np.abs(pseudo_ecg(lead_field(CUBE, [(12.0, 1.0, 1.0)]), np.full(CUBE.size, 7.0))).max() < 1e-12


def test_electrode_in_the_tissue_is_refused() -> None:
    with pytest.raises(DataError, match="electrodes"):
        lead_field(CUBE, [(1.0, 1.0, 1.1)])
