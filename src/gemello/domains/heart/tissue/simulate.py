"""The monodomain equation in time: cells and diffusion take turns (Godunov splitting), both explicit, on all devices.

A step of dt is: every cell by one Rush-Larsen step with the potential that it has, then diffusion by forward Euler, in as many
parts as its stability asks for. Strang's splitting of the same parts differs by half a cell step at the beginning and at the end
only, so that its activation times are those of Godunov's within dt/2; with parts of first order the whole is of first order in
dt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError, SolverError
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.tissue.diffusion import Diffusion
from gemello.domains.heart.tissue.ecg import lead_field
from gemello.domains.heart.tissue.grid import Bools, Floats, Grid, cable
from gemello.domains.heart.tissue.parts import Parts
from gemello.domains.heart.tissue.program import program
from gemello.engine.lanes import precision


class Pulse(NamedTuple):
    """A stimulus: nodes (nodes,) bool; start, duration (ms); amplitude (uA/uF, negative depolarises; None: the cell's own); given
    `times` times, one every `every` ms. Times are rounded to whole steps."""

    nodes: ArrayLike
    start: float = 0.0
    duration: float | None = None
    amplitude: float | None = None
    every: float = 1000.0
    times: int = 1


@dataclass(frozen=True, eq=False)
class Tissue:
    """Cells on a grid. parameters: values that differ from the cell's table, for all nodes or one for each (nodes,). state: where
    it starts, {state: value or (nodes,)}; what is not named starts at the cell's own initial state. front (1/√ms): see
    `Diffusion`; None: that of the cell as its table has it (`front_speed`); 0: no fitting. order: see `Diffusion`."""

    grid: Grid
    cell: CellModel
    parameters: Mapping[str, float | Floats] = field(default_factory=dict)
    state: Mapping[str, float | Floats] = field(default_factory=dict)
    front: float | None = None
    order: int = 4


@dataclass(frozen=True, eq=False)
class Course:
    """What `simulate` returns. Times in ms, potentials in mV; NaN where a node was not reached.

    activation (nodes,): first crossing of the threshold upwards, interpolated. repolarisation (nodes,): first crossing of
    `repolarised` downwards after that. ecg (electrodes, ecg_times). snapshots {time: (nodes,)}. state {name: (nodes,)} at `time`.
    """

    activation: Floats
    repolarisation: Floats
    ecg_times: Floats
    ecg: Floats
    snapshots: Mapping[float, Floats]
    state: Mapping[str, Floats]
    time: float
    steps: int


def simulate(
    tissue: Tissue, duration: float, pulses: Sequence[Pulse], *, dt: float = 0.01, dtype: str = "float64",
    electrodes_mm: ArrayLike | None = None, bath: float | None = None, ecg_every: float = 1.0, snapshots: Sequence[float] = (),
    threshold: float = 0.0, repolarised: float = -70.0, until_active: bool = False,
    progress: Callable[[float, float], None] | None = None,
) -> Course:  # fmt: skip
    """Solve for `duration` ms in steps of dt.

    electrodes_mm (electrodes, 3): where a pseudo-ECG is taken, every `ecg_every` ms (see `lead_field` for `bath`). snapshots:
    times at which all potentials are kept. until_active: stop as soon as every node was activated. progress(time, active) is
    called every `ecg_every` ms, `active` being the part of the nodes activated. float32 is three times as fast; it moves
    activation times by less than a step. Raises DataError for times that are no multiples of dt, SolverError where potentials are
    not finite.
    """
    with precision(dtype):
        return _Run(tissue, pulses, dt, dtype, electrodes_mm, bath, threshold, repolarised).course(
            duration, ecg_every, snapshots, until_active, progress
        )


class _Run:
    """Arrays on the devices and the compiled program of one simulation."""

    def __init__(
        self, tissue: Tissue, pulses: Sequence[Pulse], dt: float, dtype: str, electrodes_mm: ArrayLike | None, bath: float | None,
        threshold: float, repolarised: float,
    ) -> None:  # fmt: skip
        self.tissue, self.dt, self.real = tissue, dt, np.dtype(dtype)
        grid, self.nodes = tissue.grid, tissue.grid.size
        diffusion = operator(tissue)
        stencils = diffusion.factors()[::-1]
        strides = np.cumprod([1, *(n + 1 for n in grid.shape[:0:-1])])[::-1]
        shifts = tuple(tuple(int(s) for s in stencil.offsets @ strides) for stencil in stencils)
        self.parts = Parts.of(self.nodes, int(np.prod(np.array(grid.shape) + 1)), max(abs(s) for at in shifts for s in at))
        lanes, scalars = _parameters(tissue)
        substeps = max(1, int(np.ceil(dt * diffusion.fastest / 1.6)))
        self.program = program(tissue.cell, self.parts.devices, self.parts.block, shifts, substeps, len(pulses))
        leads = np.zeros((0, self.nodes)) if electrodes_mm is None else lead_field(grid, electrodes_mm, bath)
        at, real = grid.nodes @ strides, self.real
        self.constants = {
            "stencils": [self.parts.weights(s.weights.astype(real), at) for s in stencils],
            "lanes": {n: self.parts.nodes(v.astype(real)) for n, v in lanes.items()},
            "sites": self.parts.nodes(_sites(pulses, self.nodes).astype(real), 0.0),
            "leads": self.parts.nodes(leads.astype(real), 0.0),
            **self.parts.indices(at),
        }
        self.shared = {
            "scalars": {n: real.type(v) for n, v in scalars.items()},
            "pulses": _timing(pulses, tissue.cell, dt, real),
            "dt": real.type(dt),
            "levels": (real.type(threshold), real.type(repolarised)),
        }
        unset = np.full(self.nodes, np.nan, real)
        self.carry = (
            [self.parts.nodes(v.astype(real)) for v in _start(tissue)], self.parts.nodes(unset), self.parts.nodes(unset)
        )  # fmt: skip

    def _read(self, v: Any) -> Floats:
        return np.asarray(v)[..., : self.nodes].astype(np.float64)

    def course(
        self, duration: float, every: float, snapshots: Sequence[float], until_active: bool,
        progress: Callable[[float, float], None] | None,
    ) -> Course:  # fmt: skip
        total, stride = self._steps(duration, "duration"), max(1, self._steps(every, "ecg_every"))
        shots = {self._steps(t, "snapshots"): t for t in snapshots}
        if shots and max(shots) > total:
            raise DataError(f"after the end at {duration:g} ms", column="snapshots", value=max(snapshots), remedy="run longer")
        stops = sorted({*range(0, total, stride), *shots, total})
        step, kept, potentials, times = 0, {}, [], []
        for stop in stops:
            self.carry, ecg = self.program(self.carry, self.constants, self.shared, np.int32(step), np.int32(stop))
            step = stop
            if stop in shots:
                kept[shots[stop]] = self._read(self.carry[0][self._v])
            if stop % stride and stop != total:
                continue
            if stop % stride == 0:
                potentials.append(np.asarray(ecg, np.float64))
                times.append(stop * self.dt)
            active = self._check(step)
            if progress:
                progress(step * self.dt, active)
            if until_active and active == 1.0:
                break
        cell, (y, up, down) = self.tissue.cell, self.carry
        return Course(
            self._read(up) * self.dt, self._read(down) * self.dt, np.array(times), np.array(potentials).T, kept,
            {n: self._read(v) for n, v in zip(cell.states, y, strict=True)}, step * self.dt, step,
        )  # fmt: skip

    @property
    def _v(self) -> int:
        return list(self.tissue.cell.states).index(self.tissue.cell.voltage)

    def _check(self, step: int) -> float:
        """Part of the nodes activated so far. Raises SolverError where a potential is not finite."""
        v = np.asarray(self.carry[0][self._v])[: self.nodes]
        if not np.isfinite(v).all():
            where = int(np.flatnonzero(~np.isfinite(v))[0])
            raise SolverError(
                f"node {where} at {self.tissue.grid.positions[where]} mm, before {step * self.dt:g} ms: the potential is not"
                f" finite; take steps smaller than {self.dt:g} ms"
            )
        return float(np.isfinite(np.asarray(self.carry[1])[: self.nodes]).mean())

    def _steps(self, t: float, what: str) -> int:
        steps = round(t / self.dt)
        if not (t >= 0.0 and abs(steps * self.dt - t) < 1e-6 * max(self.dt, t)):
            raise DataError(f"is no multiple of the step of {self.dt:g} ms", column=what, value=t, remedy="give one")
        return steps


def operator(tissue: Tissue) -> Diffusion:
    """The operator that `simulate` uses."""
    front = 0.0 if tissue.order == 2 else tissue.front
    return Diffusion(tissue.grid, front_speed(tissue.cell) if front is None else front, tissue.order)


@cache
def front_speed(cell: CellModel) -> float:
    """Conduction velocity over √diffusivity (1/√ms) of the cell at its initial state, on a fine cable (to 0.3 %)."""
    if cell.name.startswith("tt2006"):
        return 1.99  # measured as below
    unit = 1.4  # S/m, which is 1 mm²/ms
    line = cable(30.0, 0.15, unit)
    x = line.positions[:, 0]
    start = Pulse(x <= 2.0, 0.0, 2.0, -100.0)
    course = simulate(Tissue(line, cell, front=0.0), 60.0, [start], dt=0.005, until_active=True)
    first, last = (course.activation[line.nearest([at])] for at in (15.0, 24.0))
    if not last > first:
        raise SolverError(f"{cell.name}: no wave runs along a cable in 60 ms; give Tissue a front of your own")
    return float(9.0 / (last - first))


def _parameters(tissue: Tissue) -> tuple[dict[str, Floats], dict[str, float]]:
    """Parameters that each node has for itself, and those that all share."""
    table = {n: tissue.cell.parameters[n].value for n in tissue.cell.individual_units()}
    unknown = set(tissue.parameters) - set(table)
    if unknown:
        raise DataError(
            f"{tissue.cell.name} has no such parameter", column="parameters", value=sorted(unknown)[0], remedy="see its table"
        )
    given = {n: np.asarray(v, float) for n, v in tissue.parameters.items()}
    lanes = {n: _sized(v, n, tissue.grid.size) for n, v in given.items() if v.ndim}
    return lanes, table | {n: float(v) for n, v in given.items() if not v.ndim}


def _sized(v: Floats, name: str, nodes: int) -> Floats:
    if v.shape != (nodes,):
        raise DataError(
            f"has the shape {v.shape}; the grid has {nodes} nodes", column=name, remedy="give one value, or one per node"
        )
    return v


def _start(tissue: Tissue) -> list[Floats]:
    """State of every node, in the order of the cell's states."""
    cell, nodes = tissue.cell, tissue.grid.size
    lanes, scalars = _parameters(tissue)
    unknown = set(tissue.state) - set(cell.states)
    if unknown:
        raise DataError(f"{cell.name} has no such state", column="state", value=sorted(unknown)[0], remedy=", ".join(cell.states))
    own = cell.initial(cell.individual_type(**{**scalars, **lanes}))
    values = {**own._asdict(), **tissue.state}
    return [np.array(np.broadcast_to(np.asarray(values[n], float), (nodes,))) for n in cell.states]


def _sites(pulses: Sequence[Pulse], nodes: int) -> Bools:
    """Where each pulse is given, (pulses, nodes)."""
    for k, q in enumerate(pulses):
        if np.shape(q.nodes) != (nodes,) or not np.any(q.nodes):
            raise DataError(
                f"pulse {k + 1} marks {int(np.sum(q.nodes))} of {np.shape(q.nodes)} nodes; the grid has {nodes}",
                column="pulses",
                remedy="mark at least one node of the grid",
            )
    return np.array([np.asarray(q.nodes, bool) for q in pulses]).reshape(len(pulses), nodes)


def _timing(pulses: Sequence[Pulse], cell: CellModel, dt: float, real: np.dtype[Any]) -> tuple[NDArray[Any], ...]:
    """Start, length and period of each pulse in steps, how often, and its amplitude."""
    own = cell.stimulus
    rows = [
        (
            round(q.start / dt),
            round((own.duration if q.duration is None else q.duration) / dt),
            max(1, round(q.every / dt)),
            q.times,
        )
        for q in pulses
    ]
    amplitudes = [own.amplitude if q.amplitude is None else q.amplitude for q in pulses]
    return (*np.array(rows, np.int32).reshape(len(pulses), 4).T, np.array(amplitudes, real))
