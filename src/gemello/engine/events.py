"""Slots resolved with individual parameters: effective times, amounts and rates; then what each does to the state.

Semantics are NONMEM's (Users Guide VI, PREDPP): a lag shifts the dose; bioavailability scales an amount, and the duration
(not the rate) of an infusion given by its rate; a steady state with lag is taken at phase `interval − lag`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gemello.engine.plan import BOLUS, END, NONE, PAD, RESET, SIGNAL, START, STEADY, STEADY_RATE, Plan, Slots
from gemello.engine.solvers.lu import factor, solve


class Actions(NamedTuple):
    """Slots in order of effect, (slots, lanes) each: effective time, kind, port, amount (F included), rate, duration,
    interval, lag, add, epoch, segment row, and for a steady state the number of earlier infusions that have an END slot."""

    time: Any
    kind: Any
    port: Any
    amount: Any
    rate: Any
    duration: Any
    interval: Any
    lag: Any
    add: Any
    epoch: Any
    segment: Any
    copies: Any


def _of_port(slots: Slots, p: Any, plan: Plan, field: str, default: float) -> Any:
    """Value (slots, lanes) of the individual parameter that `field` names for each slot's port; a float where none does."""
    out: Any = default
    for q, port in enumerate(plan.ports):
        name = getattr(port, field)
        if name is None:
            continue
        value = getattr(p, name)
        if plan.varying and value.ndim == 2:
            lanes = max(value.shape[1], slots.record.shape[1])
            value = jnp.broadcast_to(value, (value.shape[0], lanes))
            value = jnp.take_along_axis(value, jnp.broadcast_to(slots.record, (slots.record.shape[0], lanes)), axis=0)
        out = jnp.where(slots.port == q, value, out)
    return out


def _running(duration: Any, lag: Any, interval: Any) -> Any:
    """How many earlier infusions of a steady state still run at its record: those k with k·interval < duration + lag."""
    return jnp.maximum(jnp.ceil((duration + lag) / interval - 1e-9) - 1.0, 0.0)  # the same margin as in compile_timeline


def resolve(slots: Slots, p: Any, plan: Plan) -> tuple[Actions, Any]:
    """Actions in order of effect, and `where`: (slots, lanes) position of each slot in that order (None: as given)."""
    fraction = _of_port(slots, p, plan, "bioavailability", 1.0)
    lag = _of_port(slots, p, plan, "lag", 0.0)
    dose = (slots.kind == BOLUS) | (slots.kind == START) | (slots.kind == END) | (slots.kind == STEADY)
    amount = jnp.where(dose, fraction * slots.amount, slots.amount)
    duration, rate = jnp.zeros_like(amount), slots.rate
    if plan.kinds & {START, END, STEADY}:
        explicit = slots.rate > 0
        duration = jnp.where(explicit, amount / jnp.where(explicit, slots.rate, 1.0), 0.0)
        modelled_duration = _of_port(slots, p, plan, "duration", 0.0)
        modelled_rate = _of_port(slots, p, plan, "rate", 0.0)
        by_duration, by_rate = (slots.rate == -2) & dose, (slots.rate == -1) & dose
        safe_duration = jnp.where(by_duration, modelled_duration, 1.0)
        safe_rate = jnp.where(by_rate, modelled_rate, 1.0)
        duration = jnp.where(by_duration, safe_duration, jnp.where(by_rate, amount / safe_rate, duration))
        rate = jnp.where(by_duration, amount / safe_duration, jnp.where(by_rate, safe_rate, slots.rate))
    kind, time = slots.kind, slots.time
    if plan.kinds & {BOLUS, START, END}:
        given = (kind == BOLUS) | (kind == START) | (kind == END)
        time = jnp.where(given, time + lag, time)
        if END in plan.kinds:
            end = jnp.maximum(time + duration - slots.copy * slots.interval, slots.time)
            over = (kind == END) & (slots.copy > _running(duration, lag, slots.interval))  # had already stopped
            time = jnp.where(kind == END, jnp.where(over, slots.time, end), time)
            kind = jnp.where(over, NONE, kind)
    actions = Actions(
        time,
        kind,
        slots.port,
        amount,
        rate,
        duration,
        slots.interval,
        lag + 0 * time,
        slots.add,
        slots.epoch,
        slots.segment,
        slots.copy,
    )
    if not plan.dynamic:
        return actions, None
    shape = jnp.broadcast_shapes(*(jnp.shape(a) for a in actions))
    actions = Actions(*(jnp.broadcast_to(a, shape) for a in actions))
    last_time = jnp.max(jnp.where(jnp.isinf(actions.time), -jnp.inf, actions.time), axis=0)
    actions = actions._replace(time=jnp.where(actions.kind == PAD, last_time, actions.time))
    order = jnp.argsort(jax.lax.stop_gradient(actions.time), axis=0, stable=True)
    actions = Actions(*(jnp.take_along_axis(a, order, axis=0) for a in actions))
    # a segment is governed by the next record (next observation carried backward); only records carry a row >= 0
    last = jnp.max(actions.segment, axis=0)
    row = jnp.where(actions.segment >= 0, actions.segment, jnp.iinfo(jnp.int32).max)
    row = jnp.minimum(jax.lax.cummin(row, axis=0, reverse=True), last)
    return actions._replace(segment=row), jnp.argsort(order, axis=0, stable=True)


