"""One block of lanes through all its slots: flow along a segment, act, read out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gemello.engine import adaptive
from gemello.engine.events import Actions, Held, act, resolve
from gemello.engine.plan import PAD, START, STEADY, STEADY_RATE, Plan, Repeats, Slots, Solved
from gemello.engine.reduce import reduced
from gemello.engine.solvers.linear import expm_propagator
from gemello.engine.solvers.repeated import reach, repeated

LINEAR = ("closed", "expm")


def solve(
    system: Any,
    plan: Plan,
    slots: Slots,
    p: Any,
    records: Any,
    *,
    repeats: Repeats | None = None,
    outputs: tuple[int, ...] | None = None,
    states: bool = False,
) -> Solved:
    """Outputs of one block at its records; `outputs` picks some by index, `states` adds the states.

    system: supplies `initial`, `observe` and, by method, `propagator`, `matrix`, `derivative` or `advance` (the contract's
    equations) and the types `state_type`, `signal_type`. p: individual parameters, entries (lanes,) or (records, lanes).
    records: (records, lanes) or (records, 1), the slot at which each record is read out.
    """
    lanes = max(v.shape[-1] for v in (*jax.tree.leaves(p), *slots))
    chosen = range(len(system.outputs)) if outputs is None else outputs
    if plan.method in adaptive.METHODS and not states:
        system, plan = reduced(system, plan, _row(p, jnp.zeros(lanes, int), plan), chosen, lanes)
    actions, where = resolve(slots, p, plan)
    first = _row(p, jnp.broadcast_to(actions.segment[0], (lanes,)), plan)
    fill = lambda v: jnp.broadcast_to(jnp.asarray(v, actions.time.dtype), (lanes,))  # noqa: E731
    y = system.state_type(*(fill(v) for v in system.initial(first)))
    zero = fill(0.0)
    held = Held((zero,) * len(y), (zero,) * plan.signals, jnp.zeros(lanes, actions.epoch.dtype))
    step = _stepper(system, plan, p)
    known = repeats is not None and bool(plan.repeats)
    leap = _leaps(system, plan, p, repeats, lanes) if repeats is not None and known else None
    control = adaptive.start(lanes, actions.time.dtype)

    def slot(carry: Any, row_of_slot: tuple[Actions, Any]) -> tuple[Any, Any]:
        (time, y, held, control), (a, length) = carry, row_of_slot
        now = fill(a.time)
        row = _row(p, a.segment, plan)
        if leap is not None:
            y = leap(length, y, held.rates)
        else:
            y, control = step(time, jnp.maximum(now - time, 0.0), y, held, control, row)
        flow = lambda dt, y, rates: step(now, fill(dt), y, held._replace(rates=rates), control, row)[0]  # noqa: E731
        initial = system.state_type(*(fill(v) for v in system.initial(row)))
        y, held = act(a, y, held, initial, flow, plan, plan.method in LINEAR)
        out = system.observe(now, y, row, system.signal_type(*held.signals))
        seen = tuple(fill(out[k]) for k in chosen) + (tuple(y) if states else ())
        return (now, y, held, control), seen

    def quiet(carry: Any, _: Any) -> tuple[Any, Any]:
        """Beyond the last slot of every lane: nothing to do."""
        return carry, (zero,) * (len(chosen) + (len(y) if states else 0))

    def body(carry: Any, here: tuple[Actions, Any]) -> tuple[Any, Any]:
        if not plan.ragged:
            return slot(carry, here)
        return jax.lax.cond(jnp.all(here[0].kind == PAD), quiet, slot, carry, here)

    start = fill(actions.time[0])
    (_, _, _, control), seen = jax.lax.scan(body, (start, y, held, control), (actions, repeats.which if repeats is not None and known else None))
    pick = _picker(records, where, lanes)
    seen = tuple(map(pick, seen))
    lost = ~jnp.isfinite(sum(jnp.sum(v, axis=0) for v in seen)) if seen else jnp.zeros(lanes, bool)
    find = lambda: _first_loss(seen, pick(jnp.broadcast_to(actions.time, (actions.time.shape[0], lanes))))  # noqa: E731
    when = jax.lax.cond(jnp.any(lost), find, lambda: jnp.full(lanes, jnp.nan, actions.time.dtype))
    when = jnp.where(control.failed, control.failure_time, when)
    n = len(chosen)
    return Solved(seen[:n], control.failed | lost, when, seen[n:], jnp.stack([control.accepted, control.rejected]))


def _picker(records: Any, where: Any, lanes: int) -> Any:
    """Function from (slots, lanes) to (records, lanes)."""
    if where is None and records.shape[1] == 1:  # one schedule for all lanes: whole rows
        return lambda v: v[records[:, 0]]
    wide = jnp.broadcast_to(records, (records.shape[0], lanes))
    rows = wide if where is None else jnp.take_along_axis(where, wide, axis=0)
    return lambda v: jnp.take_along_axis(v, rows, axis=0)


def _first_loss(seen: Any, times: Any) -> Any:
    """(lanes,) time of the first value that is not finite, NaN where all are."""
    lost = ~jnp.isfinite(sum(seen))
    first = jnp.take_along_axis(times, jnp.argmax(lost, axis=0)[None], axis=0)[0]
    return jnp.where(jnp.any(lost, axis=0), first, jnp.nan)


def _row(p: Any, row: Any, plan: Plan) -> Any:
    """Individual parameters that govern a segment: entries (lanes,)."""
    if not plan.varying:
        return p

    def at(v: Any) -> Any:
        if v.ndim == 1:
            return v
        index = jnp.broadcast_to(jnp.maximum(row, 0), v.shape[1:])
        return jnp.take_along_axis(v, index[None], axis=0)[0]

    return jax.tree.map(at, p)


def _fed(plan: Plan) -> list[int]:
    """States into which a rate can flow."""
    return sorted({q.state for q in plan.ports if q.state >= 0}) if plan.kinds & {START, STEADY, STEADY_RATE} else []


def _leaps(system: Any, plan: Plan, p: Any, repeats: Repeats, lanes: int) -> Any:
    """Function (k, y, rates) -> y after the k-th length, for a linear model whose parameters do not vary."""
    n = len(system.state_type._fields)
    dense = [[True] * n] * n
    make = system.propagator if plan.method == "closed" else lambda q: expm_propagator(system.matrix(q))
    return repeated(make(p), system.state_type, reach(system.matrix(p)) if system.has("matrix") else dense, repeats.lengths, _fed(plan), lanes)


def _stepper(system: Any, plan: Plan, p: Any) -> Any:
    """Function (t, dt, y, held, control, row) -> (y, control): the flow along one segment by the plan's method."""
    if plan.method in LINEAR:
        make = system.propagator if plan.method == "closed" else lambda q: expm_propagator(system.matrix(q))
        once = None if plan.varying else make(p)
        fed = _fed(plan)

        def exact(t: Any, dt: Any, y: Any, held: Held, control: Any, row: Any) -> tuple[Any, Any]:
            # the number 0 where nothing can flow in: a closed form drops those terms
            rates = (r if i in fed else 0 for i, r in enumerate(held.rates))
            return (once or make(row))(dt, y, system.state_type(*rates)), control

        return exact
    if plan.method == "discrete":

        def discrete(t: Any, dt: Any, y: Any, held: Held, control: Any, row: Any) -> tuple[Any, Any]:
            return system.advance(t, dt, y, row, system.signal_type(*held.signals)), control

        return discrete

    def adapt(t: Any, dt: Any, y: Any, held: Held, control: Any, row: Any) -> tuple[Any, Any]:
        u = system.signal_type(*held.signals)

        def rhs(t: Any, y: Any) -> Any:
            d = system.derivative(t, y, row, u)
            return type(y)(*(v + r for v, r in zip(d, held.rates, strict=True)))

        return adaptive.advance(
            rhs, t, dt, y, control, method=plan.method, rtol=plan.rtol, atol=plan.atol, max_steps=plan.max_steps
        )

    return adapt
