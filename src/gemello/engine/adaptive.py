"""Adaptive steps for a block of lanes side by side: one segment from t0 to t0 + dt, where each lane has its own clock and pace.

A segment is integrated over s in [0, 1] with t = t0 + s·dt. Every pass of the loop is one step of every lane, each of a size
of its own, accepted or rejected by its own error; a lane that has arrived takes steps of length 0 until the last one has. So a
lane's answer does not depend on its neighbours (but for `auto`, where the block shares the method), and a block costs as many
passes as its busiest lane has steps. Between stops the values wanted come from each step's own polynomial (`dense.py`).

Step sizes come from the error per step with safety factor and limits (Hairer, Nørsett & Wanner, Solving ODEs I, eq. II.4.13).
All that concerns their choice lies under `stop_gradient`: forward-mode derivatives are those of the discrete map on the
steps that were taken, to any order, and the loops' conditions do not depend on tangents.

A lane that cannot go on (not finite, step below rounding, too many steps) is given up: it is marked with the time, and its
state is NaN from there. The other lanes do not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gemello.engine import dense, lockstep, pace
from gemello.engine.kernel import loop
from gemello.engine.solvers import auto, grl2, rodas5p, tsit5
from gemello.engine.solvers.stages import Array, Slope, together

Rhs = Callable[[Array, Any], Any]

METHODS = ("auto", "tsit5", "rodas5p", "rush_larsen")
#: Largest step carried to the next segment, in lengths of the present one: growth without evidence ends here.
CARRIED = 100.0
#: Added to the clock of a lane that is given up: beyond the end, yet it tells when.
LOST = 2.0
#: Bits of a float32 x^(-1/10) less a tenth of those of x, nearly: 1.1 times the bits of 1, less a bit for balance.
ROOT_BITS = 1.1717e9


class Control(NamedTuple):
    """What one block carries from segment to segment."""

    step: Array  # (lanes,): next step in time; 0 before the first step
    stiff: Array  # scalar bool: `auto` uses Rodas5P now
    votes: Array  # scalar int: consecutive steps that spoke for the other method
    switches: Array  # scalar int: changes of method so far
    accepted: Array  # (lanes,) int: steps accepted so far
    rejected: Array  # (lanes,) int
    failed: Array  # (lanes,) bool: given up
    failure_time: Array  # (lanes,): time at which the lane was given up, NaN where it was not


class _Walk(NamedTuple):
    """State of the loop over steps of one segment; arrays are (lanes,). Rush-Larsen steps have all states in one array, (states,
    lanes), the only entry of `y` and of `slope`: a model of 50 states compiles ten times sooner so."""

    s: Array  # 1 at the end; LOST and more for a lane given up
    h: Array  # next step in s
    y: tuple[Array, ...]
    slope: tuple[Array, ...]  # f at (s, y); Tsit5's first stage
    tries: Array  # scalar: passes since the start of the segment
    accepted: Array
    rejected: Array
    votes: tuple[Array, Array, Array]  # stiff, votes, switches
    log: dense.Log | None


def start(lanes: int, dtype: Any) -> Control:
    """Control of a block before its first segment."""
    zero, none = jnp.zeros((), jnp.int32), jnp.zeros((lanes,), jnp.int32)
    nan = jnp.full((lanes,), jnp.nan, dtype)
    return Control(jnp.zeros((lanes,), dtype), jnp.zeros((), bool), zero, zero, none, none, jnp.zeros((lanes,), bool), nan)


def advance(
    rhs: Rhs,
    t0: Array,
    dt: Array,
    y: Any,
    control: Control,
    *,
    method: str = "auto",
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_steps: int = 10_000,
    equations: grl2.Equations | None = None,
) -> tuple[Any, Control]:
    """State after one segment, and the control for the next one.

    `rhs(t, y)` gives the derivative (same structure as `y`); `t`, `t0`, `dt` and every entry of `y` have shape (lanes,). `dt` is
    at least 0; lanes with 0 stay, and a block of nothing else costs three evaluations of `rhs`. `method` is one of `METHODS`;
    "rush_larsen" needs `equations` (t, y) -> `grl2.Local`, y (states, lanes).
    The error of a step, over atol + rtol·|y|, is at most 1 in the root mean square over the states of each lane. `max_steps`
    bounds the steps, accepted or not, of one segment: lanes that need more are given up. Lanes in `control.failed` are NaN.
    """
    return advance_reading(
        rhs, t0, dt, y, control, None, None, method=method, rtol=rtol, atol=atol, max_steps=max_steps, equations=equations
    )[:2]


def advance_reading(
    rhs: Rhs,
    t0: Array,
    dt: Array,
    y: Any,
    control: Control,
    reader: dense.Reader | None,
    reading: dense.Reading | None,
    *,
    method: str,
    rtol: float,
    atol: float,
    max_steps: int,
    equations: grl2.Equations | None = None,
) -> tuple[Any, Control, dense.Reading | None]:
    """`advance`, and what was read out on the way as `reader` says (None: nothing)."""
    if method not in METHODS:
        raise ValueError(f"adaptive: method {method!r}; use one of {', '.join(METHODS)}")
    stacked = method == "rush_larsen"
    if stacked and equations is None:
        raise ValueError("adaptive: method 'rush_larsen' without equations; give the slopes with their relaxation rates")
    leaves, tree = jax.tree.flatten(y)
    dtype = jnp.result_type(*leaves)
    shape = jnp.shape(t0)

    def f(t: Array, values: tuple[Array, ...]) -> tuple[Array, ...]:
        slopes = jax.tree.leaves(rhs(t, jax.tree.unflatten(tree, values[0] if stacked else values)))
        wide = tuple(jnp.broadcast_to(jnp.asarray(k, dtype), shape) for k in slopes)
        return (jnp.stack(wide),) if stacked else wide

    old = tuple(jnp.broadcast_to(jnp.asarray(v, dtype), shape) for v in leaves)
    old = (jnp.stack(old),) if stacked else old
    walk, clock, control = _begin(f, t0, dt, old, control, rtol, atol)
    wanted = reader.wanted if reader is not None else ()
    if equations is not None and stacked:
        phases: Sequence[Callable[[_Walk], _Walk]] = [_rush_larsen(equations, t0, clock, rtol, atol, max_steps, wanted)]
    else:
        phases = _phases(f, t0, clock, method, rtol, atol, max_steps, wanted)

    def go_on(carry: tuple[_Walk, Any]) -> tuple[_Walk, Any]:
        w, r = carry
        if reader is not None:
            w = w._replace(log=dense.begin(r.log, w.s, tuple(w.y[0]) if stacked else w.y, wanted))
        w = phases[0](w) if len(phases) == 1 else lax.cond(w.votes[0], phases[1], phases[0], w)
        if reader is not None:
            r = dense.read_out(r._replace(log=w.log), reader, w.s, t0, clock)
        return w._replace(log=None), r

    def more(carry: tuple[_Walk, Any]) -> Array:
        w, r = carry
        return _under_way(w) if reader is None else _under_way(w) | (r.next < reader.stop)

    if method == "tsit5" and reader is not None and reader.times.shape[1] == 1:
        walk, reading = _march(f, t0, clock, walk, reader, reading, rtol, atol, max_steps)
    walk, reading = lax.while_loop(more, go_on, (walk, reading))
    out, control = _finish(f, t0, dt, old, walk, clock, control)
    return jax.tree.unflatten(tree, out[0] if stacked else out), control, reading


def _march(
    f: Slope, t0: Array, clock: Array, w: _Walk, reader: dense.Reader, r: Any, rtol: float, atol: float, max_steps: int
) -> tuple[_Walk, dense.Reading]:
    """The segment in lockstep, as far as that goes."""
    going = w.s < 1
    h, zero = jnp.min(jnp.where(going, w.h, CARRIED)), jnp.zeros((), jnp.int32)
    first = lockstep.March(jnp.min(w.s), h, w.y, w.slope, zero, zero, zero > 0, r.seen, r.next)
    m = lockstep.march(f, t0, clock, first, reader, rtol, atol, max_steps)
    w = w._replace(
        s=jnp.where(going, m.s, w.s), h=jnp.where(going, m.h, w.h), y=m.y, slope=m.slope,
        accepted=w.accepted + jnp.where(going, m.accepted, 0), rejected=w.rejected + jnp.where(going, m.rejected, 0),
    )  # fmt: skip
    return w, r._replace(seen=m.seen, next=m.next)


def _under_way(w: _Walk) -> Array:
    return jnp.sum(w.s < 1, dtype=jnp.int32) > 0  # integers are summed several at a time; `any` and `min` are not


def _begin(
    f: Slope, t0: Array, dt: Array, y: tuple[Array, ...], control: Control, rtol: float, atol: float
) -> tuple[_Walk, Array, Control]:
    """Loop state at the start of a segment, and the length of each lane's segment, 0 where the lane is given up."""
    slope = f(t0, y)
    fixed_dt = lax.stop_gradient(dt)
    finite = jnp.isfinite(t0) & jnp.isfinite(dt) & (dt >= 0) & _finite(y)
    fine = jnp.where(fixed_dt == 0, finite, finite & _finite(slope))
    control = _mark(control, ~fine, t0)
    live = (fixed_dt > 0) & ~control.failed
    clock = jnp.where(live, dt, 0)
    fresh = live & (control.step <= 0)
    step = lax.cond(
        jnp.any(fresh), lambda: jnp.where(fresh, _first_step(y, slope, rtol, atol), control.step), lambda: control.step
    )
    h = jnp.where(live, jnp.minimum(step / jnp.where(live, fixed_dt, 1), CARRIED), 1)
    s = jnp.where(live, 0, 1).astype(h.dtype)
    y = tuple(jnp.where(control.failed, jnp.nan, v) for v in y)
    votes = (control.stiff, control.votes, control.switches)
    return _Walk(s, h, y, slope, jnp.zeros((), jnp.int32), control.accepted, control.rejected, votes, None), clock, control


