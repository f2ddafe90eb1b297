"""Paced cells: many at once, each with parameters of its own, to a number of beats (`pace`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gemello.base.errors import ModelError
from gemello.domains.heart.biomarkers import EAD_RISE, LEVELS, UNREPOLARISED, WATCHED, Biomarkers, Marks
from gemello.domains.heart.cells.cell import CellModel
from gemello.engine import paced
from gemello.engine.lanes import cut, map_blocks, precision
from gemello.engine.paced import Accuracy, Drive, Point
from gemello.engine.solvers.rush_larsen import Coupled

BLOCK = 64  # lanes of a block; its states stay in a core's cache
TOLERANCE = 1e-3  # APD90 within 0.1 ms of a tight run (tests)
FIRST = 0.005  # ms: the step after an edge of the stimulus
MOST_POINTS = 1_000_000  # of a trace
LONGEST = 1.0  # ms: beyond it the exchange of ions between cytosol and subspace (2 ms) is lost, and sodium drifts
Values = Mapping[str, Any]


class Trace(NamedTuple):
    """The last beat on a grid: time (points,) in ms from its start; voltage in mV and calcium in mM, (lanes, points)."""

    time: np.ndarray
    voltage: np.ndarray
    calcium: np.ndarray


@dataclass(frozen=True)
class Paced:
    """Cells after their beats. biomarkers: (lanes,) each, of the last beat; ead and repolarised are of the last quarter of the
    beats: any afterdepolarisation, all repolarised. state: at the end; failed: lanes that could not go on (their biomarkers are
    NaN); steps: steps per beat, (lanes,)."""

    model: CellModel
    cycle_length: np.ndarray
    beats: int
    biomarkers: dict[str, np.ndarray]
    state: Any
    failed: np.ndarray
    steps: np.ndarray
    trace: Trace | None = None

    @property
    def lanes(self) -> int:
        """Number of cells."""
        return int(self.failed.size)


def pace(
    model: CellModel,
    parameters: Values | None = None,
    *,
    cycle_length: Any = 1000.0,
    beats: int = 1,
    state: Any = None,
    dtype: str = "float64",
    tolerance: float = TOLERANCE,
    trace: float | None = None,
    block: int = BLOCK,
    room: int = 0,
) -> Paced:
    """Pace cells of `model` for `beats` beats at `cycle_length` ms.

    parameters: name -> value or (lanes,) values in place of the table's. state: State with entries (lanes,) to start from; the
    published initial state by default. tolerance: error of a step in units of the states' scales. trace: the last beat is given
    on a grid of so many ms. room: cells for which the program is made, where there are fewer now (each size is compiled anew).
    Raises ModelError for an unknown parameter or one out of its range.
    """
    if dtype not in ("float64", "float32") or not 0.0 < values(model, "tolerance", tolerance)[0] <= 1.0:
        raise ModelError(
            f"{model.name}: tolerance {tolerance:g} in {dtype}; give a tolerance of 1e-5 to 1e-2 and float64 or float32"
        )
    if block < 1:
        raise ModelError(f"{model.name}: blocks of {block} cells; give at least 1")
    given = _checked(model, parameters or {}, cycle_length, beats)
    if state is not None:
        state = _state(model, state, {v.size for v in given.values()})
    lanes = max([v.size for v in given.values()] + [v.size for v in state or ()])
    period = given.pop("")
    if trace is not None and not 0 < values(model, "trace", trace)[0] <= period.max() <= MOST_POINTS * trace:
        raise ModelError(f"{model.name}: a trace every {trace} ms; give a step above 0, up to the cycle length, such as 1.0")
    with precision(dtype):
        kind = jnp.float64 if dtype == "float64" else jnp.float32
        shared, each = _split(model, given, lanes)
        each[""] = np.broadcast_to(period, lanes)
        if state is not None:
            each["state"] = tuple(np.broadcast_to(np.asarray(v), lanes) for v in state)
        places = max(lanes, room)
        size = min(block, _share(places))
        fill = _power(-(-places // size)) * size - lanes
        each["beats"] = np.full(lanes, float(beats))
        each = jax.tree.map(lambda v: np.concatenate([v, np.repeat(v[-1:], fill)]), each)
        each["beats"][lanes:] = 0.0  # those that fill up cost nothing
        shared |= {"tolerance": tolerance}
        points = round(float(period.max()) / trace) if trace else 0
        if trace:
            shared["trace"] = np.arange(1, points + 1) * trace
        shared, each = jax.tree.map(lambda v: np.asarray(v, kind), (shared, each))
        own = ("", "state", "beats")
        program = _program(model, tuple(sorted(n for n in each if n not in own)), state is not None, bool(trace))
        deal = _dealt(lanes + fill, size)
        out = map_blocks(program, shared, cut(jax.tree.map(lambda v: v[deal], each), lanes + fill, size))
        back = np.argsort(deal)[:lanes]
        return _result(model, period, beats, jax.tree.map(lambda v: v[back], out), trace, points)


def _dealt(lanes: int, block: int) -> np.ndarray:
    """An order of the lanes in which blocks go to the devices in turn. Those that only fill up stand last: else one device would
    have most of them, and be done long before the others."""
    blocks, devices = lanes // block, len(jax.devices())
    if blocks % devices:
        return np.arange(lanes)
    return np.arange(lanes).reshape(-1, devices, block).swapaxes(0, 1).ravel()


def _share(lanes: int) -> int:
    """No device idle while there are lanes. A power of two, as is the number of blocks: every shape is a program of its own."""
    return _power(max(8, -(-lanes // len(jax.devices()))))


def _power(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _checked(model: CellModel, parameters: Values, cycle_length: Any, beats: int) -> dict[str, np.ndarray]:
    """All values as arrays; "" is the cycle length. Raises ModelError."""
    check_beats(model, beats)
    given = {"": values(model, "cycle length", cycle_length)}
    if not np.all(np.isfinite(given[""]) & (given[""] >= 50.0)):
        raise ModelError(f"{model.name}: cycle length {cycle_length}; give at least 50 ms")
    for name, v in parameters.items():
        row = model.parameters[name]
        if name not in model.theta_type._fields:
            raise ModelError(
                f"{model.name}: {name} is fixed in the equations; give {', '.join(model.varied)} or other parameters"
            )
        given[name] = values(model, name, v)
        bad = ~((given[name] >= row.lower) & (given[name] <= row.upper) & np.isfinite(given[name]))
        if np.any(bad):
            raise ModelError(f"{model.name}: {name} = {given[name][bad][0]:g} {row.unit}; give {row.lower:g} to {row.upper:g}")
    sizes = {v.size for v in given.values()} - {1}
    if len(sizes) > 1:
        raise ModelError(f"{model.name}: parameters for {' and '.join(map(str, sorted(sizes)))} cells; give one number of cells")
    return given


def check_beats(model: CellModel, beats: int) -> None:
    """Raise ModelError unless `beats` is a whole number of at least 1."""
    if not isinstance(beats, int | np.integer) or beats < 1:
        raise ModelError(f"{model.name}: {beats} beats; give a whole number of at least 1")


def values(model: CellModel, name: str, value: Any) -> np.ndarray:
    """A number, or one for each cell, as (1,) or (lanes,). Raises ModelError."""
    try:
        out = np.atleast_1d(np.asarray(value, float))
    except (TypeError, ValueError):
        out = np.zeros(0)
    if out.ndim != 1 or not out.size:
        raise ModelError(f"{model.name}: {name} is {str(value)[:40]!r}; give a number, or a list of one for each cell")
    return out


def _state(model: CellModel, state: Any, sizes: set[int]) -> tuple[np.ndarray, ...]:
    """A state to start from as arrays; NaN may stand in a cell that failed before. Raises ModelError."""
    names = model.state_type._fields
    if isinstance(state, str) or len(state) != len(names):
        raise ModelError(f"{model.name}: a state of {len(state)} entries; give one for each of its {len(names)} states")
    out = tuple(values(model, f"state {n}", v) for n, v in zip(names, state, strict=True))
    if len((sizes | {v.size for v in out}) - {1}) > 1:
        raise ModelError(f"{model.name}: a state of other cells than the parameters; give one number of cells")
    return out


def _split(model: CellModel, given: dict[str, np.ndarray], lanes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters that all cells share, and those with a value for each. The conductances are always of the second kind, so that
    one program serves every drug and every population."""
    names = model.parameters.theta_names
    wide = {n for n, v in given.items() if v.size > 1} | (set(model.varied) & set(names))
    value = {n: given.get(n, np.array([model.parameters[n].value])) for n in names}
    shared = {n: value[n][0] for n in names if n not in wide}
    return shared, {n: np.broadcast_to(value[n], lanes) for n in names if n in wide}


