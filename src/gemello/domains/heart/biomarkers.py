"""Biomarkers of a beat, noted while it goes by (docs/heart-cells.md has the definitions).

All times are in ms from the start of the beat, which is the start of its stimulus. Levels use the potential at the start of the
beat as rest and the largest potential of the beat as peak. A level is crossed by linear interpolation between two steps; the last
downward crossing counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.engine.paced import Point

Array = Any

LEVELS = (0.3, 0.5, 0.9)
EAD_WINDOW = (0.3, 0.9)  # fractions of repolarisation between which a rising potential is an early afterdepolarisation
EAD_AFTER = 100.0  # ms after the steepest rise: before, what rises is the dome after the notch of phase 1
EAD_RISE = 0.01  # mV/ms: what rises by less is the plateau's own dome
WATCHED = 4  # afterdepolarisations and failures are looked for in the last quarter: 250 of 1,000 beats, as in FDA's program
UNREPOLARISED = -40.0  # mV: a beat that starts above it follows one that did not repolarise (Passini 2017, Front Physiol 8:668)


class Marks(NamedTuple):
    """Of one beat; arrays (lanes,)."""

    rest: Array  # mV
    peak: Array  # mV
    peak_time: Array  # ms
    steepest: Array  # mV/ms
    steepest_time: Array  # ms
    crossings: tuple[Array, ...]  # ms, of LEVELS
    rise: Array  # mV/ms: fastest rise within EAD_WINDOW after the peak
    worst_rise: Array  # mV/ms: largest `rise` of the watched beats
    unrepolarised: Array  # watched beats that did not repolarise
    net: Array  # uA ms/uF: integral of the net current up to the start of the last step, by the trapezoidal rule
    open: Array  # uA ms/uF: of the last step, whose end is not known yet, by extrapolation
    current: Array  # uA/uF: the net current at the start of the last step
    length: Array  # ms: of the last step
    calcium_rest: Array  # mM
    calcium_peak: Array  # mM
    calcium_start: Array  # ms: steepest rise of calcium
    calcium_steepest: Array  # mM/ms
    calcium_crossing: Array  # ms: 90 % of the decay
    calcium_half: Array  # ms: 50 % of the decay


class Biomarkers:
    """Watch of potential and calcium; `seen` of the equations is the net current alone."""

    def __init__(self, voltage: int, calcium: int) -> None:
        """voltage, calcium: indices of the states."""
        self.voltage, self.calcium = voltage, calcium

    def begin(self, y: Array) -> Marks:
        """Nothing has happened yet."""
        v, ca = y[self.voltage], y[self.calcium]
        zero = jnp.zeros_like(v)
        never = zero - 1.0
        return Marks(
            rest=v,
            peak=v,
            peak_time=zero,
            steepest=zero,
            steepest_time=zero,
            crossings=(never,) * len(LEVELS),
            rise=zero - 1e3,
            worst_rise=zero - 1e3,
            unrepolarised=zero,
            net=zero,
            open=zero,
            current=zero,
            length=zero,
            calcium_rest=ca,
            calcium_peak=ca,
            calcium_start=zero,
            calcium_steepest=zero,
            calcium_crossing=never,
            calcium_half=never,
        )

    def note(self, m: Marks, time: Array, h: Array, old: Array, new: Array, here: Point, ratio: Array) -> Marks:
        """A step's share."""
        v0, v1, dv = old[self.voltage], new[self.voltage], here.slope[self.voltage]
        c0, c1, dc = old[self.calcium], new[self.calcium], here.slope[self.calcium]
        faster, higher = dv > m.steepest, v1 > m.peak
        peak = jnp.where(higher, v1, m.peak)
        height = peak - m.rest
        crossings = tuple(_crossing(was, time, h, v0, v1, peak - x * height) for x, was in zip(LEVELS, m.crossings, strict=True))
        first, last = EAD_WINDOW
        window = (v0 < peak - first * height) & (v0 > peak - last * height) & ~higher & (m.peak_time > 0) & (time > m.peak_time)
        window &= time > m.steepest_time + EAD_AFTER
        c_faster, c_peak = dc > m.calcium_steepest, jnp.maximum(c1, m.calcium_peak)
        depth = c_peak - m.calcium_rest
        (current,) = here.seen
        return Marks(
            rest=m.rest,
            peak=peak,
            peak_time=jnp.where(higher, time + h, m.peak_time),
            steepest=jnp.where(faster, dv, m.steepest),
            steepest_time=jnp.where(faster, time, m.steepest_time),
            crossings=crossings,
            rise=jnp.where(window, jnp.maximum(m.rise, dv), m.rise),
            worst_rise=m.worst_rise,
            unrepolarised=m.unrepolarised,
            net=m.net + 0.5 * m.length * (m.current + current),
            open=h * (current + ratio * (current - m.current)),
            current=current,
            length=h,
            calcium_rest=m.calcium_rest,
            calcium_peak=c_peak,
            calcium_start=jnp.where(c_faster, time, m.calcium_start),
            calcium_steepest=jnp.where(c_faster, dc, m.calcium_steepest),
            calcium_crossing=_crossing(m.calcium_crossing, time, h, c0, c1, c_peak - 0.9 * depth),
            calcium_half=_crossing(m.calcium_half, time, h, c0, c1, c_peak - 0.5 * depth),
        )

    def keep(self, kept: Marks, marks: Marks, beat: Array) -> Marks:
        """The latest beat, with what went wrong in any of the watched ones."""
        return marks._replace(
            worst_rise=jnp.maximum(kept.worst_rise, marks.rise),
            unrepolarised=kept.unrepolarised + jnp.where(repolarised(marks), 0.0, 1.0),
        )


def repolarised(m: Marks) -> Array:
    """Whether a beat fires and comes back by 90 %, from a start at rest: elsewhere that level lies on the plateau."""
    return (m.crossings[-1] > m.peak_time) & (m.peak > 0.0) & (m.rest < UNREPOLARISED)


def _crossing(was: Array, time: Array, h: Array, v0: Array, v1: Array, level: Array) -> Array:
    down = (v0 > level) & (v1 <= level)
    return jnp.where(down, time + h * (v0 - level) / jnp.where(down, v0 - v1, 1.0), was)
