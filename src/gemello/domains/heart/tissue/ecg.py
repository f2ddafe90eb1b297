"""Pseudo-ECG: the potential that a wave makes at electrodes in an unbounded conductor (Gima & Rudy, Circ Res 90:889-896, 2002).

φ(e) = −1/(4π) ∫ (σ/σ_b) ∇V · ∇(1/r) dv over the tissue, r the distance from e (Plonsey & Barr). With V and 1/r in the elements of
the grid that is a product of V with one vector for each electrode, its lead field, which is made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gemello.base.errors import DataError
from gemello.domains.heart.tissue.diffusion import stiffness
from gemello.domains.heart.tissue.grid import Floats, Grid


def lead_field(grid: Grid, electrodes_mm: ArrayLike, bath: float | None = None) -> Floats:
    """Lead field of each electrode, (electrodes, nodes): φ (mV) = field @ V (mV).

    electrodes_mm: (electrodes, 3), mm, outside the tissue by at least a voxel (DataError otherwise: 1/r would not be resolved).
    bath: conductivity of the surroundings (S/m), with which the grid's own conductivities give currents; without it every voxel
    counts alike, σ/σ_b = 1, the form in which pseudo-ECGs are mostly shown.
    """
    if grid.dimensions != 3:
        raise DataError("electrodes need a grid of 3 axes", column="shape", value=grid.shape, remedy="use a slab one voxel wide")
    places = np.atleast_2d(np.asarray(electrodes_mm, float))
    tensors = np.eye(3)[None] if bath is None else grid.tensors / bath
    matrix = stiffness(grid, tensors)
    out = np.empty((len(places), grid.size))
    for row, place in zip(out, places, strict=True):
        r = np.linalg.norm(grid.positions - place, axis=1)
        if not r.min() >= grid.spacing.max():
            raise DataError(
                f"lies {r.min():.3g} mm from the tissue", column="electrodes", value=place.tolist(), remedy="move it a voxel away"
            )
        row[:] = matrix(1.0 / r) / (-4.0 * np.pi)
    return out


def pseudo_ecg(field: ArrayLike, v: Any) -> Any:
    """Potentials at the electrodes (electrodes, ...), mV: `field` of `lead_field` (electrodes, nodes), v (nodes, ...), mV."""
    return field @ v
