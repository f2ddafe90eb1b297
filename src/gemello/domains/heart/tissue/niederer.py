"""The slab of the N-version benchmark (Niederer et al., Phil Trans R Soc A 369:4331-4351, 2011): geometry, stimulus, points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gemello.domains.heart.cells.ten_tusscher.model import epi
from gemello.domains.heart.tissue.grid import Floats, Grid, slab
from gemello.domains.heart.tissue.simulate import Course, Pulse, Tissue, simulate

SIZE_MM = (20.0, 7.0, 3.0)
INTRACELLULAR, EXTRACELLULAR = (0.17, 0.019), (0.62, 0.24)  # S/m, along and across the fibres
ALONG, ACROSS = (i * e / (i + e) for i, e in zip(INTRACELLULAR, EXTRACELLULAR, strict=True))  # harmonic combination
STIMULUS_MM, STIMULUS_MS = 1.5, 2.0
STIMULUS = -50_000.0 / 1400.0  # uA/uF: 50,000 uA/cm³ over 1400 /cm and 1 uF/cm²
#: corners and centre as the paper numbers them; P1 is stimulated, P8 opposite
POINTS = {
    f"P{k}": place
    for k, place in enumerate(
        [(0, 0, 0), (0, 7, 0), (20, 0, 0), (20, 7, 0), (0, 0, 3), (0, 7, 3), (20, 0, 3), (20, 7, 3), (10, 3.5, 1.5)], start=1
    )
}  # fmt: skip


def tissue(spacing_mm: float, front: float | None = None, order: int = 4) -> Tissue:
    """The slab with epicardial cells at the paper's initial states."""
    return Tissue(slab(SIZE_MM, spacing_mm, ALONG, ACROSS), epi, front=front, order=order)


def pulse(grid: Grid) -> Pulse:
    """The stimulus at P1: a cube of 1.5 mm."""
    return Pulse(grid.within((0.0,) * 3, (STIMULUS_MM,) * 3), 0.0, STIMULUS_MS, STIMULUS)


def activation(
    spacing_mm: float, dt: float, *, front: float | None = None, order: int = 4, dtype: str = "float32", longest: float = 160.0,
    progress: Callable[[float, float], None] | None = None, **options: Any,
) -> tuple[dict[str, float], Course, Grid]:  # fmt: skip
    """Activation (ms) at P1 … P9, the whole course and its grid; it stops when all nodes were activated."""
    slab_tissue = tissue(spacing_mm, front, order)
    course = simulate(
        slab_tissue, longest, [pulse(slab_tissue.grid)], dt=dt, dtype=dtype, until_active=True, progress=progress, **options
    )
    return at_points(slab_tissue.grid, course.activation), course, slab_tissue.grid


def at_points(grid: Grid, values: Floats) -> dict[str, float]:
    """Values at P1 … P9, linear between nodes."""
    from scipy.interpolate import RegularGridInterpolator  # noqa: PLC0415

    axes = [np.arange(n + 1) * h for n, h in zip(grid.shape, grid.spacing, strict=True)]
    between = RegularGridInterpolator(axes, grid.to_box(values))
    return {name: float(between(np.minimum(place, [a[-1] for a in axes]))[0]) for name, place in POINTS.items()}
