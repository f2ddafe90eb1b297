"""`simulate`: a model, subjects and parameter values become trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError, ModelError, SolverError, UnsupportedError
from gemello.engine.lanes import EXACT_BLOCK, cut, default_block, map_blocks, precision
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR, solve, speed
from gemello.model.contract import Model
from gemello.model.individuals import bound_arrays, covariate_arrays, individual, kappas, occasion_array, spread
from gemello.model.schedule import Schedule, Subject, check_subjects
from gemello.model.timeline import Timeline, compile_timeline

METHODS = ("closed", "expm", "auto", "tsit5", "rodas5p", "rush_larsen", "discrete")


@dataclass(frozen=True)
class Prepared:
    """A problem ready to solve many times: model, timeline, covariates and bound columns in the timeline's lane order."""

    model: Model
    subjects: tuple[Subject, ...]
    timeline: Timeline
    cov: Any  # NamedTuple of (lanes,) or (records, lanes), in the order of `timeline.order`
    bound: dict[str, Any]
    occasion: NDArray[np.int32] | None = None  # (records, lanes), from 0, where parameters vary between occasions
    occasions: int = 0

    @property
    def lanes(self) -> int:
        return len(self.subjects)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(s.id for s in self.subjects)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(subjects,) number of records."""
        return np.array([len(s.schedule) for s in self.subjects])


@dataclass(frozen=True)
class Trajectories:
    """Outputs of all subjects at their records.

    time: (subjects, records), NaN beyond a subject's last. outputs: by name, the same shape, in `units`; states likewise,
    where they were asked for.
    failures: (subject, time) of lanes that could not be solved; their values are NaN from that time on.
    """

    model: str
    ids: tuple[str, ...]
    time: NDArray[np.float64]
    outputs: dict[str, NDArray[np.float64]]
    states: dict[str, NDArray[np.float64]]
    units: dict[str, str]
    time_unit: str
    failures: tuple[tuple[str, float], ...]
    steps: tuple[int, int] = (0, 0)

    def check(self) -> Trajectories:
        """Raise SolverError, naming subject and time, if any lane failed."""
        if self.failures:
            who, when = self.failures[0]
            more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
            raise SolverError(
                f"model {self.model}, subject {who}, time {when:g} {self.time_unit}: the equations could not be solved{more}; "
                "look at this subject's parameters, covariates and doses"
            )
        return self

    def frame(self) -> Any:
        """Long table (polars): id, time, one column per output."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        there = ~np.isnan(self.time)
        ids = np.repeat(np.array(self.ids), there.sum(axis=1))
        return pl.DataFrame({"id": ids, "time": self.time[there], **{k: v[there] for k, v in self.outputs.items()}})


def prepare(
    model: Model,
    subjects: Sequence[Subject] | Schedule,
    *,
    values: Mapping[str, ArrayLike] | None = None,
    bind: Mapping[str, str] | None = None,
    estimated: frozenset[str] = frozenset(),
    method: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    covariates: Mapping[str, ArrayLike] | None = None,
) -> Prepared:
    """Compile the schedules of these subjects for this model.

    values: parameter values that differ from the table's, scalars or (subjects,). bind: parameter name to data column.
    estimated: parameters that will change later although they are at a trivial value now (a lag of 0, an F of 1). covariates:
    constant ones, scalars or (subjects,), in place of the schedules' columns.
    """
    if isinstance(subjects, Schedule):
        lanes = max([1, *(np.size(v) for v in (*(values or {}).values(), *(covariates or {}).values()) if np.ndim(v))])
        subjects = [Subject(str(i + 1), subjects) for i in range(lanes)]
    subjects = tuple(subjects)
    if not subjects:
        raise DataError("no subjects", remedy="give at least one")
    check_subjects(subjects)
    chosen = _method(model, method)
    check_values(model, values or {})
    check_shapes(values or {}, len(subjects))
    check_shapes(covariates or {}, len(subjects), "covariate")
    cov, varies = covariate_arrays(model, subjects, covariates)
    occasion, occasions = occasion_array(model, subjects)
    bound, bound_varies = bound_arrays(model, bind or {}, subjects)
    check_values(model, bound)
    seen = _port_parameters(model, values or {}, bound, cov)
    active = frozenset(n for n, v in seen.items() if n in estimated or _may_move(model, n) or np.any(v != _trivial(model, n)))
    loose = (rtol if rtol is not None else model.tolerances[0], atol if atol is not None else model.tolerances[1])
    extremes = {n: _extremes(model, n, v, estimated) for n, v in seen.items()}
    timeline = compile_timeline(
        model,
        subjects,
        active=active,
        extremes=extremes,
        varying=varies or bound_varies or occasions > 0,
        method=chosen,
        rtol=loose[0],
        atol=loose[1],
    )
    _check_steady_lags(subjects, seen, model)
    depth = timeline.records.shape[0]
    fit = lambda v: _to_depth(np.asarray(v, float), depth)[..., timeline.order]  # noqa: E731
    when = None if occasion is None else fit(occasion).astype(np.int32)
    return Prepared(model, subjects, timeline, type(cov)(*map(fit, cov)), {k: fit(v) for k, v in bound.items()}, when, occasions)


