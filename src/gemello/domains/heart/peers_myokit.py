"""Myokit (CVODES), the peer of `benchmark` for populations of cells: written as its users would write it.

Myokit is Clerx M. et al., Prog Biophys Mol Biol 2016;120:100. It takes the published CellML file, compiles it with a C compiler
and SUNDIALS, and simulates one cell after another; two processes do so side by side.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PERIOD = 1000.0  # ms
GRID = 0.1  # ms, of the action potential whose duration is measured
_INITIAL_WAIT = 0.2  # s, long enough that each worker answers

_worker: Any = None


class Cell:
    """One compiled cell, paced at 1 Hz by its file's own pulse. currents: those whose conductances are scaled."""

    def __init__(self, file: Path, currents: Sequence[str], tolerance: float) -> None:
        import myokit  # noqa: PLC0415  (an extra)
        from myokit.formats.cellml import CellMLImporter  # noqa: PLC0415

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = CellMLImporter().model(str(file))
        amplitude, duration = (model.get(f"membrane.i_Stim_{n}").eval() for n in ("Amplitude", "PulseDuration"))
        pulse = model.get("membrane.Istim")
        pulse.set_rhs(0)
        pulse.set_binding("pace")  # as an event: an adaptive solver would step over the file's condition on the time
        train = myokit.pacing.blocktrain(PERIOD, duration, level=amplitude)
        self.base = {name: float(model.get(name).eval()) for name in (_conductance(model, c) for c in currents)}
        self.simulation = myokit.Simulation(model, train)
        self.tolerance = tolerance
        self.nothing = myokit.LOG_NONE

    def run(self, factors: Floats, beats: int) -> None:
        """`beats` beats from the published state, nothing kept. factors: of the conductances."""
        self._begin(factors, self.tolerance)
        self.simulation.run(beats * PERIOD, log=self.nothing)

    def apd90(self, factors: Floats, beats: int, tolerance: float | None) -> float:
        """APD90 (ms) of the last beat; with the tolerance of the timed runs, or another."""
        self._begin(factors, tolerance or self.tolerance)
        if beats > 1:
            self.simulation.run((beats - 1) * PERIOD, log=self.nothing)
        log = self.simulation.run(PERIOD, log=["membrane.v"], log_interval=GRID)
        return duration90(np.asarray(log["membrane.v"]), GRID)

    def _begin(self, factors: Floats, tolerance: float) -> None:
        self.simulation.reset()
        self.simulation.set_tolerance(tolerance, tolerance)
        for (name, value), factor in zip(self.base.items(), factors, strict=True):
            self.simulation.set_constant(name, value * factor)


def _conductance(model: Any, current: str) -> str:
    """The constant that scales a current, named alike in the files of these cells: INaL.GNaL_b, or INa.GNa; ICaL.PCa_b."""
    stem = re.sub("^I", "", current)
    names = [f"{current}.{n}" for n in (f"G{stem}_b", f"G{stem}", f"P{stem.removesuffix('L')}_b")]
    return next(n for n in names if model.has_variable(n) and model.get(n).is_literal())


def duration90(voltage: Floats, step: float) -> float:
    """APD90 (ms) of a beat (points,) that begins at rest, `step` ms apart: from the steepest rise to 90 % of peak − rest."""
    top = int(np.argmax(voltage))
    level = voltage[0] + 0.1 * (voltage[top] - voltage[0])
    below = np.flatnonzero(voltage[top:] <= level)
    if not len(below) or not top:
        return float("nan")
    i = top + int(below[0])
    crossing = i - (level - voltage[i]) / (voltage[i - 1] - voltage[i])
    return float((crossing - np.argmax(np.diff(voltage[: top + 1])) - 0.5) * step)


# ---- processes -----------------------------------------------------------------------------------------------------
def _start(file: Path, currents: Sequence[str], tolerance: float) -> None:
    global _worker  # noqa: PLW0603  (one compiled cell in each worker process)
    _worker = Cell(file, currents, tolerance)


def _ready(_: int) -> None:
    time.sleep(_INITIAL_WAIT)


def _run(task: tuple[Floats, int]) -> None:
    _worker.run(*task)


def _apd90(task: tuple[Floats, int, float | None]) -> float:
    return float(_worker.apd90(*task))


class Cells:
    """A cell's file in `processes` worker processes, compiled before any timing.

    currents: names such as IKr; `__call__` and `apd90` take factors (cells, currents) of their conductances. tolerance: relative
    and absolute, of CVODES. Raises whatever Myokit and the compiler raise where the cell cannot be compiled.
    """

    def __init__(self, file: Path, currents: Sequence[str], tolerance: float = 1e-6, processes: int = 2) -> None:
        self.pool = ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_start, initargs=(file, tuple(currents), tolerance)
        )
        try:
            list(self.pool.map(_ready, range(processes * 2)))
        except BaseException:
            self.close()
            raise

    def __call__(self, factors: Floats, beats: int) -> None:
        """Pace all cells for `beats` beats, one after another in each process."""
        list(self.pool.map(_run, [(f, beats) for f in factors]))

    def apd90(self, factors: Floats, beats: int, tolerance: float | None = None) -> Floats:
        """APD90 (cells,) in ms of the last beat; not for timing, for it keeps the whole beat."""
        return np.array(list(self.pool.map(_apd90, [(f, beats, tolerance) for f in factors])))

    def close(self) -> None:
        """End the processes."""
        self.pool.shutdown(cancel_futures=True)
