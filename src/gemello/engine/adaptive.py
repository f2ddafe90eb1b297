"""Adaptive steps for a block of lanes in lockstep: one segment from t0 to t0 + dt, where each lane has its own clock.

A segment is integrated over s in [0, 1] with t = t0 + s·dt, so that lanes with segments of different length share every
step; the worst lane chooses its size. A step that is accepted or rejected is so for the whole block, and no lane is masked.

Step sizes come from the error per step with safety factor and limits (Hairer, Nørsett & Wanner, Solving ODEs I, eq. II.4.13).
All that concerns their choice lies under `stop_gradient`: forward-mode derivatives are those of the discrete map on the
steps that were taken, to any order, and the loops' conditions do not depend on tangents.

A lane that cannot go on (not finite, step below rounding, too many steps) is given up: it is marked with the time, its
error counts no more, and its state is NaN at the end. The other lanes go on within their tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gemello.engine.solvers import auto, rodas5p, tsit5
from gemello.engine.solvers.stages import Array, Slope

Rhs = Callable[[Array, Any], Any]

METHODS = ("auto", "tsit5", "rodas5p")
SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0
#: A step that reaches to this part of what is left of the segment is stretched to its end.
STRETCH = 0.95
#: Error that stands for one that is not finite.
HUGE = 1e10
#: Largest step carried to the next segment, in lengths of the present one: growth without evidence ends here.
CARRIED = 100.0


class Control(NamedTuple):
    """What one block carries from segment to segment."""

    step: Array  # scalar: next step in time of the longest lane; 0 before the first step
    stiff: Array  # scalar bool: `auto` uses Rodas5P now
    votes: Array  # scalar int: consecutive steps that spoke for the other method
    switches: Array  # scalar int: changes of method so far
    accepted: Array  # scalar int: steps accepted so far
    rejected: Array  # scalar int
    failed: Array  # (lanes,) bool: given up
    failure_time: Array  # (lanes,): time at which the lane was given up, NaN where it was not


class _Walk(NamedTuple):
    """State of the loop over steps of one segment."""

    s: Array
    span: Array  # scalar: segment of the longest lane that counts, 0 where there is none
    h: Array  # next step in s
    y: tuple[Array, ...]
    slope: tuple[Array, ...]  # f at (s, y); Tsit5's first stage
    lane_error: Array  # (lanes,) of the last step, over the tolerance
    live: Array  # (lanes,) bool: lanes that count
    tries: Array  # steps since the start of the segment, or since lanes were last given up
    trouble: Array  # bool: lanes must be given up before the next step
    control: Control


def start(lanes: int, dtype: Any) -> Control:
    """Control of a block before its first segment."""
    zero = jnp.zeros((), jnp.int32)
    no = jnp.zeros((), bool)
    return Control(
        jnp.zeros((), dtype), no, zero, zero, zero, zero, jnp.zeros((lanes,), bool), jnp.full((lanes,), jnp.nan, dtype)
    )


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
) -> tuple[Any, Control]:
    """State after one segment, and the control for the next one.

    `rhs(t, y)` gives the derivative (same structure as `y`); `t`, `t0`, `dt` and every entry of `y` have shape (lanes,). `dt` is
    at least 0; lanes with 0 stay, and a block of nothing else costs three evaluations of `rhs`. `method` is one of `METHODS`.
    The error of a step, over atol + rtol·|y|, is at most 1 in the root mean square over the states of each lane. `max_steps` bounds the steps, accepted
    or not, of one segment: at that number the lanes that need so many are given up. Lanes in `control.failed` are NaN.
    """
    if method not in METHODS:
        raise ValueError(f"adaptive: method {method!r}; use one of {', '.join(METHODS)}")
    leaves, tree = jax.tree.flatten(y)
    dtype = jnp.result_type(*leaves)
    shape = jnp.shape(t0)

    def f(t: Array, values: tuple[Array, ...]) -> tuple[Array, ...]:
        slopes = jax.tree.leaves(rhs(t, jax.tree.unflatten(tree, values)))
        return tuple(jnp.broadcast_to(jnp.asarray(k, dtype), shape) for k in slopes)

    old = tuple(jnp.broadcast_to(jnp.asarray(v, dtype), shape) for v in leaves)
    walk, clock = _begin(f, t0, dt, old, control, rtol, atol)
    phases = _phases(f, t0, clock, method, rtol, atol, max_steps)

    def go_on(w: _Walk) -> _Walk:
        w = phases[0](w) if len(phases) == 1 else lax.cond(w.control.stiff, phases[1], phases[0], w)
        return lax.cond(w.trouble, lambda w: _give_up(w, t0, clock, max_steps), lambda w: w, w)

    walk = lax.while_loop(lambda w: w.s < 1, go_on, walk)
    return _finish(f, t0, dt, tree, old, walk)


def _begin(
    f: Slope, t0: Array, dt: Array, y: tuple[Array, ...], control: Control, rtol: float, atol: float
) -> tuple[_Walk, Array]:
    """Loop state at the start of a segment, and the length of each lane's segment, 0 where the lane is given up."""
    slope = f(t0, y)
    fixed_dt = lax.stop_gradient(dt)
    finite = jnp.isfinite(t0) & jnp.isfinite(dt) & (dt >= 0) & _finite(y)
    fine = jnp.where(fixed_dt == 0, finite, finite & _finite(slope))
    control = _mark(control, ~fine, t0)
    live = (fixed_dt > 0) & ~control.failed
    clock = jnp.where(live, dt, 0)
    span = jnp.max(lax.stop_gradient(clock), initial=0)
    step = lax.cond(control.step > 0, lambda: control.step, lambda: _first_step(y, slope, live, rtol, atol))
    h = jnp.where(span > 0, jnp.minimum(step / jnp.where(span > 0, span, 1), CARRIED), 1)
    s = jnp.where(span > 0, 0, 1).astype(h.dtype)
    zero = jnp.zeros((), jnp.int32)
    return _Walk(s, span, h, y, slope, jnp.zeros_like(fixed_dt), live, zero, zero > 0, control), clock


