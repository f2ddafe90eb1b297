"""Schedules of many subjects become the engine's table of slots (host side, vectorised over all records)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.engine.plan import (
    BOLUS,
    END,
    NONE,
    PAD,
    RESET,
    SIGNAL,
    START,
    STEADY,
    STEADY_RATE,
    Plan,
    PortPlan,
    Repeats,
    Slots,
)
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject, concatenate, numbered

MOST_REPEATS = 16  # more segment lengths than this are not worth a table


@dataclass(frozen=True)
class Timeline:
    """Slots of all subjects, (slots, lanes); `records` (records, lanes) says at which slot each record is read out; both
    have one lane where `shared`. `order` (lanes,) sorts subjects by their number of slots; `counts` (lanes,) is the number
    of records of each subject. Lanes are already in that order."""

    slots: Slots
    records: NDArray[np.int32]
    plan: Plan
    counts: NDArray[np.int64]
    order: NDArray[np.int64]
    shared: bool
    repeats: Repeats | None = None


def port_plans(model: Model, active: frozenset[str]) -> tuple[PortPlan, ...]:
    """Ports as the engine sees them; a parameter that is not `active` (lag 0, F 1 for sure) is left out."""
    states, signals, out = tuple(model.states), 0, []
    keep = lambda name: name if name in active else None  # noqa: E731
    for q in model.ports:
        if q.kind == "signal":
            out.append(PortPlan(-1, signals, None, None, None, None))
            signals += 1
        else:
            names = (keep(q.bioavailability), keep(q.lag), keep(q.duration), keep(q.rate))
            out.append(PortPlan(states.index(q.state or ""), -1, *names))
    return tuple(out)


def _same(subjects: Sequence[Subject]) -> bool:
    """Whether all subjects share one schedule (values apart)."""
    first = subjects[0].schedule
    rest = {id(s.schedule): s.schedule for s in subjects[1:]}.values()
    names = [f.name for f in fields(Schedule) if f.name not in ("columns", "value", "row", "censored")]
    same = lambda a, b: a is b or np.array_equal(a, b)  # noqa: E731  (schedules that differ in covariates share their arrays)
    return all(all(same(getattr(s, n), getattr(first, n)) for n in names) for s in rest)


def _port_index(
    s: Schedule, dose: NDArray[np.bool_], model: Model, ids: Sequence[str], lane: NDArray[np.int64]
) -> NDArray[np.int64]:
    port = np.where(s.port == 0, 1, s.port) - 1
    bad = dose & (port >= len(model.ports))
    if bad.any():
        i = int(np.argmax(bad))
        names = ", ".join(f"{k} {q.name}" for k, q in enumerate(model.ports, start=1)) or "none"
        raise DataError(
            f"subject {ids[lane[i]]}: no such compartment in {model.name}",
            row=int(s.row[i]) or None, column="CMT", value=int(s.port[i]), remedy=f"use one of: {names}",
        )  # fmt: skip
    return port


def compile_timeline(
    model: Model,
    subjects: Sequence[Subject],
    *,
    active: frozenset[str],
    extremes: Mapping[str, tuple[float, float]],
    varying: bool,
    method: str,
    rtol: float,
    atol: float,
) -> Timeline:
    """Slots for these subjects.

    active: names of lag, F, duration and rate parameters that may differ from 0, 1, unset. extremes: the smallest and largest
    value of each, which bound how many earlier infusions may still run at a steady state.
    """
    shared = len(subjects) > 1 and not varying and _same(subjects)
    used = subjects[:1] if shared else subjects
    s, lane, number = concatenate([u.schedule for u in used])
    ids = [u.id for u in used]
    dose = (s.evid == 1) | (s.evid == 4)
    port = _port_index(s, dose, model, ids, lane)
    ports = port_plans(model, active)
    signal = dose & np.array([ports[q].signal >= 0 if q < len(ports) else False for q in port], bool)
    _check_modelled(s, dose, port, ports, model, ids, lane)
    negative = dose & (s.amount < 0) & ~signal
    if negative.any():
        k = int(np.argmax(negative))
        raise DataError(
            f"subject {ids[lane[k]]}: amount is negative",
            row=int(s.row[k]) or None,
            column="AMT",
            value=s.amount[k],
            remedy="give 0 or more",
        )
    steady = dose & (s.steady_state > 0) & ~signal
    constant = steady & (s.rate > 0) & (s.amount == 0) & (s.interval == 0)
    clean = (s.evid == 3) | (s.evid == 4) | (steady & (s.steady_state == 1))
    epoch = np.cumsum(clean)
    epoch -= np.repeat(*_start_values(epoch - clean, lane))
    infused = dose & (s.rate != 0) & ~constant & ~signal
    copies = _copies(s, steady & infused, port, ports, extremes)
    lagged = any(q.lag for q in ports)
    dynamic = lagged or bool((infused & (s.rate < 0)).any()) or (bool(infused.any()) and any(q.bioavailability for q in ports))

    given = dose & ~constant & ~signal
    i = np.flatnonzero
    repeat = np.repeat(i(given), s.additional[given] + 1)
    m = numbered(s.additional[given] + 1)
    still = np.repeat(i(copies > 0), copies[copies > 0])
    c = numbered(copies[copies > 0]) + 1
    inf = infused[repeat]
    alone = s.evid != 0 if dynamic else clean & (s.evid == 3) | constant | signal | given  # rows whose own action reads them out
    quiet = np.flatnonzero(~alone) if not dynamic else np.arange(len(s))
    # (record, position among the slots of a record, kind, k-th dose, copy)
    groups = [
        (i((s.evid == 3) | (s.evid == 4)), 0, RESET, 0, 0),
        (i(steady & ~constant), 1, STEADY, 0, copies[steady & ~constant]),
        (i(constant), 1, STEADY_RATE, 0, 0),
        (i(signal), 1, SIGNAL, 0, 0),
        (repeat[~inf], 2, BOLUS, m[~inf], 0),
        (repeat[inf], 2, START, m[inf], 0),
        (repeat[inf], 3, END, m[inf], 0),
        (still, 3, END, 0, c),
        (quiet, 4, NONE, 0, 0),
    ]
    rec = np.concatenate([g[0] for g in groups]).astype(int)
    fill = lambda k: np.concatenate([np.broadcast_to(g[k], g[0].shape) for g in groups]).astype(int)  # noqa: E731
    sub, kind, nth, copy = fill(1), fill(2), fill(3), fill(4)
    time = s.time[rec] + nth * s.interval[rec]
    effective = time if dynamic else _effective(kind, time, s.amount[rec], s.rate[rec], copy, s.interval[rec], s.time[rec])
    order = np.lexsort((copy, nth, sub, rec, effective, lane[rec]) if not dynamic else (copy, nth, sub, rec, lane[rec]))
    rec, kind, nth, copy, time = rec[order], kind[order], nth[order], copy[order], time[order]
    own = _reads_out(rec, kind, nth, copy, dynamic, given, alone)
    governing = _next_record(s, lane, number, rec, nth, time)
    kinds = frozenset(int(k) for k in np.unique(kind))
    plan = Plan(
        kinds, ports, sum(q.signal >= 0 for q in ports), dynamic, varying, False,
        tuple(list(model.states).index(a) for a in model.accumulators), method, rtol, atol,
    )  # fmt: skip
    flat = Slots(
        time, kind, port[rec], s.amount[rec], s.rate[rec], np.where(s.interval[rec] > 0, s.interval[rec], 1.0),
        (s.steady_state[rec] == 2).astype(int), governing, epoch[rec], copy, np.where(own, number[rec], -1),
    )  # fmt: skip
    return _pad(flat, lane[rec], own, number[rec], len(used), len(subjects), plan, shared)


def _effective(kind: Any, time: Any, amount: Any, rate: Any, copy: Any, interval: Any, begun: Any) -> NDArray[np.float64]:
    """Times at which slots take effect where no parameter moves them (as `engine.events.resolve` finds them): an infusion's
    END lies its duration after the dose, or `copy` intervals before that, but never before its record."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = time + amount / rate - copy * interval
    return np.where(kind == END, np.maximum(ends, begun), time)


