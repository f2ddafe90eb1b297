"""One block of lanes through all its slots: flow along a segment, act, read out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gemello.base.errors import UnsupportedError
from gemello.engine import adaptive, dense
from gemello.engine.events import Actions, Held, act, resolve
from gemello.engine.plan import END, NONE, PAD, START, STEADY, STEADY_RATE, Plan, Repeats, Slots, Solved
from gemello.engine.reduce import reduced
from gemello.engine.solvers import auto, grl2, rodas5p
from gemello.engine.solvers.dependence import dependence
from gemello.engine.solvers.linear import expm_propagator
from gemello.engine.solvers.repeated import reach, repeated
from gemello.engine.solvers.rush_larsen import Coupled

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
    equations; for rush_larsen also `relaxation`, `coupled` and `coupling`) and the types `state_type`, `signal_type`. p:
    individual parameters, entries (lanes,) or (records, lanes).
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

    def slot(carry: Any, row_of_slot: tuple[Actions, Any], reader: Any = None, reading: Any = None) -> Any:
        (time, y, held, control), (a, length) = carry, row_of_slot
        now = fill(a.time)
        row = _row(p, a.segment, plan)
        if leap is not None:
            y = leap(length, y, held.rates)
        else:
            y, control, reading = step(time, jnp.maximum(now - time, 0.0), y, held, control, row, reader, reading)
        flow = lambda dt, y, rates: step(now, fill(dt), y, held._replace(rates=rates), control, row)[0]  # noqa: E731
        initial = system.state_type(*(fill(v) for v in system.initial(row)))
        y, held = act(a, y, held, initial, flow, plan, plan.method in LINEAR)
        out = system.observe(now, y, row, system.signal_type(*held.signals))
        seen = tuple(fill(out[k]) for k in chosen) + (tuple(y) if states else ())
        after = (now, y, held, control)
        return (after, seen) if reader is None else (after, seen, reading)

    def quiet(carry: Any, _: Any) -> tuple[Any, Any]:
        """Beyond the last slot of every lane: nothing to do."""
        return carry, (zero,) * (len(chosen) + (len(y) if states else 0))

    def body(carry: Any, here: tuple[Actions, Any]) -> tuple[Any, Any]:
        if not plan.ragged:
            return slot(carry, here)
        return jax.lax.cond(jnp.all(here[0].kind == PAD), quiet, slot, carry, here)

    start = fill(actions.time[0])
    if plan.method in adaptive.METHODS and not plan.varying and NONE in plan.kinds:
        control, seen = _between(system, plan, p, actions, chosen, states, step, (start, y, held, control), slot)
    else:
        (_, _, _, control), seen = jax.lax.scan(
            body, (start, y, held, control), (actions, repeats.which if repeats is not None and known else None)
        )
    pick = _picker(records, where, lanes)
    seen = tuple(map(pick, seen))
    lost = ~jnp.isfinite(sum(jnp.sum(v, axis=0) for v in seen)) if seen else jnp.zeros(lanes, bool)
    find = lambda: _first_loss(seen, pick(jnp.broadcast_to(actions.time, (actions.time.shape[0], lanes))))  # noqa: E731
    when = jax.lax.cond(jnp.any(lost), find, lambda: jnp.full(lanes, jnp.nan, actions.time.dtype))
    when = jnp.where(control.failed, control.failure_time, when)
    n = len(chosen)
    return Solved(seen[:n], control.failed | lost, when, seen[n:], jnp.stack([control.accepted, control.rejected]))


def _between(
    system: Any, plan: Plan, p: Any, actions: Actions, chosen: Any, states: bool, step: Any, first: Any, slot: Any
) -> tuple[Any, Any]:
    """Stop only at slots where something happens in a lane of the block; the others are read out between steps.

    Returns the control at the end and (slots, lanes) of every value read out.
    """
    slots, lanes = actions.kind.shape[0], first[0].shape[0]
    happens = jnp.any((actions.kind != NONE) & (actions.kind != PAD), axis=1)
    number = jnp.arange(slots, dtype=jnp.int32)
    following = jax.lax.cummin(jnp.where(happens, number, slots - 1), reverse=True)
    wanted = tuple(range(len(first[1]))) if states else _wanted(system, plan, p, chosen, lanes)

    def one(carry: Any) -> Any:
        k, (time, y, held, control), reading = carry
        n = following[k]
        a = Actions(*(jax.lax.dynamic_index_in_dim(v, n, keepdims=False) for v in actions))

        def observe(k: Any, values: Any) -> Any:
            now = jnp.broadcast_to(jax.lax.dynamic_index_in_dim(actions.time, k, keepdims=False), (lanes,))
            known = dict(zip(wanted, values, strict=True))
            state = type(y)(*(known.get(i, v) for i, v in enumerate(y)))
            out = system.observe(now, state, p, system.signal_type(*held.signals))
            seen = tuple(jnp.broadcast_to(jnp.asarray(out[i], now.dtype), (lanes,)) for i in chosen)
            return seen + (tuple(state) if states else ())

        reader = dense.Reader(actions.time, n, wanted, observe)
        carry, seen, reading = slot((time, y, held, control), (a, None), reader, reading._replace(next=k))
        put = lambda old, v: jax.lax.dynamic_update_index_in_dim(old, v, n, 0)  # noqa: E731
        return n + 1, carry, reading._replace(seen=tuple(map(put, reading.seen, seen)))

    reading = dense.reading(slots, lanes, len(wanted), len(chosen) + (len(first[1]) if states else 0), actions.time.dtype)
    _, (_, _, _, control), reading = jax.lax.while_loop(
        lambda c: c[0] < slots, one, (jnp.zeros((), number.dtype), first, reading)
    )
    return control, reading.seen


def _wanted(system: Any, plan: Plan, p: Any, chosen: Any, lanes: int) -> tuple[int, ...]:
    """States on which the outputs chosen depend, by index."""
    one = jnp.ones(lanes)
    y = system.state_type(*(one for _ in system.state_type._fields))
    u = system.signal_type(*(one for _ in range(plan.signals)))

    def seen(y: Any) -> Any:
        out = system.observe(one, y, p, u)
        return [jnp.asarray(out[k]) + 0 * one for k in chosen]

    found = dependence(jax.make_jaxpr(seen)(y).jaxpr, [frozenset([i]) for i in range(len(y))], derivative=False)
    return tuple(sorted(frozenset[int]().union(*found)))


def speed(system: Any, plan: Plan, p: Any, lanes: int) -> Any:
    """How fast each lane's equations are at the start, 1/time (lanes,): a norm of their Jacobian, in the error's units.

    Lanes of like speed make a good block where the block shares its steps (`engine/lockstep.py`).
    """
    fill = lambda v: jnp.broadcast_to(jnp.asarray(v, float), (lanes,))  # noqa: E731
    y = tuple(fill(v) for v in system.initial(p))
    u = system.signal_type(*(fill(0.0) for _ in range(plan.signals)))

    def f(t: Any, y: Any) -> Any:
        return tuple(map(fill, system.derivative(t, system.state_type(*y), p, u)))

    time = fill(0.0)
    rows, _ = rodas5p.derivatives(f, time, y, rodas5p.pattern(f, time, y))
    norm = auto.jacobian_norm(rows, tuple(jnp.ones(lanes) for _ in y))
    return jnp.where(jnp.isfinite(norm), norm, jnp.inf)


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
    return repeated(
        make(p), system.state_type, reach(system.matrix(p)) if system.has("matrix") else dense, repeats.lengths, _fed(plan), lanes
    )


def _stepper(system: Any, plan: Plan, p: Any) -> Any:
    """Function (t, dt, y, held, control, row) -> (y, control): the flow along one segment by the plan's method."""
    if plan.method in LINEAR:
        make = system.propagator if plan.method == "closed" else lambda q: expm_propagator(system.matrix(q))
        once = None if plan.varying else make(p)
        fed = _fed(plan)

        def exact(
            t: Any, dt: Any, y: Any, held: Held, control: Any, row: Any, reader: Any = None, reading: Any = None
        ) -> tuple[Any, Any, Any]:
            # the number 0 where nothing can flow in: a closed form drops those terms
            rates = (r if i in fed else 0 for i, r in enumerate(held.rates))
            return (once or make(row))(dt, y, system.state_type(*rates)), control, None

        return exact
    if plan.method == "discrete":
        if plan.kinds & {START, END, STEADY, STEADY_RATE}:
            raise UnsupportedError(
                "a discrete model (`advance`) takes no infusions and no steady state; write them as doses at once (RATE 0, SS 0)"
            )

        def discrete(
            t: Any, dt: Any, y: Any, held: Held, control: Any, row: Any, reader: Any = None, reading: Any = None
        ) -> tuple[Any, Any, Any]:
            return system.advance(t, dt, y, row, system.signal_type(*held.signals)), control, None

        return discrete

    def adapt(
        t: Any, dt: Any, y: Any, held: Held, control: Any, row: Any, reader: Any = None, reading: Any = None
    ) -> tuple[Any, Any, Any]:
        u = system.signal_type(*held.signals)

        def rhs(t: Any, y: Any) -> Any:
            d = system.derivative(t, y, row, u)
            return type(y)(*(v + r for v, r in zip(d, held.rates, strict=True)))

        return adaptive.advance_reading(
            rhs, t, dt, y, control, reader, reading, method=plan.method, rtol=plan.rtol, atol=plan.atol,
            max_steps=plan.max_steps, equations=_local(system, rhs, row, u) if plan.method == "rush_larsen" else None,
        )  # fmt: skip

    return adapt


def _local(system: Any, rhs: Any, p: Any, u: Any) -> grl2.Equations:
    """The equations with their relaxation rates and the matrices of states that hold one another, states in one array."""
    names = system.state_type._fields
    groups = [tuple(names.index(n) for n in group) for group in system.coupled]

    def equations(t: Any, y: Any) -> grl2.Local:
        fill = lambda v: jnp.broadcast_to(jnp.asarray(v, y.dtype), y.shape[1:])  # noqa: E731
        state = system.state_type(*y)
        slope = jnp.stack([*map(fill, rhs(t, state))])
        relaxation = jnp.stack([*map(fill, system.relaxation(t, state, p, u))])
        matrices = system.coupling(t, state, p, u) if groups else ()
        return grl2.Local(slope, relaxation, tuple(Coupled(g, m) for g, m in zip(groups, matrices, strict=True)))

    return equations
