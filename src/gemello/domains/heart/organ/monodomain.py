"""The same heart solved by the monodomain equation: cells that share current, started by a front that spreads from the same
early sites.

A grid coarse enough for a CPU does not resolve the front (about 1 mm), which then runs too slowly or not at all. As is usual
(Costa et al. 2013, Comput Cardiol 40:679), conductivities are set so that a plane wave on a cable of this spacing has the
wished speed; at 1.5 mm they are twice (along) and seven times (across the fibre) those of the Niederer benchmark, so
repolarisation is evened out over longer distances than in a real heart.

Measured once on DTI004 at 1.5 mm (45,864 nodes, ToR-ORd, float32, steps of 0.02 ms, 420 ms; 481 s of processor time), beside
the reaction–eikonal heart on the same grid (2 s): activation times correlate by 0.96, but the last is 71 ms and not 96 ms, the
median difference −11 ms; QRS 69 and 89 ms, QT 340 and 348 ms; T waves have the same sign in all leads but the flat III and half
the height. Likely reasons: balls of 3 mm are stimulated at once, the fast layer draws its neighbours along, the eikonal grid is
late by some per cent, and the higher conductivity evens out more than the Gaussian of `recovery` does. These have not been told
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gemello.base.errors import DataError, SolverError
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.organ.activation import DURRER, Root, Speeds, fast_layer, site
from gemello.domains.heart.organ.cells import mixed
from gemello.domains.heart.organ.cloud import Floats
from gemello.domains.heart.organ.ecg import Conductivity, Ecg, grid_of, twelve_leads
from gemello.domains.heart.organ.virtual import VirtualHeart
from gemello.domains.heart.tissue.grid import Grid, cable
from gemello.domains.heart.tissue.simulate import Pulse, Tissue, simulate

DT = 0.02  # ms


@dataclass(frozen=True, eq=False)
class Solved:
    """activation, repolarisation: (voxels,) ms, the mean of a voxel's corners, NaN where it never came. conductivity: S/m along
    and across the fibre, and of the endocardial layer."""

    ecg: Ecg
    activation: Floats
    repolarisation: Floats
    conductivity: tuple[float, float, float]


def solve(
    virtual: VirtualHeart,
    duration: float = 450.0,
    *,
    roots: Sequence[Root] = DURRER,
    speeds: Speeds = Speeds(),  # noqa: B008
    conductivity: Conductivity = Conductivity(),  # noqa: B008
    dt: float = DT,
    dtype: str = "float32",
) -> Solved:
    """One beat of `duration` ms from the cells' own initial states, with an ECG each ms.

    Cells are of the first kind's model, with parameters that are the weighted means of the kinds. Raises SolverError where a
    speed is not reached at this spacing, and as `tissue.simulate`.
    """
    heart, cell = virtual.heart, virtual.kinds.models[0]
    along, across, fast = (tuned(cell, heart.spacing, v, dt) for v in speeds[:3])
    sigma = (along, across, fast)
    grid = conducting(virtual, sigma, speeds.layer)
    weight = grid.to_nodes(heart.on_grid(virtual.weight, 0.0))
    parameters, state = mixed(virtual.kinds, weight)
    tissue = Tissue(grid, cell, parameters, state)
    pulses = [
        Pulse(_around(grid, heart.positions[site(heart, r)], 2.01 * heart.spacing), r.time, 2.0, 2.0 * cell.stimulus.amplitude)
        for r in roots
    ]
    course = simulate(tissue, duration, pulses, dt=dt, dtype=dtype, electrodes_mm=heart.electrodes)
    scale = conductivity.muscle / conductivity.body  # `simulate` takes them as equal
    rise = course.ecg - course.ecg[:, :1]
    mean = lambda v: v[grid.corners].mean(1)  # noqa: E731
    return Solved(Ecg(course.ecg_times, twelve_leads(scale * rise)), mean(course.activation), mean(course.repolarisation), sigma)


def conducting(virtual: VirtualHeart, sigma: tuple[float, float, float], layer: float) -> Grid:
    """The heart as a grid with conductivities (S/m) along and across the fibre, and the same in all directions within `layer`
    mm of the endocardium."""
    heart = virtual.heart
    along, across, fast = sigma
    f = heart.fibre
    tensor = np.stack([(along - across) * f[:, i] * f[:, j] + across * (i == j) for i, j in _COMPONENTS], 1)
    tensor[fast_layer(heart, layer)] = [fast * (i == j) for i, j in _COMPONENTS]
    return grid_of(heart, tensor)


_COMPONENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


@lru_cache(maxsize=64)
def tuned(cell: CellModel, spacing: float, speed: float, dt: float = DT, tolerance: float = 0.03) -> float:
    """Conductivity (S/m) at which a plane wave on a cable of this spacing (mm) runs at `speed` (mm/ms), within `tolerance`.

    Speed grows as the square root of conductivity, more or less: that gives the next trial. Raises SolverError after twelve: on
    a coarse grid slow waves do not run at all.
    """
    if not (spacing > 0.0 and speed > 0.0):
        raise DataError("not above 0", column="spacing, speed", value=(spacing, speed), remedy="give mm and mm/ms")
    sigma, low, high = 0.2 * (speed / 0.6) ** 2, 0.0, np.inf
    for _ in range(12):
        found = cable_speed(cell, spacing, sigma, dt)
        if abs(found / speed - 1.0) <= tolerance:
            return sigma
        low, high = (sigma, high) if found < speed else (low, sigma)
        trial = sigma * ((speed / found) ** 2 if found > 0.0 else 2.0)
        sigma = trial if low < trial < high else float(np.sqrt(low * high))
    raise SolverError(f"no conductivity gives {speed:g} mm/ms on a grid of {spacing:g} mm; use a smaller spacing")


def cable_speed(cell: CellModel, spacing: float, sigma: float, dt: float = DT) -> float:
    """Speed (mm/ms) of a wave between a quarter and three quarters of a cable of 40 voxels; 0 where it does not arrive."""
    grid = cable(40 * spacing, spacing, sigma)
    first = grid.positions[:, 0] <= 2.01 * spacing
    course = simulate(
        Tissue(grid, cell),
        5.0 + np.ceil(40 * spacing / 0.2),
        [Pulse(first, 0.0, 2.0, 2.0 * cell.stimulus.amplitude)],
        dt=dt,
        until_active=True,
    )
    a, b = course.activation[10], course.activation[30]
    return float(20 * spacing / (b - a)) if np.isfinite(b) and b > a else 0.0


def _around(grid: Grid, place: Floats, radius: float) -> np.ndarray:
    return np.asarray(np.linalg.norm(grid.positions - place, axis=1) <= radius)
