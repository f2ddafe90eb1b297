"""The periodic steady state of paced cells in some tens of beats instead of a thousand.

A beat maps the state at its start to the state at its end, x → G(x); sodium, potassium and the store of calcium drift to its
fixed point over hundreds of beats. Anderson's acceleration (J ACM 1965; Walker & Ni, SIAM J Numer Anal 2011, type II) combines
the last few beats so that what still changes cancels. Its weights add up to 1, hence the charge of the cell, which pacing
conserves and which decides among steady states, stays what it was at the start, as it does over a thousand beats.

Where the drift takes far more than 1,000 beats the two differ: ToR-ORd under strong block of IKr (potassium and chloride), by
tens of ms. Use `pace` where a number of beats is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gemello.base.errors import ModelError
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.pacing import TOLERANCE, Paced, Trace, check_beats, pace, scales, values

MEMORY = 6  # beats that are combined
SETTLE = 5  # plain beats before
CLOSE = 1e-6  # what a beat still changes, in units of the states' scales, at which a cell counts as steady
RIDGE = 1e-12
UNBOUND = 0.05  # a cell whose drug has this much further to go after all beats is paced through them
AFTER = 3  # beats in which the rest of a cell follows its bound drug
COARSE, ROUGH = 1e-3, 1e-5  # where a tighter tolerance is asked for: tolerance of the way there, and what may still change
Array = np.ndarray


def steady(
    model: CellModel,
    parameters: Mapping[str, Any] | None = None,
    *,
    cycle_length: Any = 1000.0,
    beats: int = 1000,
    most: int = 150,
    close: float = CLOSE,
    state: Any = None,
    dtype: str = "float64",
    tolerance: float = TOLERANCE,
    trace: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Paced:
    """Cells after so many beats that nothing changes any more, as `pace` gives them.

    Cells that do not come to rest within `most` beats (alternans, early afterdepolarisations from beat to beat) are paced for all
    of `beats` beats instead, from the start. progress: called with the number of cells at rest and of all after each beat.
    """
    check_beats(model, beats)
    if not close > 0.0 or most < 0:
        raise ModelError(f"{model.name}: at rest by {close:g} within {most} beats; give a change above 0 and 0 beats or more")
    given = {n: values(model, n, v) for n, v in (parameters or {}).items()}
    given[""] = values(model, "cycle length", cycle_length)
    run = partial(_beats, model, given, dtype)
    once = run(None, 1, max(tolerance, COARSE), state)
    first = run(None, SETTLE, max(tolerance, COARSE), once.state)
    x, sound = np.stack(first.state), ~first.failed
    stages = [(COARSE, max(close, ROUGH))] if tolerance < COARSE else []
    for size, enough in (*stages, (tolerance, close)):
        x, done = _at_rest(model, partial(run, beats=1, tolerance=size), x, sound, enough, most, progress)
    if model.bound:
        x, share = _not_yet_bound(model, run, x, state, once, beats, tolerance)
        done &= np.abs(1.0 - share) < UNBOUND
    out = run(None, 1, tolerance, tuple(x), trace)
    late = np.flatnonzero(~done)
    if late.size:
        start = None if state is None else tuple(np.broadcast_to(v, done.size)[late] for v in state)
        out = _merge(out, late, run(late, beats, tolerance, start, trace))
    return out


def _beats(
    model: CellModel,
    given: Mapping[str, Array],
    dtype: str,
    cells: Array | None,
    beats: int,
    tolerance: float,
    state: Any,
    trace: float | None = None,
    room: int = 0,
) -> Paced:
    """Beats of some of the cells, from a state with entries for them alone; given[""] is the cycle length."""
    mine = {n: v if v.size == 1 or cells is None else v[cells] for n, v in given.items()}
    period = mine.pop("")
    return pace(
        model, mine, cycle_length=period, beats=beats, state=state, dtype=dtype, tolerance=tolerance, trace=trace, room=room
    )


def _at_rest(
    model: CellModel,
    beat: Callable[..., Paced],
    x: Array,
    sound: Array,
    close: float,
    most: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Array]:
    """States (states, cells) that a beat leaves as they are, from x, and which cells have one; `sound`: those to be moved."""
    mix = _Anderson(x.shape, scales(model))
    x, done = x.copy(), np.zeros(x.shape[1], bool)
    active = np.flatnonzero(sound)
    room = x.shape[1]
    for _ in range(most):
        if not active.size:
            break
        while room > 8 * active.size:  # few sizes, for each is compiled
            room = -(-room // 8)
        now = beat(active, state=tuple(x[:, active]), room=room)
        after = np.stack(now.state)
        change, following = mix.advance(active, x[:, active], after)
        still = (change <= close) & ~now.failed
        done[active[still]] = True
        x[:, active] = np.where(still, after, following)
        active = active[~still & ~now.failed]
        if progress is not None:
            progress(int(done.sum()), done.size)
    return x, done


def _not_yet_bound(
    model: CellModel, run: Callable[..., Paced], x: Array, state: Any, once: Paced, beats: int, tolerance: float
) -> tuple[Array, Array]:
    """The state after `beats` beats from the one at rest, x: drugs that unbind slowly have not bound in full by then.

    With u the share of the final binding, a beat adds (1 − u)(r0 + (r1 − r0) u). The rates r0 at the start and r1 near the end
    are those of the very first beat and of a beat from x with a tenth of the drug taken out; the rest of the cell follows at
    once. Returned with the share u.
    """
    names = model.state_type._fields
    bound, free = ([names.index(n) for n in group] for group in (model.bound, model.unbound))
    held = x[bound].sum(axis=0)
    begun = np.stack(np.broadcast_arrays(*state, held)[:-1])[bound].sum(axis=0) if state is not None else np.zeros_like(held)
    some = held > 1e-6

    def with_share(u: Array) -> Array:
        out = x.copy()
        out[bound] *= u
        out[free] *= (1.0 - u * held) / (1.0 - held)
        return out

    whole = np.where(some, held, 1.0)
    late = run(None, 1, tolerance, tuple(with_share(np.where(some, 0.9, 1.0))))
    now = lambda y: np.stack(y)[bound].sum(axis=0)  # noqa: E731
    r1 = np.clip((now(late.state) / whole - 0.9) / 0.1, 0.0, 1.0)
    u = np.where(some, begun / whole, 1.0)
    r0 = np.clip((now(once.state) / whole - u) / np.where(np.abs(1.0 - u) > 1e-3, 1.0 - u, 1.0), 0.0, 1.0)
    for _ in range(beats - AFTER - 1):
        u = u + (1.0 - u) * np.clip(r0 + (r1 - r0) * u, 0.0, 1.0)
    slow = np.flatnonzero(some & (np.abs(1.0 - u) > 1e-4) & ~late.failed)
    if slow.size:
        start = with_share(u)[:, slow]
        x = x.copy()
        x[:, slow] = np.stack(run(slow, AFTER, tolerance, tuple(start)).state)
    return x, u


class _Anderson:
    """The last few beats of every cell, and their best combination."""

    def __init__(self, shape: tuple[int, int], scale: Array) -> None:
        n, lanes = shape
        self.scale = scale
        self.dx, self.df = np.zeros((MEMORY, n, lanes)), np.zeros((MEMORY, n, lanes))
        self.used = np.zeros(lanes, int)
        self.last_x, self.last_f, self.best = np.zeros(shape), np.zeros(shape), np.full(lanes, np.inf)

    def advance(self, cells: Array, x: Array, after: Array) -> tuple[Array, Array]:
        """By how much a beat changed `cells` (in units of the scales), and where to start the next one from."""
        f = (after - x) / self.scale
        size = np.max(np.abs(f), axis=0)
        grown = size > 3.0 * self.best[cells]
        self.used[cells[grown]] = 0
        self.best[cells] = np.where(grown, size, np.minimum(self.best[cells], size))
        known = self.used[cells]
        slot = (known - 1) % MEMORY
        have = known > 0
        w = cells[have]
        self.dx[slot[have], :, w] = (x[:, have] - self.last_x[:, w]).T
        self.df[slot[have], :, w] = (f[:, have] - self.last_f[:, w]).T
        self.last_x[:, cells], self.last_f[:, cells] = x, f
        self.used[cells] = known + 1
        memory = np.minimum(known, MEMORY)
        new = after.copy()
        for m in range(1, MEMORY + 1):
            here = np.flatnonzero(memory == m)
            if here.size:
                new[:, here] = self._combined(cells[here], m, x[:, here], f[:, here])
        wrong = ~np.all(np.isfinite(new), axis=0) | np.any((new < 0) & (after > 0), axis=0)  # no gate, no ion below 0
        return size, np.where(wrong, after, new)

    def _combined(self, w: Array, m: int, x: Array, f: Array) -> Array:
        df, dx = np.moveaxis(self.df[:m][:, :, w], 2, 0), np.moveaxis(self.dx[:m][:, :, w], 2, 0)  # (cells, m, n)
        norm = np.linalg.norm(df, axis=2, keepdims=True) + 1e-300
        q = df / norm
        normal = q @ np.swapaxes(q, 1, 2) + RIDGE * np.eye(m)
        g = np.linalg.solve(normal, (q @ f.T[:, :, None]))[..., 0] / norm[..., 0]
        return (x + f * self.scale) - np.einsum("cm,cmn->nc", g, dx) - np.einsum("cm,cmn->nc", g, df) * self.scale


def _merge(out: Paced, lanes: Array, other: Paced) -> Paced:
    """`out` with some of its lanes replaced."""

    def put(old: Array, new: Array) -> Array:
        old = np.array(old)
        old[lanes] = new
        return old

    course = out.trace
    if course is not None and other.trace is not None:
        course = Trace(course.time, put(course.voltage, other.trace.voltage), put(course.calcium, other.trace.calcium))
    return replace(
        out,
        biomarkers={n: put(v, other.biomarkers[n]) for n, v in out.biomarkers.items()},
        state=type(out.state)(*map(put, out.state, other.state)),
        failed=put(out.failed, other.failed),
        steps=put(out.steps, other.steps),
        trace=course,
    )