def _first_step(y: tuple[Array, ...], slope: tuple[Array, ...], rtol: float, atol: float) -> Array:
    """First guess (lanes,): a hundredth of |y|/|y'| (Hairer, Nørsett & Wanner I, section II.4, step a)."""
    size = rate = jnp.zeros_like(y[0][0] if y[0].ndim > 1 else y[0])
    for v, k in zip(lax.stop_gradient(y), lax.stop_gradient(slope), strict=True):
        scale = atol + rtol * jnp.abs(v)
        size = jnp.maximum(size, _over_states(jnp.max, jnp.abs(v) / scale))
        rate = jnp.maximum(rate, _over_states(jnp.max, jnp.abs(k) / scale))
    return 0.01 * jnp.maximum(size, 1e-3) / rate


def _phases(
    f: Slope, t0: Array, clock: Array, method: str, rtol: float, atol: float, max_steps: int, wanted: Sequence[int]
) -> Sequence[Callable[[_Walk], _Walk]]:
    """Loops over steps of one method each: to the segment's end, to a full log, or to a change of method."""

    def room(w: _Walk) -> Any:
        return True if w.log is None else w.log.taken < dense.CAPACITY

    def noted(w: _Walk, bend: dense.Bend) -> _Walk:
        return w if w.log is None else w._replace(log=dense.note(w.log, w.s, w.y, bend, wanted))

    def explicit(w: _Walk) -> _Walk:
        def body(w: _Walk) -> _Walk:
            now, last = pace.attempt(w.s, w.h)
            h = now * clock
            step = tsit5.step(f, t0 + w.s * clock, w.y, h, w.slope)
            new = noted(_judge(w, now, last, step.y, step.error, step.slope, rtol, atol, max_steps), dense.Bend(*step.bend))
            if method != "auto":
                return new
            radius = auto.explicit_radius(step, h, pace.scales(w.y, step.y, rtol, atol))
            return _vote(new, w, radius > auto.STIFF, jnp.any, auto.STIFF_STEPS)

        return loop(lambda w: _under_way(w) & ~w.votes[0] & room(w), body, w)

    def implicit(w: _Walk) -> _Walk:
        where = rodas5p.pattern(f, t0, w.y)

        def body(w: _Walk) -> _Walk:
            now, last = pace.attempt(w.s, w.h)
            h = now * clock
            step = rodas5p.step(f, t0 + w.s * clock, w.y, h, where)
            new = noted(_judge(w, now, last, step.y, step.error, w.slope, rtol, atol, max_steps), dense.Bend(*step.bend))
            if method != "auto":
                return new
            radius = auto.implicit_radius(step, h, pace.scales(w.y, step.y, rtol, atol))
            return _vote(new, w, radius < auto.MILD, jnp.all, auto.MILD_STEPS)

        stay = method != "auto"
        w = loop(lambda w: _under_way(w) & (w.votes[0] | stay) & room(w), body, w)
        return w if stay else w._replace(slope=f(t0 + jnp.minimum(w.s, 1) * clock, w.y))

    return {"tsit5": [explicit], "rodas5p": [implicit], "auto": [explicit, implicit]}[method]


