"""Action potentials at the steady state, for the report: control and each dose of each drug."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.drugs.drug import Drug
from gemello.domains.heart.risk import solver
from gemello.domains.heart.risk.score import DOSES, cipa_cell, overrides

Floats = NDArray[np.float64]
Tracer = Callable[[CellModel, Mapping[str, Floats]], Mapping[str, Any]]  # gives markers, `time` and `voltage`


@dataclass(frozen=True, eq=False)
class Traces:
    """Action potentials of one drug. time: (points,) ms. voltage: (1 + doses, points) mV, apd90: (1 + doses,) ms, control first;
    qnet: of the control, C/F. bound: (1 + doses,) share of hERG channels that hold a drug at the end of the beat."""

    time: Floats
    voltage: Floats
    apd90: Floats
    qnet: float
    bound: Floats


def traces(
    drugs: Sequence[Drug], *, doses: Sequence[float] = DOSES, model: CellModel | None = None, tracer: Tracer | None = None
) -> list[Traces]:
    """Control and every dose (multiples of Cmax) of the best values of each drug, in one run."""
    cell = cipa_cell() if model is None else model
    multiples = np.array([0.0, *doses])
    each = [overrides(d, multiples, np.zeros(0, np.int64), cell) for d in drugs]
    names = sorted({n for e in each for n in e} | {cell.conductances["INa"]})
    lanes = len(multiples)
    default = {n: np.full(lanes, float(cell.parameters[n].value)) for n in names}
    table = {n: np.concatenate([e.get(n, default[n]) for e in each]) for n in names}
    out = (solver.traced if tracer is None else tracer)(cell, table)
    time = np.asarray(out["time"], float)
    parts = [slice(k * lanes, (k + 1) * lanes) for k in range(len(drugs))]
    voltage, apd90, qnet, bound = (np.asarray(out[n], float) for n in ("voltage", "apd90", "qnet", "bound"))
    return [Traces(time, voltage[p], apd90[p], float(qnet[p][0]), bound[p]) for p in parts]