@lru_cache(maxsize=64)
def _program(model: CellModel, wide: tuple[str, ...], from_state: bool, traced: bool) -> Callable[[Any, Any], Any]:
    """The program of one block."""
    names = model.state_type._fields
    voltage, calcium = names.index(model.voltage), names.index(model.calcium)
    blocks = [tuple(names.index(s) for s in states) for states in model.coupled]
    watch = Biomarkers(voltage, calcium)
    absolute, share = scale_parts(model)

    def run(shared: Any, each: Any) -> Any:
        period = each[""]
        theta = model.theta_type(*(each[n] if n in wide else shared[n] for n in model.theta_type._fields))
        p = model.typical(theta, model.covariate_type())
        fill = lambda v: jnp.broadcast_to(jnp.asarray(v, period.dtype), period.shape)  # noqa: E731
        y = jnp.stack(each["state"] if from_state else [fill(v) for v in model.initial(p)])
        amplitude, duration = (jnp.asarray(v, period.dtype) for v in model.stimulus)
        beats = each["beats"]
        accuracy = Accuracy(shared["tolerance"], jnp.asarray(FIRST, period.dtype), jnp.asarray(LONGEST, period.dtype))

        def equations(t: Any, y: Any, stimulus: Any) -> Point:
            r = model.rates(t, model.state_type(*y), p, stimulus)
            net = sum(getattr(r.currents, n) for n in model.net)
            coupled = tuple(Coupled(i, m) for i, m in zip(blocks, r.coupled, strict=True))
            return Point(jnp.stack([*map(fill, r.derivative)]), jnp.stack([*map(fill, r.relaxation)]), coupled, (fill(net),))

        scale = lambda y: absolute.astype(y.dtype) + share.astype(y.dtype) * jnp.abs(y)  # noqa: E731
        walk = partial(paced.walk, equations, scale, watch)
        start = paced.begin(equations, y, watch, accuracy)
        watched = jnp.minimum(beats - 1, beats - jnp.floor(beats / WATCHED))
        drive = Drive(period, amplitude, duration, beats, watched)
        if not traced:
            w = walk(drive, accuracy, start)
            return tuple(w.y), w.kept, w.failed, w.steps
        w = walk(drive._replace(beats=beats - 1), accuracy, start)

        def point(w: Any, until: Any) -> Any:
            w = walk(drive, accuracy, w, until)
            return w, (w.y[voltage], w.y[calcium])

        w, (v, ca) = jax.lax.scan(point, w, shared["trace"])
        return tuple(w.y), w.kept, w.failed, w.steps, v.T, ca.T

    return run


