"""When the wave arrives: the anisotropic eikonal equation  ∇T · S ∇T = 1  on voxels, S = speed² tensor (mm²/ms²).

Hopf–Lax update of Bornemann & Rasch (2006, Comput Vis Sci 9:57): the new time of a voxel is the least over the octahedron of
its six neighbours of linearly interpolated time plus travel time in the metric S⁻¹. Fixed points are found as by the fast
iterative method (Jeong & Whitaker 2008, SIAM J Sci Comput 30:2512), the voxels with the earliest neighbours first. First order
in the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.heart.organ.cloud import Booleans, Floats, Integers
from gemello.domains.heart.organ.geometry import neighbours

_FAR = 1e9  # ms: not reached yet
_CHUNK = 20_000  # voxels solved at once
_SIGNS = np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)])
_PAIRS = ((0, 1), (0, 2), (1, 2))


def speed_squared(fibre: Floats, along: float | Floats, across: float | Floats) -> Floats:
    """(voxels, 3, 3) mm²/ms² of a wave that runs at `along` the fibre (voxels, 3) and `across` it, in mm/ms (which is m/s)."""
    a, c = (np.broadcast_to(np.asarray(v, float) ** 2, fibre.shape[:1])[:, None, None] for v in (along, across))
    tensor: Floats = c * np.eye(3) + (a - c) * np.einsum("ni,nj->nij", fibre, fibre)
    return tensor


def arrival(
    mask: Booleans, spacing: float, tensor: Floats, sources: Integers, times: Floats | Sequence[float], band: float = 1.0
) -> Floats:
    """(voxels,) ms, of the wave from the voxels `sources` (numbers in the order of np.argwhere(mask)), which start at `times`.

    spacing: mm. tensor: (voxels, 3, 3) mm²/ms². band: ms of wave that is advanced at once; it changes the cost, not the answer.
    Raises DataError where there is no source, or where the wave cannot reach a voxel.
    """
    n = int(mask.sum())
    sources = np.atleast_1d(np.asarray(sources, np.int64))
    if not len(sources) or sources.min() < 0 or sources.max() >= n:
        raise DataError("no voxel to start from", column="sources", value=sources[:5], remedy=f"give numbers from 0 to {n - 1}")
    beside = neighbours(mask)
    slowness: Floats = np.asarray(np.linalg.inv(tensor), np.float64)
    time = np.full(n + 1, _FAR)  # the last is the place of missing neighbours
    np.minimum.at(time, sources, np.broadcast_to(np.asarray(times, float), sources.shape))
    key = np.full(n + 1, np.inf)  # earliest change beside a voxel; infinite where there is nothing to do
    _spread(key, beside, sources, time)
    while True:
        first = key[:n].min()
        if not np.isfinite(first):
            break
        now = np.flatnonzero(key[:n] <= first + band)
        key[now] = np.inf
        new = np.concatenate([_update(time, beside, spacing, tensor, slowness, part) for part in _parts(now)])
        better = new < time[now] - 1e-9
        time[now[better]] = new[better]
        _spread(key, beside, now[better], time)
    out = time[:n]
    if (out >= 0.5 * _FAR).any():
        missed = int((out >= 0.5 * _FAR).sum())
        raise DataError(
            f"the wave cannot reach {missed} of {n} voxels", column="sources", remedy="start in every piece of muscle"
        )
    return out


def _parts(now: Integers) -> list[Integers]:
    return [now[i : i + _CHUNK] for i in range(0, len(now), _CHUNK)]


def _spread(key: Floats, beside: Integers, changed: Integers, time: Floats) -> None:
    """Neighbours of changed voxels are to be solved again."""
    for side in beside[changed].T:
        np.minimum.at(key, side, time[changed])
    key[-1] = np.inf


def _update(time: Floats, beside: Integers, h: float, tensor: Floats, slowness: Floats, at: Integers) -> Floats:
    """Hopf–Lax update of the voxels `at`: corners, edges and faces of the octahedron of neighbours."""
    around = time[beside[at]]  # (m, 6): +x −x +y −y +z −z
    m = slowness[at]
    best = time[at].copy()
    for axis in range(3):
        np.minimum(best, np.minimum(around[:, 2 * axis], around[:, 2 * axis + 1]) + h * np.sqrt(m[:, axis, axis]), out=best)
    for i, j in _PAIRS:
        det = m[:, i, i] * m[:, j, j] - m[:, i, j] ** 2
        a, b, c = m[:, j, j] / det, m[:, i, i] / det, -m[:, i, j] / det
        for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            u, v = around[:, 2 * i + (s < 0)], around[:, 2 * j + (t < 0)]
            np.minimum(best, _two(u, v, a, b, s * t * c, h), out=best)
    d = tensor[at]
    for s in _SIGNS:
        three = [around[:, 2 * i + (s[i] < 0)] for i in range(3)]
        np.minimum(best, _three(three, d * (s[:, None] * s[None]), h), out=best)
    return best


def _two(u: Floats, v: Floats, a: Floats, b: Floats, c: Floats, h: float) -> Floats:
    """Time by way of a point on the edge between neighbours at times u and v, where Q = [[a, c], [c, b]]/h² is the inverse
    metric on the edge: root T of (T − u, T − v) Q (T − u, T − v)ᵀ = 1; infinite where the way leaves the edge."""
    w = v - u  # time relative to u
    one, half = a + 2.0 * c + b, (c + b) * w
    root = half**2 - one * (b * w**2 - h**2)
    x = (half + np.sqrt(np.maximum(root, 0.0))) / one
    fine = (root >= 0.0) & (a * x + c * (x - w) >= 0.0) & (c * x + b * (x - w) >= 0.0)
    return np.where(fine, u + x, np.inf)


def _three(u: list[Floats], q: Floats, h: float) -> Floats:
    """The same by way of the face of three neighbours, where the inverse metric is the tensor of squared speeds itself."""
    w = np.stack([np.zeros_like(u[0]), u[1] - u[0], u[2] - u[0]], 1)
    row = q.sum(2)
    qw = np.einsum("nij,nj->ni", q, w)
    one, half = row.sum(1), qw.sum(1)
    root = half**2 - one * ((w * qw).sum(1) - h**2)
    x = (half + np.sqrt(np.maximum(root, 0.0))) / one
    fine = (root >= 0.0) & (x[:, None] * row - qw >= 0.0).all(1)
    return np.where(fine, u[0] + x, np.inf)
