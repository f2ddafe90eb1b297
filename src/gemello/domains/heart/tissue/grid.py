"""Voxels of tissue: which are tissue, how they conduct, and the nodes at their corners where potentials live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grid:
    """A structured grid of 1, 2 or 3 dimensions. Each voxel of tissue is one element; unknowns sit at its corners, the nodes.

    shape: voxels along each axis. spacing_mm: edge of a voxel, one number or one for each axis (mm). mask: which voxels are
    tissue (shape), all without it. conductivity: effective (monodomain) conductivity tensor, S/m, either one for all voxels
    (components,) or one for each (*shape, components), components in the order xx, yy, zz, xy, xz, yz (2D: xx, yy, xy; 1D: xx).
    beta: membrane surface to volume (1/cm). Cm: membrane capacitance (uF/cm²). origin_mm: place of the first voxel's first
    corner.

    Raises DataError for shapes that do not fit, conductivities that are not positive definite, and tissue in several pieces.
    """

    shape: tuple[int, ...]
    spacing_mm: float | Sequence[float]
    conductivity: ArrayLike
    mask: ArrayLike | None = None
    beta: float = 1400.0
    Cm: float = 1.0
    origin_mm: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) <= 3 or min(self.shape) < 1:
            raise DataError("a grid has 1 to 3 axes with at least one voxel each", column="shape", value=self.shape)
        if not (np.all(np.isfinite(self.spacing)) and self.spacing.min() > 0.0):
            raise DataError("not a spacing", column="spacing_mm", value=self.spacing_mm, remedy="give a length in mm above 0")
        if not (self.beta > 0.0 and self.Cm > 0.0):
            raise DataError(
                "beta and Cm must be above 0", column="beta, Cm", value=(self.beta, self.Cm), remedy="give 1/cm and uF/cm²"
            )
        if self.voxels.shape != self.shape:
            raise DataError(
                f"has the shape {self.voxels.shape}, the grid {self.shape}", column="mask", remedy="give one per voxel"
            )
        if not self.voxels.any():
            raise DataError("no voxel is tissue", column="mask", remedy="mark at least one")
        self._check_pieces()
        self._check_conductivity()

    def _check_pieces(self) -> None:
        from scipy.ndimage import label  # noqa: PLC0415  (slow to import; only where a mask has holes)

        if self.voxels.all():
            return
        pieces, number = label(self.voxels)
        if number > 1:
            sizes = ", ".join(str(n) for n in np.sort(np.bincount(pieces.ravel())[1:])[:-6:-1])
            raise DataError(
                f"tissue in {number} pieces that share no face (the largest: {sizes} voxels)",
                column="mask",
                remedy="keep the largest (gemello.domains.heart.tissue.largest_piece) or join them",
            )

    def _check_conductivity(self) -> None:
        d, given = self.dimensions, np.asarray(self.conductivity, float)
        if given.shape not in ((d * (d + 1) // 2,), (*self.shape, d * (d + 1) // 2)):
            raise DataError(
                f"has the shape {given.shape}; a grid of {d} axes takes {d * (d + 1) // 2} components, once or for each voxel",
                column="conductivity",
                remedy="give xx, yy, zz, xy, xz, yz in S/m",
            )
        if not np.isfinite(self.tensors).all() or np.linalg.eigvalsh(self.tensors).min() <= 0.0:
            raise DataError("not positive definite in some voxel", column="conductivity", remedy="give tensors in S/m above 0")

    @property
    def dimensions(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def spacing(self) -> Floats:
        """Edges of a voxel along each axis, mm."""
        return np.broadcast_to(np.asarray(self.spacing_mm, float), (self.dimensions,))

    @cached_property
    def voxels(self) -> Bools:
        """Which voxels are tissue, shape `shape`."""
        return np.ones(self.shape, bool) if self.mask is None else np.asarray(self.mask, bool)

    @cached_property
    def elements(self) -> Ints:
        """Index of each voxel of tissue along each axis, (elements, axes), in C order."""
        return np.argwhere(self.voxels)

    @cached_property
    def tensors(self) -> Floats:
        """Conductivity of each voxel of tissue, (elements or 1, axes, axes), S/m."""
        given, d = np.asarray(self.conductivity, float), self.dimensions
        parts = given[self.voxels] if given.ndim > 1 else given[None]
        places = [(i, i) for i in range(d)] + [(i, j) for i in range(d) for j in range(i + 1, d)]
        out = np.empty((len(parts), d, d))
        for k, (i, j) in enumerate(places):
            out[:, i, j] = out[:, j, i] = parts[:, k]
        return out

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        """Number of each corner of the box, −1 where no tissue touches it."""
        touched = np.zeros(tuple(n + 1 for n in self.shape), bool)
        for corner in product((0, 1), repeat=self.dimensions):
            touched[tuple(slice(c, n + c) for c, n in zip(corner, self.shape, strict=True))] |= self.voxels
        return np.where(touched, np.cumsum(touched).reshape(touched.shape) - 1, -1)

    @cached_property
    def nodes(self) -> Ints:
        """Index of each node along each axis, (nodes, axes), in C order. Node (i, j, k) is the first corner of voxel (i, j,
        k)."""
        return np.argwhere(self._numbers >= 0)

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    @cached_property
    def positions(self) -> Floats:
        """Position of each node, (nodes, axes), mm."""
        origin = np.zeros(self.dimensions) if self.origin_mm is None else np.asarray(self.origin_mm, float)
        return np.asarray(origin + self.nodes * self.spacing)

    @cached_property
    def corners(self) -> Ints:
        """Nodes of each element, (elements, 2^axes), corners in C order."""
        return np.stack([self.number(self.elements + np.array(c)) for c in product((0, 1), repeat=self.dimensions)], axis=1)

    def number(self, index: ArrayLike) -> Ints:
        """Number of the node at each index, (..., axes) → (...); −1 where there is no node."""
        at = np.asarray(index)
        inside = np.all((at >= 0) & (at <= np.array(self.shape)), axis=-1)
        at = np.clip(at, 0, np.array(self.shape))
        return np.where(inside, self._numbers[tuple(np.moveaxis(at, -1, 0))], -1)

    def nearest(self, position_mm: ArrayLike) -> int:
        """Number of the node nearest to a position (axes,), mm."""
        return int(np.argmin(((self.positions - np.asarray(position_mm, float)) ** 2).sum(axis=1)))

    def within(self, low_mm: ArrayLike, high_mm: ArrayLike) -> Bools:
        """Nodes in a box, its faces included: (nodes,) bool."""
        slack = 1e-6 * self.spacing
        return np.all((self.positions >= np.asarray(low_mm) - slack) & (self.positions <= np.asarray(high_mm) + slack), axis=1)

    def to_nodes(self, values: ArrayLike) -> Floats:
        """Mean at each node of what the voxels around it have: (*shape, ...) → (nodes, ...)."""
        each = np.asarray(values, float)[self.voxels]
        total, count = np.zeros((self.size, *each.shape[1:])), np.zeros(self.size)
        for c in range(self.corners.shape[1]):
            np.add.at(total, self.corners[:, c], each)
            np.add.at(count, self.corners[:, c], 1.0)
        return np.asarray(total / count.reshape(-1, *[1] * (each.ndim - 1)))

    def to_box(self, values: ArrayLike, fill: Any = np.nan) -> NDArray[Any]:
        """Values at the nodes (nodes, ...) as an array of the box of nodes (shape + 1, ...), `fill` where there is none."""
        given = np.asarray(values)
        out = np.full((*self._numbers.shape, *given.shape[1:]), fill, np.result_type(given, type(fill)))
        out[tuple(self.nodes.T)] = given
        return out


def largest_piece(mask: ArrayLike) -> Bools:
    """The largest set of voxels that hang together by faces."""
    from scipy.ndimage import label  # noqa: PLC0415

    pieces, number = label(np.asarray(mask, bool))
    return np.asarray(pieces == 1 + np.argmax(np.bincount(pieces.ravel(), minlength=2)[1:])) if number else np.asarray(mask, bool)


def fibre_conductivity(
    fibre: ArrayLike, along: float, across: float, normal: float | None = None, sheet: ArrayLike | None = None
) -> Floats:
    """Tensors (..., 6) of tissue with fibre directions (..., 3): `along` the fibre, `across` it, S/m.

    With the sheet direction (..., 3) and `normal`, `across` holds along the sheet and `normal` across it (orthotropic).
    Directions need not have length 1; the sheet's part along the fibre is taken off. A fibre of length 0 is a DataError.
    """
    f = _unit(np.asarray(fibre, float), "fibre")
    eye = np.eye(3)
    tensor = across * eye + (along - across) * f[..., :, None] * f[..., None, :]
    if normal is not None:
        if sheet is None:
            raise DataError("a conductivity across the sheet needs the sheet's direction", column="sheet", remedy="give (..., 3)")
        s = np.asarray(sheet, float)
        n = np.cross(f, _unit(s - (s * f).sum(-1, keepdims=True) * f, "sheet"))
        tensor = tensor + (normal - across) * n[..., :, None] * n[..., None, :]
    return np.stack([tensor[..., i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))], axis=-1)


def _unit(v: Floats, what: str) -> Floats:
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    if v.shape[-1] != 3 or not (length > 0.0).all():
        raise DataError("a direction of length 0 or not of 3 components", column=what, remedy="give a direction for every voxel")
    return np.asarray(v / length)


def cable(length_mm: float, spacing_mm: float, conductivity: float, **rest: Any) -> Grid:
    """A cable: `length_mm` cut into voxels of `spacing_mm`, effective conductivity in S/m."""
    return Grid(_cells((length_mm,), spacing_mm), spacing_mm, (conductivity,), **rest)


def slab(size_mm: Sequence[float], spacing_mm: float, along: float, across: float, **rest: Any) -> Grid:
    """A box of `size_mm` (3,), fibres along the first axis, effective conductivities along and across them in S/m."""
    return Grid(_cells(size_mm, spacing_mm), spacing_mm, (along, across, across, 0.0, 0.0, 0.0), **rest)


def _cells(size_mm: Sequence[float], spacing_mm: float) -> tuple[int, ...]:
    cells = tuple(round(s / spacing_mm) for s in size_mm)
    if any(abs(n * spacing_mm - s) > 1e-6 * s or n < 1 for n, s in zip(cells, size_mm, strict=True)):
        raise DataError(
            "the spacing does not divide the size", column="spacing_mm", value=spacing_mm, remedy=f"size {tuple(size_mm)} mm"
        )
    return cells