class Held(NamedTuple):
    """What acts on a lane between slots: zero-order rates into each state, signal levels, the epoch."""

    rates: tuple[Any, ...]
    signals: tuple[Any, ...]
    epoch: Any


Flow = Callable[[Any, Any, Any], Any]  # (dt, y, rates) -> y


def act(a: Actions, y: Any, held: Held, initial: Any, flow: Flow, plan: Plan, linear: bool) -> tuple[Any, Held]:
    """State and held inputs after the action `a` (one row of Actions, entries (lanes,))."""
    kinds, of = plan.kinds, type(y)
    if RESET in kinds or STEADY in kinds or STEADY_RATE in kinds:
        clean = (a.kind == RESET) | (((a.kind == STEADY) | (a.kind == STEADY_RATE)) & (a.add == 0))
        y = of(*(jnp.where(clean, i, v) for i, v in zip(initial, y, strict=True)))
        held = Held(tuple(jnp.where(clean, 0.0, r) for r in held.rates), held.signals, jnp.where(clean, a.epoch, held.epoch))
    live = a.epoch == held.epoch
    if STEADY in kinds or STEADY_RATE in kinds:
        y, held = _to_steady_state(a, y, held, initial, flow, plan, linear)
    rates, signals = list(held.rates), list(held.signals)
    new = list(y)
    for q, port in enumerate(plan.ports):
        here = live & (a.port == q)
        if port.state >= 0:
            s = port.state
            if BOLUS in kinds:
                new[s] = new[s] + jnp.where(here & (a.kind == BOLUS), a.amount, 0.0)
            if START in kinds or END in kinds:
                change = jnp.where(a.kind == START, a.rate, jnp.where(a.kind == END, -a.rate, 0.0))
                rates[s] = rates[s] + jnp.where(here, change, 0.0)
        elif SIGNAL in kinds:
            s = port.signal
            signals[s] = jnp.where((a.port == q) & (a.kind == SIGNAL), a.amount, signals[s])
    return of(*new), Held(tuple(rates), tuple(signals), held.epoch)