def _first_step(y: tuple[Array, ...], slope: tuple[Array, ...], live: Array, rtol: float, atol: float) -> Array:
    """First guess (scalar): a hundredth of |y|/|y'| in the worst lane (Hairer, Nørsett & Wanner I, section II.4, step a)."""
    size = rate = jnp.zeros_like(y[0])
    for v, k in zip(lax.stop_gradient(y), lax.stop_gradient(slope), strict=True):
        scale = atol + rtol * jnp.abs(v)
        size = jnp.maximum(size, jnp.abs(v) / scale)
        rate = jnp.maximum(rate, jnp.abs(k) / scale)
    guess = 0.01 * jnp.maximum(size, 1e-3) / rate
    return jnp.min(jnp.where(live, guess, jnp.inf))


def _phases(
    f: Slope, t0: Array, clock: Array, method: str, rtol: float, atol: float, max_steps: int
) -> Sequence[Callable[[_Walk], _Walk]]:
    """Loops over steps of one method each: to the segment's end, to trouble, or to a change of method."""

    def explicit(w: _Walk) -> _Walk:
        def body(w: _Walk) -> _Walk:
            now, last, h = _attempt(w, clock)
            step = tsit5.step(f, t0 + w.s * clock, w.y, h, w.slope)
            new = _judge(w, now, last, step.y, step.error, step.slope, rtol, atol, max_steps)
            if method != "auto":
                return new
            radius = auto.explicit_radius(step, h, _scales(w.y, step.y, rtol, atol))
            return _vote(new, w, radius > auto.STIFF, jnp.any, auto.STIFF_STEPS)

        return lax.while_loop(lambda w: (w.s < 1) & ~w.trouble & ~w.control.stiff, body, w)

    def implicit(w: _Walk) -> _Walk:
        where = rodas5p.pattern(f, t0, w.y)

        def body(w: _Walk) -> _Walk:
            now, last, h = _attempt(w, clock)
            step = rodas5p.step(f, t0 + w.s * clock, w.y, h, where)
            new = _judge(w, now, last, step.y, step.error, w.slope, rtol, atol, max_steps)
            if method != "auto":
                return new
            radius = auto.implicit_radius(step, h, _scales(w.y, step.y, rtol, atol))
            return _vote(new, w, radius < auto.MILD, jnp.all, auto.MILD_STEPS)

        stay = method != "auto"
        w = lax.while_loop(lambda w: (w.s < 1) & ~w.trouble & (w.control.stiff | stay), body, w)
        return w if stay else w._replace(slope=f(t0 + w.s * clock, w.y))

    return {"tsit5": [explicit], "rodas5p": [implicit], "auto": [explicit, implicit]}[method]


def _attempt(w: _Walk, clock: Array) -> tuple[Array, Array, Array]:
    """Step in s, whether it ends the segment, and each lane's step in time. What is left is divided evenly."""
    rest = 1 - w.s
    parts = jnp.ceil(STRETCH * rest / w.h)
    last = parts <= 1
    now = jnp.where(last, rest, rest / jnp.maximum(parts, 1))
    return now, last, now * clock


