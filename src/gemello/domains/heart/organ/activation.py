"""Where the wave starts and how fast it runs: early sites of the endocardium and a fast layer in place of the Purkinje
network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.heart.organ.cloud import Booleans, Floats
from gemello.domains.heart.organ.eikonal import arrival, speed_squared
from gemello.domains.heart.organ.geometry import Heart


class Root(NamedTuple):
    """Early site on an endocardium: which ventricle, its coordinates ab and rt, and when it starts (ms)."""

    name: str
    side: Literal["left", "right"]
    ab: float
    rt: float
    time: float


# Durrer et al. 1970 (Circulation 41:899): isolated human hearts start 0-5 ms after the beginning of the cavity potential in
# three left areas (high on the anterior paraseptal wall, the middle of the septum, posterior paraseptal about one third of the
# way from apex to base), and 5-10 ms later in the right ventricle near the insertion of the anterior papillary muscle. ab and
# rt are our reading of these words on this cloud: its septum lies at rt 0.63-0.97 on the left endocardium, its right free wall
# at rt 0.03-0.6 on the right one.
DURRER = (
    Root("left, high anterior paraseptal", "left", 0.75, 0.60, 0.0),
    Root("left, middle of the septum", "left", 0.55, 0.80, 0.0),
    Root("left, posterior paraseptal", "left", 0.35, 0.03, 0.0),
    Root("right, anterior papillary muscle", "right", 0.35, 0.40, 7.5),
)


class Speeds(NamedTuple):
    """Speeds of the wave in mm/ms (m/s) and the thickness in mm of the fast layer.

    along, across: the fibre, human left ventricle in vivo: 0.65 and 0.48 (Taggart et al. 2000, J Mol Cell Cardiol 32:621).
    endocardium: in the layer, all directions; the left areas of Durrer, some 40 mm apart, are confluent within 15 to 20 ms at
    1.0 mm/ms; taken among 1.0, 1.2 and 1.5 with the QRS of DTI004 in view.
    """

    along: float = 0.65
    across: float = 0.48
    endocardium: float = 1.0
    layer: float = 1.5


def activate(heart: Heart, roots: Sequence[Root] = DURRER, speeds: Speeds = Speeds()) -> Floats:  # noqa: B008
    """(voxels,) activation time in ms, the first root's own time kept: eikonal wave from the roots. Raises DataError."""
    if min(speeds) <= 0.0 or not np.isfinite(speeds).all():
        raise DataError(
            "a speed or thickness that is not positive", column="speeds", value=tuple(speeds), remedy="give mm/ms and mm"
        )
    layer = fast_layer(heart, speeds.layer)
    tensor = speed_squared(heart.fibre, speeds.along, speeds.across)
    tensor[layer] = speeds.endocardium**2 * np.eye(3)
    sources = np.array([site(heart, r) for r in roots])
    return arrival(heart.mask, heart.spacing, tensor, sources, [r.time for r in roots])


def fast_layer(heart: Heart, thickness: float) -> Booleans:
    """(voxels,) within `thickness` mm of an endocardial node, at least one voxel."""
    layer: Booleans = np.minimum(heart.lv_depth, heart.rv_depth) <= max(thickness, 1.2 * heart.spacing)
    return layer


def site(heart: Heart, root: Root) -> int:
    """Voxel of an endocardium nearest to the root's coordinates: right roots lie on the free wall (tm above ½)."""
    if root.side not in ("left", "right") or not (0.0 <= root.ab <= 1.0 and 0.0 <= root.rt <= 1.0):
        remedy = "give side left or right, and ab and rt from 0 to 1"
        raise DataError("no place in the heart", source=root.name, value=(root.side, root.ab, root.rt), remedy=remedy)
    depth = heart.lv_depth if root.side == "left" else heart.rv_depth
    here = np.flatnonzero((depth <= max(1.5, heart.spacing)) & ((root.side == "left") | (heart.tm > 0.5) & heart.right))
    if not len(here):
        raise DataError("the heart has no such endocardium", source=root.name, remedy="use a smaller spacing")
    turn = np.abs(heart.rt[here] - root.rt)
    far = (heart.ab[here] - root.ab) ** 2 + np.minimum(turn, 1.0 - turn) ** 2
    return int(here[far.argmin()])