def _to_steady_state(a: Actions, y: Any, held: Held, initial: Any, flow: Flow, plan: Plan, linear: bool) -> tuple[Any, Held]:
    """Steady state of equal doses every `interval` at phase `interval − lag`, the infusions that still run included.

    The state just before a dose is the fixed point of the map over one interval, found by Newton's method (exact in one
    step for a linear model). STEADY_RATE is the steady state of a constant rate, whose infusion then ends.
    """
    steady, constant = a.kind == STEADY, a.kind == STEADY_RATE
    wanted = steady | constant
    interval = jnp.where(steady, a.interval, 24.0)  # any period serves a constant rate
    rate = jnp.where(wanted, a.rate, 0.0)
    duration = jnp.where(steady, a.duration, 0.0)
    bolus = jnp.where(steady & (a.rate == 0), a.amount, 0.0)
    whole = jnp.floor(duration / interval)
    part = jnp.clip(duration - whole * interval, 0.0, interval)
    base = jnp.where(constant, 1.0, whole)
    into = [jnp.zeros_like(rate) for _ in y]
    for q, port in enumerate(plan.ports):
        if port.state >= 0:
            into[port.state] = into[port.state] + jnp.where(a.port == q, 1.0, 0.0)
    of = type(y)

    def over(y: Any, time: Any, share: Any = 1.0) -> Any:
        """From just before a dose, through `share` of it, to `time` later (at most one interval)."""
        y = of(*(v + b * (bolus * share) for v, b in zip(y, into, strict=True)))
        if not plan.kinds & {START, END, STEADY_RATE}:  # no infusion anywhere
            return flow(time, y, of(*(0.0 * b for b in into)))
        first, given = jnp.minimum(time, part), rate * share
        y = flow(first, y, of(*(b * (given * (base + 1.0)) for b in into)))
        return flow(time - first, y, of(*(b * (given * base) for b in into)))

    free = [i for i in range(len(y)) if i not in plan.accumulators]
    lanes = jnp.broadcast_shapes(jnp.shape(rate), *(jnp.shape(v) for v in y))

    def period(y: Any) -> tuple[Any, list[list[Any]]]:
        """The state one interval later, and its Jacobian among the free states.

        Adaptive steps are chosen for the state: tangents of a state that is 0 would run through steps too large for them. So
        there the Jacobian is that of states moved by a little, which the solver then sees.
        """
        zero = jnp.zeros(lanes)
        if linear:  # side by side: the state with its doses, and each unit vector without
            several = of(*(jnp.stack([v + zero, *(zero + float(i == j) for j in free)]) for i, v in enumerate(y)))
            ends = jax.vmap(lambda z, share: over(z, interval, share))(several, jnp.array([1.0] + [0.0] * len(free)))
            return of(*(v[0] for v in ends)), [[ends[i][c + 1] for c in range(len(free))] for i in free]
        size = 1e-3 * (sum(jnp.abs(v) for v in y) + jnp.abs(bolus) + jnp.abs(rate * interval))
        little = jax.lax.stop_gradient(jnp.where(size > 0, size, 1.0))
        moved = of(*(jnp.stack([v + zero, *(v + little * (i == j) for j in free)]) for i, v in enumerate(y)))
        ends = jax.vmap(lambda z: over(z, interval))(moved)
        end = of(*(v[0] for v in ends))
        slope = [[jax.lax.stop_gradient((ends[i][c + 1] - ends[i][0]) / little) for c in range(len(free))] for i in free]
        return end, slope

    def newton(y: Any, _: Any) -> tuple[Any, Any]:
        end, slope = period(y)
        matrix = [[(1.0 if i == j else 0.0) - v for j, v in enumerate(row)] for i, row in enumerate(slope)]
        move = dict(zip(free, solve(factor(matrix), [end[i] - y[i] for i in free]), strict=True))
        return of(*(v + move[i] if i in move else s for i, (v, s) in enumerate(zip(y, initial, strict=True)))), slope

    def find(_: Any) -> Any:
        start = of(*(jnp.broadcast_to(v, lanes) for v in initial))
        if linear:
            found, slope = newton(start, None)
            fine = _attracts(slope)
        else:
            found, _ = jax.lax.scan(lambda y, _: (newton(y, None)[0], None), start, None, length=12)
            end, slope = period(found)
            fine = _attracts(slope) & _settled([found[i] for i in free], [end[i] for i in free], plan)
        lags = any(port.lag is not None for port in plan.ports)
        later = over(found, interval - jnp.where(steady, a.lag, 0.0)) if lags or not linear else found
        return tuple(jnp.broadcast_to(jnp.where(fine, v, jnp.nan), lanes) for v in later)

    ss = jax.lax.cond(jnp.any(wanted), find, lambda _: tuple(jnp.broadcast_to(v, lanes) for v in initial), None)
    keep = [i in plan.accumulators for i in range(len(y))]
    new = of(*(jnp.where(wanted & (not k), v + s - i, v) for k, v, s, i in zip(keep, y, ss, initial, strict=True)))
    # infusions begun one or more intervals ago that still run; each has an END slot with its copy number
    running = jnp.where(steady & (a.rate != 0), _running(duration, a.lag, interval), 0.0)
    refused = steady & ((a.lag > interval) | (running > a.copies))  # checked with words before; here nothing wrong gets out
    running = jnp.where(refused, jnp.nan, running)
    new = of(*(jnp.where(refused, jnp.nan, v) for v in new))
    rates = tuple(r + b * rate * running for r, b in zip(held.rates, into, strict=True))
    return new, held._replace(rates=rates)


def _settled(before: list[Any], after: list[Any], plan: Plan) -> Any:
    """Where a state comes back after one more interval, within 100 tolerances (lanes,)."""
    gaps = [jnp.abs(b - a) <= 100 * (plan.atol + plan.rtol * jnp.abs(a)) for a, b in zip(before, after, strict=True)]
    return functools.reduce(jnp.logical_and, gaps)


def _attracts(slope: list[list[Any]]) -> Any:
    """Where doses lead to a fixed point with this Jacobian, (lanes,): a deviation from it is smaller after 64 intervals. A
    growing model has a fixed point too, at a negative amount, to which nothing leads."""
    rows = jax.lax.stop_gradient(slope)
    shape = jnp.broadcast_shapes(*(jnp.shape(v) for row in rows for v in row))
    first = tuple(jnp.full(shape, 1.0 + 0.37 * i) for i in range(len(rows)))

    def once(v: Any, _: Any) -> Any:
        return tuple(sum((m * x for m, x in zip(row, v, strict=True)), jnp.zeros(shape)) for row in rows), None

    last, _ = jax.lax.scan(once, first, None, length=64)
    size = lambda v: functools.reduce(jnp.add, map(jnp.abs, v))  # noqa: E731
    return size(last) < (1.0 - 1e-6) * size(first)  # no decay that could be told from rounding: no steady state
