"""Many lanes driven by a periodic pulse, each at its own pace, by `solvers/rush_larsen`: beats of a heart cell, in particular.

Every pass of the loop is one step of every lane, each at its own time within its own beat, so lanes do not wait for one another
at the end of a beat. The step follows the error: what a step of order 2 changes on one of order 1, in units of each state's
scale. At the edges of the pulse the memory of the method begins anew with a short step.

A lane that cannot go on (not finite at the shortest step, or too many steps in a beat) is given up: it stands still from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from gemello.engine.kernel import loop
from gemello.engine.solvers import rush_larsen
from gemello.engine.solvers.rush_larsen import Coupled, Past

Array = Any

SAFETY, SHRINK, GROW = 0.9, 0.2, 1.3
SHORTEST = 1e-5  # of the unit of time: below it a step is taken whatever its error
REPEAT = 4.0  # times the tolerance: an error beyond it repeats the step


class Point(NamedTuple):
    """What the equations say at one point. slope, relaxation: (states, lanes). coupled: blocks. seen: values to be watched."""

    slope: Array
    relaxation: Array
    coupled: tuple[Coupled, ...]
    seen: tuple[Array, ...]


#: (t, y, stimulus) -> Point; y (states, lanes), t and the stimulus (lanes,).
Equations = Callable[[Array, Array, Array], Point]


class Drive(NamedTuple):
    """The pulse and the beats; entries scalar or (lanes,). amplitude holds from 0 to duration in each period."""

    period: Array
    amplitude: Array
    duration: Array
    beats: Array  # how many, as a float
    keep: Array  # the beat (from 0) from which on marks are kept


class Accuracy(NamedTuple):
    """tolerance: error of a step in units of the states' scales. first: step after an edge. longest: longest step."""

    tolerance: Array
    first: Array
    longest: Array


class Watch(Protocol):
    """What is noted of a beat, as it goes by. `Marks` is any tree of arrays (lanes,)."""

    def begin(self, y: Array) -> Any:
        """Marks at the start of a beat."""

    def note(self, marks: Any, time: Array, h: Array, old: Array, new: Array, here: Point, ratio: Array) -> Any:
        """Marks after the step from `time` to time + h, from state old to new; `here` is what the equations said at `time`."""

    def keep(self, kept: Any, marks: Any, beat: Array) -> Any:
        """What is kept when a beat ends (kept: of earlier beats)."""


class Walk(NamedTuple):
    """State of the loop; arrays are (lanes,)."""

    time: Array  # within the beat
    beat: Array
    h: Array  # next step
    before: Array  # the last step; 0 where there was none
    y: Array  # (states, lanes)
    past: Past  # (…, lanes)
    marks: Any
    kept: Any
    steps: Array
    failed: Array


def begin(equations: Equations, y: Array, watch: Watch, accuracy: Accuracy) -> Walk:
    """The loop's state before the first beat."""
    zero = jnp.zeros_like(y[0])
    blocks: list[tuple[Coupled, ...]] = []
    jax.eval_shape(lambda y: blocks.append(equations(zero, y, zero).coupled), y)  # which entries are zero, without their values
    past = rush_larsen.nothing(y, blocks[0])
    marks = watch.begin(y)
    return Walk(zero, zero, zero + accuracy.first, zero, y, past, marks, marks, zero, zero)


def walk(
    equations: Equations,
    scale: Callable[[Array], Array],
    watch: Watch,
    drive: Drive,
    accuracy: Accuracy,
    start: Walk,
    until: Array | None = None,
) -> Walk:
    """All beats; or, with `until`, the present beat up to that time in it.

    scale: y -> for each state what an error of 1 is, (states, lanes) or (states, 1).
    """

    def under_way(w: Walk) -> Array:
        if until is None:
            return w.beat < drive.beats
        return (w.time < until) & (w.beat < drive.beats)

    def body(w: Walk) -> Walk:
        on = under_way(w)
        pulse = w.time < drive.duration
        here = equations(w.time, w.y, jnp.where(pulse, drive.amplitude, 0.0))
        stop = jnp.where(pulse, drive.duration, drive.period)
        edge = jnp.ones_like(on)
        if until is not None:
            edge = until >= stop
            stop = jnp.minimum(stop, until)
        h, last = _fit(w.h, stop - w.time)
        h = jnp.where(on, h, 0.0)
        ratio = jnp.where(w.before > 0, 0.5 * h / jnp.where(w.before > 0, w.before, 1), 0)
        new, change, past = rush_larsen.step(w.y, here.slope, here.relaxation, here.coupled, h, ratio, w.past)
        size = jnp.max(jnp.abs(change) / scale(new), axis=0)
        finite = jnp.isfinite(jnp.sum(new, axis=0))
        size = jnp.where(finite, size * (1.0 / accuracy.tolerance), 1e12)
        ok = finite & ((size <= REPEAT) | (h <= SHORTEST))
        lost = on & ~finite & (h <= SHORTEST)
        factor = jnp.where((w.before > 0) | ~finite, jnp.clip(SAFETY * lax.rsqrt(jnp.maximum(size, 1e-6)), SHRINK, GROW), GROW)
        move = ok & on
        time = jnp.where(last, stop, w.time + h)
        marks = watch.note(w.marks, w.time, h, w.y, new, here, ratio)
        y, past, marks = _where(move, (new, past, marks), (w.y, w.past, w.marks))
        following = jnp.minimum(jnp.where(last & ok, jnp.maximum(w.h, h), h) * factor, accuracy.longest)
        anew = move & last & edge
        time = jnp.where(move, time, w.time)
        end = move & (time >= drive.period)
        kept = _where(end & (w.beat >= drive.keep), watch.keep(w.kept, marks, w.beat), w.kept)
        marks = _where(end, watch.begin(y), marks)
        beat = jnp.where(lost, jnp.inf, w.beat + end)
        return Walk(
            time=jnp.where(end, 0.0, time),
            beat=beat,
            h=jnp.where(on, jnp.where(anew, accuracy.first, following), w.h),
            before=jnp.where(anew, 0.0, jnp.where(move, h, w.before)),
            y=y,
            past=past,
            marks=marks,
            kept=kept,
            steps=w.steps + on,
            failed=w.failed + lost,
        )

    return loop(lambda w: jnp.sum(under_way(w), dtype=jnp.int32) > 0, body, start)


def _fit(h: Array, left: Array) -> tuple[Array, Array]:
    """The step that is taken where `left` is left to the next stop, and whether it reaches the stop; no sliver remains."""
    last = h >= left * (1 - 1e-6)
    return jnp.where(last, left, jnp.where(2.0 * h > left, 0.5 * left, h)), last


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