def _to_depth(v: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
    return v if v.ndim == 1 else np.pad(v, ((0, depth - v.shape[0]), (0, 0)), mode="edge")


def _method(model: Model, method: str | None) -> str:
    chosen = method or model.default_method()
    need = {"closed": "propagator", "expm": "matrix", "discrete": "advance", "rush_larsen": "relaxation"}.get(
        chosen, "derivative"
    )
    if chosen not in METHODS or not model.has(need):
        raise UnsupportedError(f"model {model.name}: method {chosen!r} needs `{need}`; use {model.default_method()!r}")
    return chosen


def check_shapes(values: Mapping[str, ArrayLike], lanes: int, what: str = "parameter") -> None:
    """Raise ModelError unless there is one value of each parameter, or one for each subject."""
    for name, v in values.items():
        if np.ndim(v) and np.shape(v) != (lanes,):
            raise ModelError(f"{what} {name}: {np.shape(v)} values for {lanes} subjects; give one, or one for each subject")


def check_values(model: Model, values: Mapping[str, ArrayLike]) -> None:
    """Raise ModelError for an unknown parameter, a value that is no number, or one outside its range."""
    for name, v in values.items():
        row, x = model.parameters[name], np.asarray(v, float)
        bad = ~((x >= row.lower) & (x <= row.upper) & np.isfinite(x))
        if np.any(bad):
            value = float(np.atleast_1d(x)[np.atleast_1d(bad)][0])
            raise ModelError(
                f"parameter {name}, value {value:g} {row.unit}: outside [{row.lower:g}, {row.upper:g}]; give a value inside"
            )


# ---- parameters of ports -------------------------------------------------------------------------------------------
def _port_parameters(
    model: Model, values: Mapping[str, ArrayLike], bound: Mapping[str, Any], cov: Any
) -> dict[str, NDArray[np.float64]]:
    """Lag, F, duration and rate of every port, of individuals without etas: scalars, (subjects,) or (records, subjects)."""
    names = {n for q in model.ports for n in (q.bioavailability, q.lag, q.duration, q.rate) if n is not None}
    if not names:
        return {}
    with precision():
        p = individual(model, theta_of(model, values, bound), (0.0,) * len(model.parameters.eta_names), cov)
        return {n: np.asarray(getattr(p, n), float) for n in sorted(names)}


def _trivial(model: Model, name: str) -> float:
    """The value at which a port's parameter does nothing: F 1, else 0."""
    return 1.0 if any(q.bioavailability == name for q in model.ports) else 0.0


def _may_move(model: Model, name: str) -> bool:
    """Whether individuals differ in it, or it is computed from others."""
    return name not in model.parameters or model.parameters[name].distribution != "none"


def _extremes(model: Model, name: str, v: NDArray[np.float64], estimated: frozenset[str]) -> tuple[float, float]:
    """Smallest and largest value that a port's parameter is expected to take; twice as far where etas or a fit move it."""
    room = 2.0 if name in estimated or _may_move(model, name) else 1.0
    return float(np.min(v)) / room, float(np.max(v)) * room


def _check_steady_lags(subjects: Sequence[Subject], seen: Mapping[str, NDArray[np.float64]], model: Model) -> None:
    """Refuse a steady state whose lag exceeds its interval (NONMEM gives negative amounts there)."""
    lags = [q.lag for q in model.ports]
    longest = max((float(np.max(seen[n])) for n in lags if n is not None), default=0.0)
    if longest <= 0:
        return
    for lane, s in enumerate(subjects):
        c = s.schedule
        for i in np.flatnonzero(
            (c.steady_state > 0) & (c.interval > 0) & ((c.evid == 1) | (c.evid == 4)) & (c.interval < longest)
        ):
            name = lags[max(int(c.port[i]), 1) - 1]
            if name is None:
                continue
            v = seen[name]
            lag = float(v if v.ndim == 0 else v[lane] if v.ndim == 1 else v[i, lane])
            if lag > c.interval[i]:
                place = f"row {int(c.row[i])}, " if c.row[i] else ""
                raise UnsupportedError(
                    f"subject {s.id}, {place}column SS: lag {name} = {lag:g} is longer than the dosing interval II = "
                    f"{c.interval[i]:g}; shorten the lag by a whole number of intervals, or write the doses out"
                )


def _individuals(model: Model, shared: Any, block: Any) -> Any:
    """Individual parameters of a block: those that all lanes share, and those of each lane."""
    own = {**shared["p"], **block["p"]}
    return spread(model.individual_type(*(own[n] for n in model.individual_type._fields)), block["lane"].shape[0])


@lru_cache(maxsize=128)
def block_solver(model: Model, plan: Plan, shared_slots: bool, outputs: tuple[int, ...], states: bool) -> Any:
    """Function (shared, block) -> leaves (..., lanes), for `map_blocks`: solves with individual parameters `p`."""

    def run(shared: Any, block: Any) -> Any:
        slots, records, repeats = (shared if shared_slots else block)["timeline"]
        out = solve(
            model, plan, slots, _individuals(model, shared, block), records, repeats=repeats, outputs=outputs, states=states
        )
        return out.outputs, out.states, out.failed, out.failure_time, out.steps

    return run


@lru_cache(maxsize=128)
def _speed(model: Model, plan: Plan) -> Any:
    """Function (shared, block) -> (lanes,), for `map_blocks`: how fast each lane's equations are."""

    def run(shared: Any, block: Any) -> Any:
        return speed(model, plan, _individuals(model, shared, block), block["lane"].shape[0])

    return run


def simulate(
    model: Model,
    subjects: Sequence[Subject] | Schedule,
    values: Mapping[str, ArrayLike] | None = None,
    *,
    etas: ArrayLike | None = None,
    bind: Mapping[str, str] | None = None,
    method: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    outputs: Sequence[str] | None = None,
    states: bool = False,
    block: int | None = None,
    covariates: Mapping[str, ArrayLike] | None = None,
) -> Trajectories:
    """Trajectories of every subject at its own records.

    model: any model that meets the contract. subjects: subjects, or one schedule for all lanes of `values` and `covariates`.
    values: population parameters that differ from the table's, scalars or (subjects,). covariates: constant ones, likewise, in
    place of columns of the schedules. etas: (subjects, etas) deviations of the
    individuals, 0 by default. bind: parameters read from data columns, record by record. method: closed, expm, tsit5, rodas5p,
    rush_larsen (needs `relaxation`), auto (by stiffness) or discrete; the model's own by default. rtol, atol: tolerances of the
    adaptive methods. outputs: names of the outputs wanted, all by default. states: whether the states are wanted too.

    Raises DataError, ModelError, UnsupportedError. A lane that cannot be solved is listed in `failures`.
    """
    ready = prepare(model, subjects, values=values, bind=bind, method=method, rtol=rtol, atol=atol, covariates=covariates)
    return solve_prepared(ready, values or {}, etas, outputs=outputs, states=states, block=block)


def solve_prepared(
    ready: Prepared,
    values: Mapping[str, ArrayLike],
    etas: ArrayLike | None = None,
    *,
    outputs: Sequence[str] | None = None,
    states: bool = False,
    block: int | None = None,
) -> Trajectories:
    """`simulate` on a problem prepared before: only values and etas may differ (and no port parameter may become active)."""
    model, timeline = ready.model, ready.timeline
    order, lanes = timeline.order, ready.lanes
    check_shapes(values, lanes)
    with precision():
        theta = theta_of(model, values, ready.bound, order)
        p = individual(model, theta, *_moved(ready, etas))
        p = {k: np.asarray(v, float) for k, v in p._asdict().items()}
        same = {k: v for k, v in p.items() if v.ndim == 0}  # one value for all lanes: not copied to each
        width = block or default_block(lanes, timeline.plan.method not in LINEAR)
        table = {"timeline": (timeline.slots, timeline.records, timeline.repeats)}
        chosen = tuple(range(len(model.outputs)) if outputs is None else map(model.output_index, outputs))
        fn = block_solver(model, timeline.plan, timeline.shared, chosen, states)
        own = {"p": {k: np.broadcast_to(v, (*v.shape[:-1], lanes)) for k, v in p.items() if v.ndim}, "lane": np.zeros(lanes)}
        back = np.argsort(order, kind="stable")
        if (
            timeline.shared and timeline.plan.method == "tsit5" and lanes > width and own["p"]
        ):  # lanes that share steps should be alike
            like = np.argsort(map_blocks(_speed(model, timeline.plan), {"p": same}, cut(own, lanes, EXACT_BLOCK)), kind="stable")
            own, back = jax.tree.map(lambda v: v[..., like], own), np.argsort(like, kind="stable")
        shared, per_lane = ({"p": same, **table}, own) if timeline.shared else ({"p": same}, {**own, **table})
        seen, held, failed, when, steps = map_blocks(fn, shared, cut(per_lane, lanes, width), axis=-1)
        in_place = bool((back == np.arange(lanes)).all())
        host = lambda v: v.T if in_place else v[..., back].T  # noqa: E731
        values_of = {model.outputs[k].name: host(v) for k, v in zip(chosen, seen, strict=True)}
        states_of = {n: host(v) for n, v in zip(model.states, held, strict=False)}
    return _trajectories(ready, values_of, states_of, host(failed), host(when), steps)


def _moved(ready: Prepared, etas: ArrayLike | None) -> tuple[Any, Any, Any]:
    """Etas in lane order, covariates and what occasions add, as `individual` takes them."""
    table, lanes = ready.model.parameters, ready.lanes
    n, extra = len(table.eta_names), len(table.occasion_names) * ready.occasions
    if etas is None:
        return (0.0,) * n, ready.cov, ()
    e = np.asarray(etas, float)
    if e.shape not in ((lanes, n), (lanes, n + extra)):
        more = f", or {(lanes, n + extra)} with what each occasion adds" if extra else ""
        raise ModelError(f"etas: shape {e.shape} for {lanes} subjects and {n} etas; give {(lanes, n)}{more}")
    e = e[ready.timeline.order].T
    kappa = kappas(e, ready.occasion, n, len(table.occasion_names)) if len(e) > n else ()
    return tuple(e[:n]), ready.cov, kappa


def _trajectories(
    ready: Prepared, outputs: dict[str, Any], states: dict[str, Any], failed: Any, when: Any, steps: Any
) -> Trajectories:
    model, subjects = ready.model, ready.subjects
    counts = ready.counts
    depth = int(counts.max())
    if ready.timeline.shared:
        time = np.broadcast_to(subjects[0].schedule.time, (len(subjects), depth))
    else:
        time = np.full((len(subjects), depth), np.nan)
        for i, s in enumerate(subjects):
            time[i, : counts[i]] = s.schedule.time

    def trim(v: Any) -> Any:
        v = v[:, :depth]
        return v if (counts == depth).all() else np.where(np.arange(depth) < counts[:, None], v, np.nan)

    lost = tuple((subjects[i].id, float(when[i])) for i in np.flatnonzero(failed))
    return Trajectories(
        model.name,
        ready.ids,
        time,
        {n: trim(v) for n, v in outputs.items()},
        {n: trim(v) for n, v in states.items()},
        {o.name: o.unit for o in model.outputs} | dict(model.states),
        model.time_unit,
        lost,
        (int(steps[0].max()), int(steps[1].max())),
    )


def theta_of(model: Model, values: Mapping[str, Any], bound: Mapping[str, Any], order: Any = None) -> Any:
    """NamedTuple of population parameters: the table's, replaced by `values` (scalars or (lanes,)) and by `bound` columns."""

    def one(name: str) -> Any:
        if name in bound:
            return bound[name]
        v = np.asarray(values.get(name, defaults[name]), float)
        return v if v.ndim == 0 or order is None else v[order]

    defaults = {r.name: r.value for r in model.parameters}

    return model.theta_type(*(one(n) for n in model.parameters.theta_names))
