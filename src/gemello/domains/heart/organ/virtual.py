"""One heart made ready: its ECG at rest, under a drug, and what a drug does to QT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gemello.domains.heart.cells.torord.model import endo, epi, mid
from gemello.domains.heart.drugs.drug import Drug
from gemello.domains.heart.organ.activation import DURRER, Root, Speeds, activate
from gemello.domains.heart.organ.cells import Kinds, beats
from gemello.domains.heart.organ.cloud import Floats, read_cloud
from gemello.domains.heart.organ.ecg import Conductivity, Ecg, lead_field
from gemello.domains.heart.organ.geometry import Heart, voxelise
from gemello.domains.heart.organ.intervals import Intervals, intervals
from gemello.domains.heart.organ.recovery import Heterogeneity, Templates, electrocardiogram, weights
from gemello.domains.heart.pacing import pace

TORORD = Kinds((endo, mid, epi))


@dataclass(frozen=True, eq=False)
class VirtualHeart:
    """What of a heart does not change with its cells. activation: (voxels,) ms. field: (electrodes, voxels). weight: (voxels,
    kinds)."""

    heart: Heart
    kinds: Kinds
    activation: Floats
    field: Floats
    weight: Floats

    def ecg(self, templates: Templates) -> Ecg:
        """The ECG of a beat of these action potentials."""
        return electrocardiogram(self.activation, self.weight, templates, self.field)


class Beat(NamedTuple):
    """concentration: nM. delta_qt: ms, against the same heart without drug."""

    concentration: float
    ecg: Ecg
    intervals: Intervals
    delta_qt: float


def prepare(
    folder: Path | str,
    *,
    spacing: float = 1.0,
    kinds: Kinds = TORORD,
    roots: Sequence[Root] = DURRER,
    speeds: Speeds = Speeds(),  # noqa: B008
    heterogeneity: Heterogeneity = Heterogeneity(),  # noqa: B008
    conductivity: Conductivity = Conductivity(),  # noqa: B008
) -> VirtualHeart:
    """The heart of the node cloud in `folder` (read_cloud) on voxels of `spacing` mm. Seconds on one core at 1 mm. Raises
    DataError."""
    return ready(voxelise(read_cloud(folder), spacing), kinds, roots, speeds, heterogeneity, conductivity)


def ready(
    heart: Heart,
    kinds: Kinds = TORORD,
    roots: Sequence[Root] = DURRER,
    speeds: Speeds = Speeds(),  # noqa: B008
    heterogeneity: Heterogeneity = Heterogeneity(),  # noqa: B008
    conductivity: Conductivity = Conductivity(),  # noqa: B008
) -> VirtualHeart:
    """The same of a heart on voxels."""
    activation = activate(heart, roots, speeds)
    return VirtualHeart(heart, kinds, activation, lead_field(heart, conductivity), weights(heart, kinds.levels, heterogeneity))


def drug_ecg(
    virtual: VirtualHeart,
    drug: Drug | None,
    concentrations: ArrayLike,
    *,
    herg: str = "auto",
    cycle_length: float = 1000.0,
    number: int = 100,
    dtype: str = "float64",
    pacer: Callable[..., Any] = pace,
) -> list[Beat]:
    """ECGs at 0 and at each concentration (nM), in this order, after `number` beats.

    Cells of all kinds and concentrations are paced together; activation is the same at all: a drug that slows conduction (INa
    block) widens QRS in a real heart and not here. Raises DataError where cells do not repolarise, UnsupportedError as
    `drugs.effect`.
    """
    doses = np.concatenate([[0.0], np.atleast_1d(np.asarray(concentrations, float))]) if drug is not None else np.zeros(1)
    several = beats(virtual.kinds, drug, doses, herg=herg, cycle_length=cycle_length, number=number, dtype=dtype, pacer=pacer)
    ecgs = [virtual.ecg(t) for t in several]
    found = [intervals(e.time, e.leads, cycle_length) for e in ecgs]
    return [Beat(float(c), e, i, i.qt - found[0].qt) for c, e, i in zip(doses, ecgs, found, strict=True)]
