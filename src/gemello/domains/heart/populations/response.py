"""A drug in a population: by dose, the share of hearts whose repolarisation is abnormal, and the mean change of APD90.

As in the drug trials in silico of Passini et al. 2017 (Front Physiol 8:668): each cell from its own state without drug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gemello.base.errors import DataError
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.drugs.drug import Drug
from gemello.domains.heart.drugs.effect import effect
from gemello.domains.heart.pacing import pace
from gemello.domains.heart.populations.calibrate import Pacer, abnormal, markers_of
from gemello.domains.heart.populations.population import Population, weighted_mean
from gemello.domains.heart.populations.weights import wilson

DOSES = (1.0, 3.0, 10.0, 30.0)  # x Cmax
BEATS = 150  # with the drug, as Passini 2017
LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dose:
    """At one dose (multiple of Cmax, nM). cells: all of them; abnormal: of these, by number; share: weighted, with Wilson's
    interval for the effective number of cells; change: weighted mean ΔAPD90 of the normal cells, ms, with its interval."""

    multiple: float
    concentration: float
    cells: int
    abnormal: int
    share: float
    share_low: float
    share_high: float
    change: float
    change_low: float
    change_high: float


@dataclass(frozen=True, eq=False)
class Response:
    """One sex and one drug. doses: control (0) first; apd90: (doses, cells) ms; abnormal: (doses, cells)."""

    sex: str
    drug: str
    doses: tuple[Dose, ...]
    apd90: Floats
    abnormal: NDArray[np.bool_]


def respond(
    population: Population,
    drug: Drug,
    model: CellModel,
    *,
    multiples: Sequence[float] = DOSES,
    herg: str = "auto",
    pacer: Pacer = pace,
) -> Response:
    """The population without drug and at `multiples` of its Cmax. herg: as in `effect`. Raises DataError, UnsupportedError."""
    population.of(model)
    if not multiples or not all(np.isfinite(m) and m > 0 for m in multiples):
        raise DataError("impossible doses", column="doses", value=tuple(multiples), remedy="give multiples of Cmax above 0")
    cells, several = population.cells, len(multiples)
    base = {n: np.tile(v, several) for n, v in population.parameters.items()}
    at = np.repeat(np.asarray(multiples, float), cells) * drug.cmax
    values = {**base, **effect(drug, at, model, herg=herg, base=base)}
    start = model.state_type(*(np.tile(v, several) for v in population.start(model)))
    found = markers_of(pacer(model, values, cycle_length=population.cycle_length, beats=BEATS, state=start))
    apd = np.concatenate([population.markers["apd90"][None], found["apd90"].reshape(several, cells)])
    bad = np.concatenate([abnormal(population.markers)[None], abnormal(found).reshape(several, cells)])
    doses = tuple(
        _dose(m, m * drug.cmax, population, apd[k], apd[0], bad[k], bad[0]) for k, m in enumerate((0.0, *map(float, multiples)))
    )
    return Response(population.sex, drug.name, doses, apd, bad)


def _dose(
    multiple: float, concentration: float, p: Population, apd: Floats, control: Floats, bad: NDArray[np.bool_], before: Any
) -> Dose:
    share = float(p.weights @ bad)
    change, error = weighted_mean(np.where(bad | before, np.nan, apd - control), p.weights)
    half = float(norm.ppf(0.5 + 0.5 * LEVEL)) * error
    low, high = wilson(share, p.effective, LEVEL)
    return Dose(multiple, concentration, p.cells, int(bad.sum()), share, low, high, change, change - half, change + half)