def _rush_larsen(
    equations: grl2.Equations, t0: Array, clock: Array, rtol: float, atol: float, max_steps: int, wanted: Sequence[int]
) -> Callable[[_Walk], _Walk]:
    """Loop over Rush-Larsen steps: to the segment's end, or to a full log."""

    def body(w: _Walk) -> _Walk:
        now, last = pace.attempt(w.s, w.h)
        (old,) = w.y
        step = grl2.step(equations, t0 + w.s * clock, old, now * clock)
        square = pace.stacked_square(step.error, old, step.y, rtol, atol)
        factor = jnp.clip(pace.SAFETY * jnp.maximum(square, 1e-20) ** (-0.5 / grl2.ORDER), pace.SHRINK, pace.GROW)
        new = _go_on(w, now, last, square <= 1, factor, (step.y,), w.slope, max_steps)
        if new.log is None:
            return new
        none = (jnp.zeros_like(clock),) * len(old)
        bend = dense.Bend(tuple(step.bend), none, none)
        return new._replace(log=dense.note(new.log, new.s, tuple(new.y[0]), bend, wanted))

    def room(w: _Walk) -> Any:
        return True if w.log is None else w.log.taken < dense.CAPACITY

    return lambda w: loop(lambda w: _under_way(w) & room(w), body, w)