def scale_parts(model: CellModel) -> tuple[np.ndarray, np.ndarray]:
    """What an error of 1 is, (states, 1): an absolute part and a share of the state. 20 mV, a whole gate, a concentration's own
    size, a third of a large one at rest."""
    with precision():
        theta = model.theta_type(*(model.parameters[n].value for n in model.theta_type._fields))
        start = model.initial(model.typical(theta, model.covariate_type()))
    of_unit = {"mV": (20.0, 0.0), "1": (1.0, 0.0)}

    def one(unit: str, rest: float) -> tuple[float, float]:
        if unit == "mM":
            return (0.3 * rest, 0.0) if rest > 0.01 else (rest, 1.0)
        return of_unit.get(unit, (1e-3, 1.0))

    pairs = [one(u, abs(float(v))) for u, v in zip(model.states.values(), start, strict=True)]
    absolute, share = np.array(pairs).T[..., None]
    return absolute, share


def scales(model: CellModel) -> np.ndarray:
    """What an error of 1 is at rest, (states, 1)."""
    absolute, _ = scale_parts(model)
    return absolute


def _result(model: CellModel, period: np.ndarray, beats: int, out: Any, trace: float | None, points: int) -> Paced:
    y, marks, failed, steps = out[:4]
    failed = failed > 0
    table = {n: np.where(failed, np.nan, v) for n, v in biomarkers(marks).items()}
    course = None
    if trace:
        v, ca = out[4:]
        course = Trace(np.arange(1, points + 1) * trace, v, ca)
    return Paced(model, period, beats, table, model.state_type(*y), failed, steps / beats, course)


def biomarkers(m: Marks) -> dict[str, np.ndarray]:
    """Biomarkers of a beat from its marks, by name."""
    rested = m.rest < UNREPOLARISED  # else 90 % of repolarisation is a level on the plateau that the beat before did not leave
    levels = {f"apd{round(100 * x)}": _since(c, m.steepest_time) for x, c in zip(LEVELS, m.crossings, strict=True)}
    apd = {n: np.where(rested, v, np.nan) for n, v in levels.items()}
    return {
        **apd,
        "peak": m.peak,
        "rest": m.rest,
        "dvdt_max": m.steepest,
        "peak_time": m.peak_time - m.steepest_time,
        "triangulation": apd["apd90"] - apd["apd30"],
        "cat_amplitude": m.calcium_peak - m.calcium_rest,
        "cat_duration50": _since(m.calcium_half, m.calcium_start),
        "cat_duration90": _since(m.calcium_crossing, m.calcium_start),
        "qnet": (m.net + m.open) * 1e-3,
        "ead": (m.worst_rise > EAD_RISE).astype(float),
        "repolarised": (m.unrepolarised == 0).astype(float),
    }


def _since(crossing: np.ndarray, start: np.ndarray) -> np.ndarray:
    return np.where(crossing >= 0, crossing - start, np.nan)
