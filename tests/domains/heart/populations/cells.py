"""A cell that answers at once: its APD90 follows from its conductances by a formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.pacing import Paced
from gemello.domains.heart.populations.measured import MARKERS, Measured


def pacer(model: CellModel, parameters: dict[str, Any], *, state: Any = None, **options: Any) -> Paced:
    """APD90 = 290 / IKr factor^0.3 · ICaL factor^0.3 ms; an afterdepolarisation below a tenth of IKr."""
    f = {c: np.asarray(parameters[n] / model.parameters[n].value) for c, n in model.conductances.items() if n in parameters}
    apd = 290.0 * f["IKr"] ** -0.3 * f.get("ICaL", 1.0) ** 0.3
    cells, one = apd.size, np.ones(apd.size)
    table = {
        "apd90": apd, "peak_time": 10.0 * one, "peak": 25.0 + 10.0 * np.log(f.get("INa", one)),
        "rest": -86.0 - 5.0 * np.log(f.get("IK1", one)), "ead": (f["IKr"] < 0.1).astype(float), "repolarised": one,
    }  # fmt: skip
    values = model.state_type(*(np.full(cells, float(k)) for k in range(len(model.states))))
    return Paced(model, np.array([1000.0]), 1, table, values, np.zeros(cells, bool), one)


def measured(traces: int = 58) -> Measured:
    """Made-up action potentials of independent markers."""
    random = np.random.default_rng(0)
    values = (random.normal(280, 30, traces), random.normal(25, 3, traces), random.normal(-86, 2, traces))
    return Measured(dict(zip(MARKERS, values, strict=True)), np.zeros(0), {q: np.zeros(0) for q in ("q10", "q90", "median")})