def _judge(
    w: _Walk,
    now: Array,
    last: Array,
    new: tuple[Array, ...],
    error: tuple[Array, ...],
    slope: tuple[Array, ...],
    rtol: float,
    atol: float,
    max_steps: int,
) -> _Walk:
    """Accept each lane's step, or reject it; choose its next one; give up lanes that cannot go on."""
    size, now, *rest = together([pace.square(error, w.y, new, rtol, atol), now, *new])
    return _go_on(w, now, last, size <= 1, _factor(size), tuple(rest), slope, max_steps)


def _go_on(
    w: _Walk, now: Array, last: Array, ok: Array, factor: Array, new: tuple[Array, ...], slope: tuple[Array, ...], max_steps: int
) -> _Walk:
    """The walk after a step of length `now` to `new` that is `ok` or not; `factor` times it is the next one."""
    h = pace.grown(now, factor, ok, w.h)
    on = w.s < 1
    s = jnp.where(ok & on, jnp.where(last, 1, w.s + now), w.s)
    tries = w.tries + 1
    lost = (s < 1) & ((~ok & pace.too_short(now, w.s)) | (tries >= max_steps))
    y = tuple(jnp.where(lost, jnp.nan, jnp.where(ok, b, a)) for a, b in zip(w.y, new, strict=True))
    slope = tuple(jnp.where(ok, b, a) for a, b in zip(w.slope, slope, strict=True))
    s = jnp.where(lost, LOST + s, s)
    return w._replace(s=s, h=h, y=y, slope=slope, tries=tries, accepted=w.accepted + (ok & on), rejected=w.rejected + (~ok & on))