def _scales(old: tuple[Array, ...], new: tuple[Array, ...], rtol: float, atol: float) -> tuple[Array, ...]:
    pairs = zip(lax.stop_gradient(old), lax.stop_gradient(new), strict=True)
    return tuple(atol + rtol * jnp.maximum(jnp.abs(a), jnp.abs(b)) for a, b in pairs)


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
    """Accept the step, or reject it, for the whole block; choose the next one."""
    squares = top = jnp.zeros_like(w.lane_error)
    for e, scale in zip(lax.stop_gradient(error), _scales(w.y, new, rtol, atol), strict=True):
        squares, top = squares + (e / scale) ** 2, jnp.maximum(top, scale)
    lane = jnp.sqrt(squares / len(new))
    lane = jnp.where(w.live, jnp.where(lane + top < jnp.inf, lane, HUGE), 0)  # false where either is NaN or infinite
    worst = jnp.max(lane)
    ok = worst <= 1
    factor = jnp.clip(SAFETY * jnp.maximum(worst, 1e-10) ** (-1 / tsit5.ORDER), SHRINK, GROW)
    h = now * factor
    h = jnp.where(ok & (factor >= GROW), jnp.maximum(h, w.h), h)  # a short step to the end says little about longer ones
    s = jnp.where(ok, jnp.where(last, 1, w.s + now), w.s)
    tries = w.tries + 1
    eps = float(jnp.finfo(w.s.dtype).eps)  # type: ignore[no-untyped-call]
    trouble = (s < 1) & ((~ok & (now <= 4 * eps * w.s + eps * eps)) | (tries >= max_steps))
    y = tuple(jnp.where(ok, b, a) for a, b in zip(w.y, new, strict=True))
    slope = tuple(jnp.where(ok, b, a) for a, b in zip(w.slope, slope, strict=True))
    control = w.control._replace(accepted=w.control.accepted + ok, rejected=w.control.rejected + ~ok)
    return w._replace(s=s, h=h, y=y, slope=slope, lane_error=lane, tries=tries, trouble=trouble, control=control)


def _vote(new: _Walk, old: _Walk, lanes: Array, over: Callable[[Array], Array], needed: int) -> _Walk:
    """Count an accepted step for or against a change of method (`over` the lanes), and change after `needed` of them."""
    ok = new.s > old.s
    aye = over(jnp.where(new.live, lax.stop_gradient(lanes), over is jnp.all))
    c = new.control
    votes = jnp.where(ok, jnp.where(aye, c.votes + 1, jnp.maximum(c.votes - 2, 0)), c.votes)
    change = votes >= needed
    control = c._replace(stiff=c.stiff ^ change, votes=jnp.where(change, 0, votes), switches=c.switches + change)
    return new._replace(control=control)


def _give_up(w: _Walk, t0: Array, clock: Array, max_steps: int) -> _Walk:
    """After trouble: mark the lanes to blame, restart with a moderate step for the others; no trouble, no change."""
    rest = 1 - w.s
    e = w.lane_error
    pace = rest / (w.h * jnp.maximum(e / jnp.maximum(jnp.max(e), 1e-10), 1e-10) ** (-1 / tsit5.ORDER))
    many = w.tries >= max_steps
    blamed = w.trouble & w.live & jnp.where(many, (e >= jnp.max(e)) | (pace > max_steps), e > 1)
    control = _mark(w.control, blamed, lax.stop_gradient(t0 + w.s * clock))
    live = w.live & ~blamed
    s = jnp.where(jnp.any(live), w.s, 1)
    h = jnp.where(w.trouble, jnp.maximum(w.h, 0.01 * rest), w.h)
    return w._replace(
        s=s, h=h, live=live, control=control, trouble=jnp.zeros_like(w.trouble), tries=jnp.where(w.trouble, 0, w.tries)
    )


def _finish(f: Slope, t0: Array, dt: Array, tree: Any, old: tuple[Array, ...], w: _Walk) -> tuple[Any, Control]:
    """States at the end. Lanes with dt = 0 get a midpoint step, which leaves them as they are but is differentiable in dt."""
    still = lax.stop_gradient(dt) == 0

    def stay(values: tuple[Array, ...]) -> tuple[Array, ...]:
        middle = tuple(v + dt / 2 * k for v, k in zip(old, _guarded(f(t0, old)), strict=True))
        rate = _guarded(f(t0 + dt / 2, middle))
        return tuple(jnp.where(still, a + dt * k, b) for a, b, k in zip(old, values, rate, strict=True))

    out = lax.cond(jnp.any(still), stay, lambda values: values, w.y)
    out = tuple(jnp.where(w.control.failed, jnp.nan, v) for v in out)
    step = jnp.where(w.span > 0, w.h * w.span, w.control.step)
    return jax.tree.unflatten(tree, out), w.control._replace(step=step)


def _guarded(values: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(jnp.where(jnp.isfinite(v), v, 0) for v in values)


def _mark(control: Control, lanes: Array, time: Array) -> Control:
    new = lanes & ~control.failed
    time = jnp.where(new, lax.stop_gradient(time), control.failure_time)
    return control._replace(failed=control.failed | new, failure_time=time)


def _finite(values: Sequence[Array]) -> Array:
    """Where all of the arrays are finite (lanes,)."""
    fine = jnp.isfinite(lax.stop_gradient(values[0]))
    for v in values[1:]:
        fine = fine & jnp.isfinite(lax.stop_gradient(v))
    return fine
