"""A population calibrated to measured action potentials: sample conductances, pace, accept by range, weight.

Acceptance by the range of each marker as Britton et al. 2013 (PNAS 110:E2098); weights in place of a second rejection, so that no
accepted cell is lost (`weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.base.random import generator
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.pacing import Paced, pace
from gemello.domains.heart.populations import weights as weighting
from gemello.domains.heart.populations.measured import CYCLE, MARKERS, Measured
from gemello.domains.heart.populations.population import Population

CURRENTS = ("INa", "INaL", "Ito", "ICaL", "IKr", "IKs", "IK1", "INaCa", "INaK", "Jup", "Jrel")  # those that a model has
WEIGHTED = ("apd90_from_peak",)  # peak and rest of a cell alone are not those of tissue: its range is all that is asked
LOW, HIGH = 0.5, 2.0
BEATS = 300  # as many populations in print; the slowest drift of ions goes on
Floats = NDArray[np.float64]
Pacer = Callable[..., Paced]


def sample(
    model: CellModel, cells: int, seed: int, *, low: float = LOW, high: float = HIGH, currents: Sequence[str] = CURRENTS
) -> dict[str, Floats]:
    """Conductances (cells,) by parameter: the model's own times factors from `low` to `high`, by a Latin hypercube of their
    logarithms (McKay et al. 1979), so that half of them lie below the geometric middle. Raises DataError."""
    if cells < 1:
        raise DataError("no cells", column="cells", value=cells, remedy="give at least 1")
    if not 0 < low < high < np.inf:
        raise DataError("no range of factors", column="low, high", value=(low, high), remedy="give 0 < low < high")
    names = [model.conductances[c] for c in currents if c in model.conductances]
    unit = qmc.LatinHypercube(len(names), rng=generator(seed, "conductances", model.name)).random(cells)
    factors = low * (high / low) ** unit
    return {n: model.parameters[n].value * factors[:, j] for j, n in enumerate(names)}


def markers_of(paced: Paced) -> dict[str, Floats]:
    """Markers of the last beat, with APD90 from the peak as in the data."""
    b = {n: np.asarray(v, float) for n, v in paced.biomarkers.items()}
    return {**b, "apd90_from_peak": b["apd90"] - b["peak_time"], "failed": paced.failed.astype(float)}


def abnormal(markers: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Cells (cells,) with an early afterdepolarisation, that do not repolarise within the beat, or could not go on."""
    return np.asarray((markers["ead"] > 0) | (markers["repolarised"] < 1) | (markers["failed"] > 0))


def accepted(markers: Mapping[str, Floats], data: Measured) -> NDArray[np.bool_]:
    """Normal cells (cells,) whose markers lie within the range of the data."""
    within = [(markers[m] >= data.markers[m].min()) & (markers[m] <= data.markers[m].max()) for m in MARKERS]
    return np.asarray(~abnormal(markers) & np.all(within, axis=0))


def calibrate(
    model: CellModel,
    data: Measured,
    *,
    cells: int = 1000,
    seed: int = 0,
    low: float = LOW,
    high: float = HIGH,
    currents: Sequence[str] = CURRENTS,
    weighted: Sequence[str] = WEIGHTED,
    pacer: Pacer = pace,
) -> Population:
    """The accepted of `cells` candidates, under weights that make the markers `weighted` agree with the data's.

    pacer: `pace`, or one of its form. Raises DataError where no cell is accepted.
    """
    values = sample(model, cells, seed, low=low, high=high, currents=currents)
    paced = pacer(model, values, cycle_length=CYCLE, beats=BEATS)
    found = markers_of(paced)
    keep = accepted(found, data)
    if not keep.any():
        raise DataError(
            f"none of {cells} cells has markers within the range of the data", source=model.name, column="cells",
            remedy="sample more cells, or a narrower range of conductances",
        )  # fmt: skip
    inside = {n: v[keep] for n, v in found.items()}
    w = weighting.tilted({m: inside[m] for m in weighted}, {m: data.markers[m] for m in weighted})
    state = {n: np.asarray(v, float)[keep] for n, v in paced.state._asdict().items()}
    stamp = Provenance.collect(model, data=_named(data, low, high, cells), seed=seed)
    chosen = {n: v[keep] for n, v in values.items()}
    return Population(model.name, chosen, inside, state, w, cells, low, high, CYCLE, stamp)


def _named(data: Measured, low: float, high: float, cells: int) -> dict[str, Any]:
    return {**data.markers, "low": low, "high": high, "cells": cells}