def _factor(square: Array) -> Array:
    """SAFETY times the tenth root of 1/square, within 2 %: from the exponent's bits and one Newton step, as quick as it gets."""
    x = jnp.maximum(square, 1e-20).astype(jnp.float32)
    bits = lax.bitcast_convert_type(x, jnp.int32).astype(jnp.float32)
    r = lax.bitcast_convert_type((ROOT_BITS - 0.1 * bits).astype(jnp.int32), jnp.float32)
    r5 = r * r * r * r * r
    r = r * (1.1 - 0.1 * x * r5 * r5)
    return jnp.clip(pace.SAFETY * r, pace.SHRINK, pace.GROW).astype(square.dtype)


def _vote(new: _Walk, old: _Walk, lanes: Array, over: Callable[[Array], Array], needed: int) -> _Walk:
    """Count a step for or against a change of method (`over` the lanes that moved), and change after `needed` of them."""
    moved = new.s > old.s
    aye = over(jnp.where(moved & (new.s <= 1), lax.stop_gradient(lanes), over is jnp.all))
    stiff, votes, switches = old.votes
    votes = jnp.where(jnp.any(moved), jnp.where(aye, votes + 1, jnp.maximum(votes - 2, 0)), votes)
    change = votes >= needed
    return new._replace(votes=(stiff ^ change, jnp.where(change, 0, votes), switches + change))


def _finish(
    f: Slope, t0: Array, dt: Array, old: tuple[Array, ...], w: _Walk, clock: Array, control: Control
) -> tuple[tuple[Array, ...], Control]:
    """States at the end. Lanes with dt = 0 get a midpoint step, which leaves them as they are but is differentiable in dt."""
    still = lax.stop_gradient(dt) == 0
    length = lax.stop_gradient(clock)
    control = _mark(control, w.s >= LOST, t0 + (w.s - LOST) * length)

    def stay(values: tuple[Array, ...]) -> tuple[Array, ...]:
        middle = tuple(v + dt / 2 * k for v, k in zip(old, _guarded(f(t0, old)), strict=True))
        rate = _guarded(f(t0 + dt / 2, middle))
        return tuple(jnp.where(still, a + dt * k, b) for a, b, k in zip(old, values, rate, strict=True))

    out = lax.cond(jnp.any(still), stay, lambda values: values, w.y)
    out = tuple(jnp.where(control.failed, jnp.nan, v) for v in out)
    step = jnp.where(length > 0, w.h * length, control.step)
    stiff, votes, switches = w.votes
    control = control._replace(step=step, stiff=stiff, votes=votes, switches=switches, accepted=w.accepted, rejected=w.rejected)
    return out, control


def _guarded(values: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(jnp.where(jnp.isfinite(v), v, 0) for v in values)


def _mark(control: Control, lanes: Array, time: Array) -> Control:
    new = lanes & ~control.failed
    time = jnp.where(new, lax.stop_gradient(time), control.failure_time)
    return control._replace(failed=control.failed | new, failure_time=time)


def _finite(values: Sequence[Array]) -> Array:
    """Where all of the arrays are finite (lanes,)."""
    fine = _over_states(jnp.all, jnp.isfinite(lax.stop_gradient(values[0])))
    for v in values[1:]:
        fine = fine & jnp.isfinite(lax.stop_gradient(v))
    return fine


def _over_states(f: Callable[..., Array], v: Array) -> Array:
    """`f` over the states where they are in one array."""
    return f(v, axis=0) if v.ndim > 1 else v
