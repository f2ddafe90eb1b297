"""ΔAPD90 of human ventricular trabeculae ex vivo under nine drugs, and what cell models say of it (Barral et al. 2024).

29 mean changes (three to four concentrations of a drug), each with the block of IKr and ICaL at that concentration (static Hill
curves of the CiPA data set), and the predictions of eleven published models at those blocks. The models were paced at 1 Hz for
1,500 s with K⁺ 4, Na⁺ 148.35 and Ca²⁺ 1.8 mM outside, as in the bath; ΔAPD90 is the change from the same model without block.
`predictions` does the same with the cells here. Nothing is tuned to these data: each cell is the published one.

The answer is uneven, and the rows say so. Ten Tusscher 2006 (endo) meets the aim, an RMSE at most the median of the eleven;
ToR-ORd and the CiPA cell, which this package prefers elsewhere, do not, as they did not when published: where ICaL is blocked
beside IKr they lengthen far more than the tissue does. That ten Tusscher 2006 does better was known from its published
prediction, so the row is no test on unseen data.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemello.base.reference import Check, check, rows
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.cells.cipa import model as cipa
from gemello.domains.heart.cells.ten_tusscher import model as ten_tusscher
from gemello.domains.heart.cells.torord import model as torord
from gemello.domains.heart.pacing import pace

FOLDER = "exvivo_apd90"
BATH = {"ko": 4.0, "nao": 148.35, "cao": 1.8}  # mM
CYCLE = 1000.0  # ms
BEATS = 1500  # as published; ToR-ORd under strong block of IKr drifts on (potassium, chloride) and lengthens for longer still
AGREES = 2.0  # ms: APD90 here begins at the upstroke and ends by this beat's peak, there by the 95th percentile of the potential
Floats = NDArray[np.float64]


class Tissue(NamedTuple):
    """drug: of each row; ikr, ical: fraction blocked, delta: mean ΔAPD90 in ms, error: its standard error in ms, all (rows,)."""

    drug: tuple[str, ...]
    ikr: Floats
    ical: Floats
    delta: Floats
    error: Floats


class Rival(NamedTuple):
    """A cell of this package, the name of its published prediction, and how near the two must be (rms, ms)."""

    model: CellModel
    published: str
    agrees: float


MEETS = "TT06_Endo"
RIVALS = (
    Rival(ten_tusscher.endo, "TT06_Endo", AGREES),
    Rival(torord.endo, "Tomek_2020_Endo", 6.0),
    Rival(cipa.cipa, "ORd_CiPA", AGREES),
)


def tissue(folder: Path) -> Tissue:
    """The measurements, with the block of the CiPA Hill curves. folder: the heart's reference data."""
    table = rows(folder / FOLDER / "Data_for_benchmark_-_CiPA.csv")
    part = {n: np.array([float(r[n]) for r in table]) for n in ("IKr block", "ICaL block", "DAPD", "SEM")}
    return Tissue(tuple(r["Drug"] for r in table), *part.values())


def published(folder: Path) -> dict[str, Floats]:
    """ΔAPD90 (ms, (rows,)) that each of the eleven published models gives, by name."""
    files = sorted((folder / FOLDER / "predictions").glob("DAPD_*_-_CiPA.csv"))
    return {f.name.removeprefix("DAPD_").removesuffix(".mmt_-_CiPA.csv"): np.loadtxt(f) for f in files}


def rmse(predicted: Floats, observed: Floats) -> float:
    """Root mean square error over all rows, ms."""
    return float(np.sqrt(np.mean((predicted - observed) ** 2)))


def in_bath(model: CellModel) -> CellModel:
    """The cell with the bath's concentrations outside."""
    names = {p.name.lower(): p.name for p in model.parameters}
    bathed = copy.copy(model)
    bathed.parameters = model.parameters.with_values({names[n]: v for n, v in BATH.items()})
    return bathed


def predictions(model: CellModel, ikr: Floats, ical: Floats) -> Floats:
    """ΔAPD90 (ms, (rows,)) at the fractions of IKr and ICaL blocked; NaN where a cell did not repolarise."""
    cell = in_bath(model)
    scale: Mapping[str, Floats] = {"IKr": 1.0 - np.append(0.0, ikr), "ICaL": 1.0 - np.append(0.0, ical)}
    values = {cell.conductances[c]: cell.parameters[cell.conductances[c]].value * v for c, v in scale.items()}
    apd = pace(cell, values, cycle_length=CYCLE, beats=BEATS).biomarkers["apd90"]
    return np.asarray(apd[1:] - apd[0], float)


def ranking(folder: Path) -> list[tuple[str, float]]:
    """The published models with their RMSE (ms), the smallest first."""
    observed = tissue(folder).delta
    return sorted(((n, rmse(p, observed)) for n, p in published(folder).items()), key=lambda r: r[1])


def rank(error: float, others: list[tuple[str, float]]) -> int:
    """Place of an RMSE among those of others, from 1."""
    return 1 + sum(o < error for _, o in others)


def checks(folder: Path) -> Iterator[Check]:
    """Each cell against its published prediction and against the tissue. folder: the heart's reference data. Some CPU minutes."""
    data, theirs, order = tissue(folder), published(folder), ranking(folder)
    median = float(np.median([e for _, e in order]))
    for cell, name, agrees in RIVALS:
        ours = predictions(cell, data.ikr, data.ical)
        error, source = rmse(ours, data.delta), f"Barral et al. 2024, prediction {name}"
        what = f"{cell.name}, ΔAPD90 ex vivo"
        yield check(f"{what}: rms difference from its published prediction, ms", rmse(ours, theirs[name]), 0.0, agrees, source)
        yield check(f"{what}: RMSE over 29 rows, ms", error, rmse(theirs[name], data.delta), agrees, source)
        others = [o for o in order if o[0] != name]
        place = rank(rmse(theirs[name], data.delta), others)
        yield check(f"{what}: place among the eleven", rank(error, others), place, 0.0, f"{source}: place of the published one")
        if name == MEETS:
            words = f"median RMSE of the eleven published models, {median:.1f} ms"
            yield check(f"{what}: RMSE above the median of the eleven, ms", max(0.0, error - median), 0.0, 0.0, words)