def _start_values(values: NDArray[np.int64], lane: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Value at the first record of each lane and the number of records of each lane."""
    _, first, counts = np.unique(lane, return_index=True, return_counts=True)
    return values[first], counts


def _check_modelled(
    s: Schedule,
    dose: NDArray[np.bool_],
    port: NDArray[np.int64],
    ports: Sequence[PortPlan],
    model: Model,
    ids: Sequence[str],
    lane: NDArray[np.int64],
) -> None:
    for code, field, word in ((-1, "rate", "R"), (-2, "duration", "D")):
        for k in np.flatnonzero(dose & (s.rate == code)):
            if getattr(ports[port[k]], field) is None:
                raise DataError(
                    f"subject {ids[lane[k]]}: RATE {code} asks for a modelled {field}, which {model.name} has not set",
                    row=int(s.row[k]) or None, column="RATE", value=code, remedy=f"set {word}{port[k] + 1}, or give RATE",
                )  # fmt: skip


def _copies(
    s: Schedule,
    which: NDArray[np.bool_],
    port: NDArray[np.int64],
    ports: Sequence[PortPlan],
    extremes: Mapping[str, tuple[float, float]],
) -> NDArray[np.int64]:
    """(records,) how many earlier infusions may still run when a steady state begins."""
    out = np.zeros(len(s), int)
    for k in np.flatnonzero(which):
        q = ports[port[k]]
        least = lambda name, default: extremes[name][0] if name else default  # noqa: E731
        most = lambda name, default: extremes[name][1] if name else default  # noqa: E731
        amount = s.amount[k] * most(q.bioavailability, 1.0)
        by_code = {-2: most(q.duration, 0.0), -1: amount / max(least(q.rate, 1.0), 1e-12)}
        number = (by_code.get(int(s.rate[k]), amount / s.rate[k]) + most(q.lag, 0.0)) / s.interval[k]
        if not number <= 1000:
            raise UnsupportedError(
                f"row {int(s.row[k])}: over 1000 overlapping infusions at a steady state; give a constant rate (II 0)"
            )
        spare = 1 if q.bioavailability or s.rate[k] < 0 or q.lag else 0
        out[k] = max(0, math.ceil(number - 1e-9) - 1) + spare
    return out


def _reads_out(rec: Any, kind: Any, nth: Any, copy: Any, dynamic: bool, given: Any, alone: Any) -> NDArray[np.bool_]:
    """(slots,) whether the slot reads out its record: the last of those at the record's own time."""
    if dynamic:
        return np.asarray(kind == NONE)
    own_dose = given[rec] & ((kind == BOLUS) | (kind == START)) & (nth == 0)
    single = alone[rec] & ~given[rec] & np.isin(kind, (RESET, STEADY_RATE, SIGNAL))
    return np.asarray((kind == NONE) | own_dose | single)


def _next_record(s: Schedule, lane: Any, number: Any, rec: Any, nth: Any, time: Any) -> NDArray[np.int64]:
    """(slots,) record whose parameters govern a dose: its own, or for an additional dose the next one after it."""
    out = number[rec].copy()
    extra = np.flatnonzero(nth > 0)
    if len(extra):
        # one stable sort of records and additional doses by subject and time; a dose takes the next record (or the last)
        n = len(s)
        who, when = np.r_[lane, lane[rec[extra]]], np.r_[s.time, time[extra]]
        order = np.lexsort((np.r_[np.ones(n), np.zeros(len(extra))], when, who))
        is_record = order < n
        following = np.where(is_record, order, n)
        following = np.minimum.accumulate(following[::-1])[::-1]
        at = np.empty(n + len(extra), int)
        at[order] = following
        last = np.searchsorted(lane, lane[rec[extra]], side="right") - 1
        out[extra] = number[np.minimum(np.maximum(at[n:], rec[extra]), last)]
    return out


def _round_up(n: int) -> int:
    """Next size with two significant bits after the first: few programs to compile, at most 20 % more slots."""
    if n <= 8:
        return max(n, 1)
    step = 1 << (n.bit_length() - 3)
    return -(-n // step) * step


def _repeats(slots: Slots, plan: Plan) -> tuple[Plan, Repeats | None]:
    """The segment lengths of a shared schedule, where a linear model meets few different ones (equal to 12 digits)."""
    if plan.dynamic or plan.varying or plan.method not in ("closed", "expm"):
        return plan, None
    kind, begun, amount, rate, interval, copy = (
        v[:, 0] for v in (slots.kind, slots.time, slots.amount, slots.rate, slots.interval, slots.copy)
    )
    time = _effective(kind, begun, amount, rate, copy, interval, begun)
    dt = np.diff(time, prepend=time[0])
    digits = np.where(dt > 0, 11 - np.floor(np.log10(np.maximum(dt, 1e-300))), 0)
    near = np.round(dt * 10.0**digits) / 10.0**digits
    _, first, which = np.unique(near, return_index=True, return_inverse=True)
    size = _round_up(len(first))
    if size > MOST_REPEATS or 2 * size > len(dt):
        return plan, None
    lengths = np.concatenate([dt[first], np.zeros(size - len(first))])
    return replace(plan, repeats=size), Repeats(lengths, which.astype(np.int32))


def _pad(flat: Slots, lane: Any, own: Any, number: Any, lanes: int, subjects: int, plan: Plan, shared: bool) -> Timeline:
    """Table (slots, lanes) from flat slots sorted by lane; lanes in order of their number of slots."""
    used = np.bincount(lane, minlength=lanes)
    counts = np.bincount(lane[own], minlength=lanes)
    order = np.argsort(used, kind="stable")
    rank = np.empty(lanes, int)
    rank[order] = np.arange(lanes)
    depth = _round_up(int(used.max()))
    position = np.arange(len(lane)) - np.repeat(np.cumsum(used) - used, used)
    column = rank[lane]
    table = []
    for name, v in zip(Slots._fields, flat, strict=True):
        kind = np.float64 if name in ("time", "amount", "rate", "interval") else np.int32
        empty = {"kind": PAD, "segment": -1, "interval": 1.0, "time": np.inf}.get(name, 0)
        t = np.full((depth, lanes), empty, kind)
        t[position, column] = v
        table.append(t)
    slots = Slots(*table)
    if not plan.dynamic:
        last = np.where(np.isfinite(slots.time), slots.time, -np.inf).max(axis=0)
        segment = np.where(slots.segment >= 0, slots.segment, np.iinfo(np.int32).max)
        segment = np.minimum.accumulate(segment[::-1])[::-1]
        slots = slots._replace(
            time=np.where(np.isfinite(slots.time), slots.time, last),
            segment=np.minimum(segment, counts[order] - 1).astype(np.int32),
        )
    records = np.zeros((_round_up(int(counts.max())), lanes), np.int32)
    records[number[own], column[own]] = position[own]
    plan = replace(plan, ragged=bool(used.min() < 0.75 * depth))
    if shared:
        plan, repeats = _repeats(slots, plan)
        return Timeline(slots, records, plan, np.repeat(counts, subjects), np.arange(subjects), True, repeats)
    return Timeline(slots, records, plan, counts, order, False)
