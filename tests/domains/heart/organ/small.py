"""A heart of a few voxels, made by hand."""

from __future__ import annotations

import numpy as np

from gemello.domains.heart.organ.geometry import Heart


def block(shape: tuple[int, int, int] = (6, 5, 4), spacing: float = 1.0, far: float = 60.0) -> Heart:
    """A box of muscle, fibres along x, tm falling along y, ab rising along z; ten electrodes `far` mm away in all directions."""
    mask = np.zeros(tuple(n + 2 for n in shape), bool)
    mask[1:-1, 1:-1, 1:-1] = True
    at = np.argwhere(mask).astype(float)
    n = len(at)
    unit = [(at[:, i] - 1) / max(shape[i] - 1, 1) for i in range(3)]
    way = np.random.default_rng(3).standard_normal((10, 3))
    centre = spacing * (np.array(mask.shape) - 1) / 2
    electrodes = centre + far * way / np.linalg.norm(way, axis=1, keepdims=True)
    fibre = np.tile([1.0, 0.0, 0.0], (n, 1))
    depth = spacing * (at[:, 1] - 0.5)
    return Heart(
        spacing,
        np.zeros(3),
        mask,
        fibre,
        unit[2],
        0.5 * unit[0],
        1.0 - unit[1],
        at[:, 0] > shape[0] / 2,
        depth,
        depth,
        electrodes,
    )
