"""Levels that cannot be what they are said to be: measured before there was anything to measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.engine.lanes import precision
from gemello.model.contract import Model
from gemello.model.individuals import residual_sd
from gemello.model.population import PopulationParameters
from gemello.model.schedule import DOSE, RESET_AND_DOSE, Schedule, Subject
from gemello.model.simulate import simulate

NOISE = 2.0  # standard deviations: a level above them is not taken for noise where nothing can be there


def before_any_dose(model: Model, parameters: PopulationParameters, subjects: Sequence[Subject]) -> list[tuple[str, ...]]:
    """What to say of each subject's levels from before its first dose, of a model that starts empty; () where there are none.

    A level of 0 (or one known to be below a limit) is a blank sample. One that the residual error explains is told of. Raises
    DataError for any other. A model that predicts anything but 0 then has a baseline, and its levels are as good as others.
    """
    said: list[tuple[str, ...]] = [()] * len(subjects)
    if not any(q.kind == "dose" for q in model.ports):
        return said
    early = [_early(model, s.schedule) for s in subjects]
    some = [i for i, e in enumerate(early) if e.any()]
    if not some:
        return said
    until = [int(np.flatnonzero(early[i])[-1]) + 1 for i in some]
    bare = [
        Subject(subjects[i].id, subjects[i].schedule.without_values().take(np.arange(n)))
        for i, n in zip(some, until, strict=True)
    ]
    found = simulate(model, bare, parameters.theta)
    for row, i in enumerate(some):
        s = subjects[i].schedule
        for k in np.flatnonzero(early[i]):
            output = model.outputs[int(s.output[k])]
            if abs(found.outputs[output.name][row, k]) > 1e-9 * abs(s.value[k]):
                continue
            unit = f"{output.unit} " if output.unit != "1" else ""
            what = f"{s.value[k]:g} {unit}of {output.name} at {s.time[k]:g} {model.time_unit}, before any dose"
            if s.value[k] > NOISE * _noise(model, int(s.output[k]), parameters):
                raise DataError(
                    f"subject {subjects[i].id}: {what}, where {model.name} knows of nothing", row=int(s.row[k]) or None,
                    column="DV", value=s.value[k],
                    remedy="add the doses given before it, correct its time, or give a blank sample as 0",
                )  # fmt: skip
            said[i] = (*said[i], f"{what}: taken as noise of a blank sample; if a dose was given before it, add that")
    return said


def _early(model: Model, s: Schedule) -> NDArray[np.bool_]:
    """(records,) measured values above 0 before anything has been given."""
    kinds = np.array([q.kind == "dose" for q in model.ports])
    port = np.clip(np.maximum(s.port, 1) - 1, 0, len(kinds) - 1)
    given = ((s.evid == DOSE) | (s.evid == RESET_AND_DOSE)) & kinds[port] & ((s.amount > 0) | (s.rate > 0))
    first = int(np.argmax(given)) if given.any() else len(s)
    known = s.measured & (s.output >= 0) & (s.output < len(model.outputs))
    return known & (s.value > 0) & (s.censored <= 0) & (np.arange(len(s)) < first)


def _noise(model: Model, output: int, parameters: PopulationParameters) -> float:
    """Standard deviation of a measured value where the prediction is 0."""
    r = model.outputs[output].residual
    if r is None or r.form == "lognormal" or r.sd is not None:
        return 0.0
    with precision():
        return float(residual_sd(model, output, np.float64(0.0), parameters.sigma))
