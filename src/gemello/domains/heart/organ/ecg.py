"""What electrodes on the body see of a heart: lead field of an infinite homogeneous conductor, and the 12 standard leads.

Potential of the sources  J = −σ_i ∇V  at an electrode at distance r:  φ = −1/(4π σ_b) ∫ (σ_i ∇V) · ∇(1/r) dv, ∇ at the source
(Plonsey & Barr, Bioelectricity, ch. 8; Gima & Rudy 2002, Circ Res 90:889). It is linear in V, so each electrode has one weight
per voxel.

The body is no such conductor: it ends, and the lungs conduct less. Shapes and times are worth more than amplitudes, which are
too small, most of all in the limb leads, whose electrodes are 20 cm away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.heart.organ.cloud import ELECTRODES, RECORDED, Floats
from gemello.domains.heart.organ.geometry import Heart
from gemello.domains.heart.tissue import ecg as tissue
from gemello.domains.heart.tissue.grid import Grid

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


class Conductivity(NamedTuple):
    """S/m. muscle: intracellular, the same in all directions, a third of the trace of 0.17 along and 0.019 across the fibre
    (Niederer et al. 2011, Phil Trans R Soc A 369:4331): with equal anisotropy inside and outside the cells the heart acts as an
    equivalent double layer, whose sources do not know the fibre (Geselowitz 1992; van Oosterom & Jacquemet 2005, Europace 7
    Suppl 2:33). body: around the heart (0.2, mean torso of Keller et al. 2010, IEEE Trans Biomed Eng 57:1568)."""

    muscle: float = 0.069
    body: float = 0.2


@dataclass(frozen=True, eq=False)
class Ecg:
    """time: (times,) ms from the start of activation. leads: (12, times) mV in the order of LEADS."""

    time: Floats
    leads: Floats

    def __getitem__(self, lead: str) -> Floats:
        if lead not in LEADS:
            raise DataError("no such lead", value=lead, remedy="the leads are " + " ".join(LEADS))
        return self.leads[LEADS.index(lead)]


def grid_of(heart: Heart, conductivity: Sequence[float] | Floats = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)) -> Grid:
    """The heart as a grid of tissue: conductivity S/m, (6,) for all voxels or (voxels, 6)."""
    tensor = np.asarray(conductivity, float)
    if tensor.ndim > 1:
        tensor = heart.on_grid(tensor, 0.0)
    corner = tuple(heart.origin - 0.5 * heart.spacing)
    return Grid(heart.mask.shape, heart.spacing, tensor, mask=heart.mask, origin_mm=corner)


def lead_field(heart: Heart, conductivity: Conductivity = Conductivity()) -> Floats:  # noqa: B008
    """(electrodes, voxels) potential in mV at an electrode per mV at a voxel. Rows sum to 0: an equal potential gives no signal.

    It is the lead field of the tissue's nodes (`tissue.lead_field`), a node having the mean potential of the voxels around it.
    Raises DataError where an electrode lies within the heart, or a conductivity is not positive.
    """
    if not min(conductivity) > 0.0:
        raise DataError("not positive", column="conductivity", value=tuple(conductivity), remedy="give S/m")
    grid = grid_of(heart)
    share = node_field(heart, conductivity) / np.bincount(grid.corners.ravel(), minlength=grid.size)
    return np.asarray(share[:, grid.corners].sum(2))


def node_field(heart: Heart, conductivity: Conductivity = Conductivity()) -> Floats:  # noqa: B008
    """(electrodes, nodes) of `grid_of`: the same for potentials at the nodes."""
    return conductivity.muscle / conductivity.body * tissue.lead_field(grid_of(heart), heart.electrodes)


def twelve_leads(potential: Floats) -> Floats:
    """(12, …) leads of potentials (10, …) in the order of ELECTRODES: limb leads of Einthoven, augmented leads of Goldberger,
    chest leads against Wilson's central terminal, the mean of LA, RA and LL (AHA/ACCF/HRS 2007, Circulation 115:1306)."""
    if len(potential) != len(ELECTRODES):
        raise DataError("not ten electrodes", value=len(potential), remedy="give " + " ".join(ELECTRODES))
    la, ra, ll = potential[:3]
    wilson = (la + ra + ll) / 3.0
    limb = [la - ra, ll - ra, ll - la, ra - 0.5 * (la + ll), la - 0.5 * (ra + ll), ll - 0.5 * (ra + la)]
    return np.stack(limb + [v - wilson for v in potential[4:]])


def from_recorded(leads: Floats) -> Floats:
    """(12, times) of the eight independent leads (8, times) in the order of RECORDED."""
    if len(leads) != len(RECORDED):
        raise DataError("not eight leads", value=len(leads), remedy="give " + " ".join(RECORDED))
    one, two = leads[:2]
    return np.concatenate([np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]), leads[2:]])


def independent(leads: Floats) -> Floats:
    """(8, times) in the order of RECORDED, of (12, times)."""
    return leads[[LEADS.index(name) for name in RECORDED]]
