"""The two ways in which the risk room paces cells: to markers, and to action potentials. Nothing else here touches the solver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.steady import steady

CYCLE = 2000.0  # ms
BEATS = 1000
GRID = 1.0  # ms, of action potentials
TOLERANCE = 1e-4  # qNet within 5e-5 C/F of FDA's (validate)
ROUGH = 1e-3  # within 1e-4 C/F, a thirtieth of the samples' spread, in a third of the time

Floats = NDArray[np.float64]


def paced(model: CellModel, parameters: Mapping[str, Floats]) -> Mapping[str, Any]:
    """Markers of each lane at the steady state of 1,000 beats at CL 2000, and `failed`."""
    return _markers(model, parameters, TOLERANCE)


def sampled(model: CellModel, parameters: Mapping[str, Floats]) -> Mapping[str, Any]:
    """The same of joint samples, whose spread hides what a larger tolerance costs."""
    return _markers(model, parameters, ROUGH)


def _markers(model: CellModel, parameters: Mapping[str, Floats], tolerance: float) -> Mapping[str, Any]:
    found = steady(model, parameters, cycle_length=CYCLE, beats=BEATS, tolerance=tolerance)
    return {**found.biomarkers, "failed": found.failed}


def traced(model: CellModel, parameters: Mapping[str, Floats]) -> Mapping[str, Any]:
    """The same with `time` (points,) in ms and `voltage` (lanes, points) in mV of the last beat, and `bound` (lanes,), the share
    of hERG channels that hold a drug at its end."""
    found = steady(model, parameters, cycle_length=CYCLE, beats=BEATS, tolerance=TOLERANCE, trace=GRID)
    assert found.trace is not None
    marks = found.biomarkers
    time = np.concatenate([[0.0], found.trace.time])
    voltage = np.concatenate([np.asarray(marks["rest"])[:, None], found.trace.voltage], axis=1)  # a beat starts at its rest
    bound = sum((np.asarray(getattr(found.state, n), float) for n in model.bound), np.zeros(found.lanes))
    return {**marks, "failed": found.failed, "time": time, "voltage": voltage, "bound": bound}


def as_fda(model: CellModel, parameters: Mapping[str, Floats]) -> Mapping[str, Any]:
    """`traced`, with APD50 and APD90 as FDA's program has them."""
    out = traced(model, parameters)
    return {**out, "apd50": grid_duration(out["voltage"], 0.5), "apd90": grid_duration(out["voltage"], 0.9)}


def grid_duration(voltage: Floats, share: float) -> Floats:
    """Duration (lanes,) in ms from the action potential on a grid of 1 ms, (lanes, points), as in FDA's CiPA program.

    From the left point of the steepest interval of the upstroke to the first point after the peak that is at or below
    Vrest + (1 − share)·(Vmax − Vrest), Vrest being the least potential before the peak. NaN where there is none.
    """
    out = []
    for v in np.asarray(voltage, float):
        top = int(np.argmax(v))
        rest = float(v[: top + 1].min())
        below = v[top:] <= rest + (1.0 - share) * (v[top] - rest)
        start = int(np.argmax(np.diff(v[: top + 1]))) if top else 0
        out.append(float(top + np.argmax(below) - start) * GRID if below.any() else np.nan)
    return np.array(out)
