"""Diffusion on voxels: trilinear finite elements with modified integration, made explicit, and fitted to travelling fronts.

The monodomain equation is  ∂V/∂t = 1/(β Cm) ∇·(σ ∇V) − Iion(V, …)/Cm,  σ∇V·n = 0 on every face that has no neighbour. Each voxel
is one element of 2^d corners; its stiffness K is integrated at the 2^d points ±√(2/3) in place of Gauss's ±1/√3 (Guddati & Yue,
Comput Methods Appl Mech Eng 193:275-287, 2004): with the mass M integrated there too the scheme is of fourth order on a uniform
grid, where lumped mass makes waves too slow and consistent mass too fast, both by second order. That mass is  M = W − G/12,  W
the lumped masses and G the graph Laplacian of the grid's edges, so  M^-1 K ≈ W^-1 S' K S  with  S = 1 + W^-1 G/24  to the same
order, and no system has to be solved. In units of mm and ms the operator is

    L V = −W^-1 S' K S V,

symmetric and negative semidefinite in the scalar product of W, zero for constants, and Σ W L V = 0 (charge is conserved), for any
mask, any tensor and any weights of the edges in G.

These weights can therefore also be fitted, and so can the integration points ±√p. The front of a cardiac wave, as steep as
exp(CV x/D), is often thinner than a voxel, where no order helps. Its speed is CV = front √D for any D, `front` being the cell's
own constant, so all that the error of the speed can depend on is q = h front/√D, the voxel over the front's length. `FITTED`
says, for each q, by how much the edges along an axis must weigh more than 1/24 for waves along it to have the speed of a fine
grid, and which p gives it to waves along the diagonal of two axes. As h → 0 these go to 1 and 2/3; the order is then 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.domains.heart.tissue.grid import Floats, Grid

#: q = h front/√D; what the edges must weigh over 1/24; the integration point p. Measured with ten Tusscher & Panfilov's cell on
#: cables along an axis and along the diagonal, dt 0.005 ms: speeds within 0.5 % there; along the diagonal of three axes up to 1 %
#: (q < 2) or 6 % (q > 4) too slow. Other cells have fronts of another shape: ToR-ORd endo, along the fibres, is 2, 6 and 13 % too
#: slow at 0.25, 0.5 and 1 mm (without the fit 8 and 27 %, and no wave).
FITTED = np.array(
    [
        (0.0, 0.5, 0.75, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.9, 14.0),
        (1.0, 1.276, 1.444, 1.655, 1.994, 2.542, 3.41, 4.677, 6.247, 9.057, 12.82),
        (2 / 3, 0.577, 0.535, 0.493, 0.459, 0.403, 0.314, 0.232, 0.174, 0.12, 0.087),
    ]
)

#: How much of p goes where off-diagonal terms are as large as they can be. Chosen in 2D with fibres at 22.5° and 45°, Niederer's
#: conductivities, spacings 0.25 and 0.5 mm: speeds 5 to 8 % too low along the fibres, 6 % too low to 22 % too high across them.
OBLIQUE = 0.6


class Stencil(NamedTuple):
    """A sparse matrix by rows of equal length: offsets (k, axes) of each neighbour in the grid, their numbers (k, nodes), weights
    (k, nodes). An absent neighbour weighs 0."""

    offsets: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    weights: Floats

    def __call__(self, v: Any) -> Any:
        """The product with v (nodes,)."""
        return sum(w * v[k] for k, w in zip(self.neighbours, self.weights, strict=True))


@dataclass(frozen=True, eq=False)
class Diffusion:
    """The operator L of a grid (1/ms).

    front: the cell's conduction velocity over the square root of the diffusivity (1/√ms), see `front_speed`; with it waves have
    their speed on coarse grids too. 0: the plain operator of fourth order. order 2: lumped mass (S = 1), cheaper, and much too
    slow on coarse grids.
    """

    grid: Grid
    front: float = 0.0
    order: int = 4

    def __post_init__(self) -> None:
        if self.order not in (2, 4):
            raise DataError("the order of the operator is 2 or 4", column="order", value=self.order, remedy="give 4")

    @cached_property
    def volume(self) -> Floats:
        """Volume of each node (nodes,), mm^d: its share of the voxels around it. These are the weights W."""
        count = np.bincount(self.grid.corners.ravel(), minlength=self.grid.size)
        return np.asarray(count * np.prod(self.grid.spacing) / self.grid.corners.shape[1])

    @cached_property
    def diffusivity(self) -> Floats:
        """σ/(β Cm) of each voxel of tissue, (elements or 1, axes, axes), mm²/ms."""
        return np.asarray(self.grid.tensors * (1e3 / (self.grid.beta * self.grid.Cm)))  # S/m over (1/cm)(uF/cm²) is 1e3 mm²/ms

    @cached_property
    def stiffness(self) -> Stencil:
        """K/(β Cm), mm^d/ms: positive semidefinite, rows and columns sum to 0."""
        return stiffness(self.grid, self.diffusivity, self.points)

    @cached_property
    def fineness(self) -> Floats:
        """q of each voxel along each axis, (elements or 1, axes)."""
        return np.asarray(self.grid.spacing * self.front / np.sqrt(np.diagonal(self.diffusivity, axis1=1, axis2=2)))

    @cached_property
    def sharpness(self) -> Floats:
        """Weight of the edges of each voxel along each axis, (elements or 1, axes); 0 for order 2."""
        fitted = np.interp(self.fineness, FITTED[0], FITTED[1]) / 24.0
        return np.asarray(fitted if self.order == 4 else 0.0 * fitted)

    @cached_property
    def points(self) -> Floats:
        """p of each voxel along each axis, (elements or 1, axes): 2/3, or what the front asks for.

        Where fibres are oblique to the axes, short waves across them see the difference of large terms that do not quite cancel,
        and leak; a smaller p takes most of that away (`OBLIQUE`).
        """
        fitted = np.interp(self.fineness, FITTED[0], FITTED[2])
        if self.front == 0.0:
            return np.asarray(fitted)
        along = np.sqrt(np.diagonal(self.diffusivity, axis1=1, axis2=2))
        oblique = np.abs(self.diffusivity) / (along[:, :, None] * along[:, None, :]) * (1.0 - np.eye(self.grid.dimensions))
        return np.asarray(fitted * (1.0 - OBLIQUE * oblique.max(axis=2)))

    def factors(self) -> tuple[Stencil, ...]:
        """Stencils whose product, the last first, is L: (−W^-1 S', K, S), or (−W^-1 K,) for order 2."""
        k = self.stiffness
        if self.order == 2:
            return (k._replace(weights=-k.weights / self.volume),)
        back = self._edges(transpose=True)
        return back._replace(weights=-back.weights / self.volume), k, self._edges(transpose=False)

    def __call__(self, v: Any) -> Any:
        """L v, v (nodes,), 1/ms times its unit."""
        for factor in reversed(self.factors()):
            v = factor(v)
        return v

    @cached_property
    def fastest(self) -> float:
        """Largest rate (1/ms) on a uniform grid of any of the voxels: an explicit step is stable below 2/fastest ms."""
        along = np.diagonal(self.diffusivity, axis1=1, axis2=2) / self.grid.spacing**2
        rates = []
        for wave in product((0.0, 1.0), repeat=self.grid.dimensions):  # the shortest waves along some of the axes
            s = np.array(wave)
            shrunk = 1.0 - (1.0 - self.points) * s
            across = np.prod(shrunk, axis=1, keepdims=True) / np.maximum(shrunk, 1e-12)
            rates.append((4.0 * along * s * across).sum(axis=1) * (1.0 + 4.0 * (self.sharpness * s).sum(axis=1)) ** 2)
        return float(np.max(rates))

    def _edges(self, transpose: bool) -> Stencil:
        """S = 1 + W^-1 G or its transpose, G's edges weighing what the voxels that have them say."""
        grid, d = self.grid, self.grid.dimensions
        volume, here = self.volume, np.arange(grid.size)
        offsets, neighbours, weights = [np.zeros(d, int)], [here], [np.ones(grid.size)]
        for axis, way in product(range(d), (-1, 1)):
            step = np.zeros(d, int)
            step[axis] = way
            edge = self._edge_weights(axis, way)
            to = np.where(edge > 0.0, grid.number(grid.nodes + step), here)
            weights[0] = weights[0] + edge / volume
            offsets.append(step)
            neighbours.append(to)
            weights.append(-edge / (volume[to] if transpose else volume))
        return Stencil(np.stack(offsets), np.stack(neighbours), np.stack(weights))

    def _edge_weights(self, axis: int, way: int) -> Floats:
        """Weight of the edge from each node along `axis` (mm^d): the sharpness of the voxels that have it, each by its share."""
        grid, d = self.grid, self.grid.dimensions
        each = np.broadcast_to(self.sharpness[:, axis], len(grid.elements)) * (np.prod(grid.spacing) / 2 ** (d - 1))
        total = np.zeros(grid.size)
        for c, corner in enumerate(product((0, 1), repeat=d)):
            if corner[axis] == (0 if way > 0 else 1):
                total += np.bincount(grid.corners[:, c], each, grid.size)
        return total


def stiffness(grid: Grid, tensors: Floats, points: Floats | float = 2.0 / 3.0) -> Stencil:
    """Stencil of ∫ ∇φ_i·tensor·∇φ_j over the tissue: tensors (elements or 1, axes, axes), the result in their unit times
    mm^(d−2).

    points: p of the integration points ±√p, one for all or (elements or 1, axes).
    """
    d, corners = grid.dimensions, list(product((0, 1), repeat=grid.dimensions))
    each = np.broadcast_to(points, (len(tensors) if np.ndim(points) < 2 else len(np.asarray(points)), d))
    number = max(len(tensors), len(each))
    local = np.empty((number, 2**d, 2**d))
    for first in range(0, number, 8192):
        part = slice(first, first + 8192)
        g = _gradients(grid, each[part if len(each) > 1 else slice(None)])
        t = tensors[part if len(tensors) > 1 else slice(None)]
        local[part] = np.einsum("eqia,eqja->eij", np.einsum("eqia,eab->eqib", g, t), g)
    local = np.broadcast_to(local * (np.prod(grid.spacing) / 2**d), (len(grid.elements), 2**d, 2**d))
    weights = np.zeros((3**d, grid.size))
    for (i, a), (j, b) in product(enumerate(corners), repeat=2):
        offset = int(np.ravel_multi_index(tuple(q - p + 1 for p, q in zip(a, b, strict=True)), (3,) * d))
        weights[offset] += np.bincount(grid.corners[:, i], local[:, i, j], grid.size)
    offsets = np.array(list(product((-1, 0, 1), repeat=d)))
    neighbours = np.stack([grid.number(grid.nodes + o) for o in offsets])
    return Stencil(offsets, np.where(neighbours >= 0, neighbours, np.arange(grid.size)), weights)


def _gradients(grid: Grid, points: Floats) -> Floats:
    """Gradients (1/mm) of the corners' shape functions at the integration points ±√p: (elements, points, corners, axes)."""
    signs = np.array(list(product((-1.0, 1.0), repeat=grid.dimensions)))
    at = signs * np.sqrt(points)[:, None, :]
    factors = 0.5 * (1.0 + at[:, :, None, :] * signs[None, None, :, :])
    out = np.empty_like(factors)
    for axis in range(grid.dimensions):
        out[..., axis] = signs[:, axis] / grid.spacing[axis] * np.prod(np.delete(factors, axis, axis=3), axis=3)
    return out
