"""What one wants of an output: a statistic of its course, and the range in which it should lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.model.schedule import Schedule
from gemello.twin.timing import dose_times, infusion_ends

Floats = NDArray[np.float64]
Statistic = Literal["at", "increment", "mean", "min", "max", "trough", "fraction"]


@dataclass(frozen=True)
class Target:
    """A statistic of the noise-free course of `output` between `low` and `high` (either may be left out).

    window: (from, to) in the model's time unit, or one time for "at". Values at `from` are those after what is done then,
    at `to` those before. statistic:

    - at         value at the time, before what is done then
    - increment  value at the end minus value at the start (an area under a curve, from its accumulator); with `per`, for
                 that length of time: increment · per/(to − from)
    - mean       average over time, trapezoid rule on `points` times and all events
    - min, max   over the same times
    - trough     lowest of the values just before each dose in (from, to], and at `to`
    - fraction   share of the time with the output within `within` = (low, high), the same rule
    """

    output: str
    statistic: Statistic = "at"
    window: tuple[float, float] | float = (0.0, 24.0)
    low: float = -np.inf
    high: float = np.inf
    per: float | None = None
    within: tuple[float, float] | None = None
    points: int = 97

    def __post_init__(self) -> None:
        where = f"target for {self.output}"
        if self.statistic not in get_args(Statistic):
            raise DataError(
                f"{where}: unknown statistic",
                column="statistic",
                value=self.statistic,
                remedy=f"use {', '.join(get_args(Statistic))}",
            )
        a, b = self.span
        if not (np.isfinite(a) and np.isfinite(b) and 0 <= a <= b) or (a == b) != (self.statistic == "at"):
            raise DataError(
                f"{where}: impossible window", column="window", value=self.window, remedy="give (from, to), or one time for 'at'"
            )
        if not self.low <= self.high:
            raise DataError(f"{where}: low above high", column="low", value=self.low, remedy="give low <= high")
        if (self.within is None) == (self.statistic == "fraction") or (
            self.per is not None and (self.statistic != "increment" or self.per <= 0)
        ):
            raise DataError(
                f"{where}: `within` belongs to 'fraction' and `per` (above 0) to 'increment'",
                column="statistic",
                value=self.statistic,
            )
        if self.points < 2:
            raise DataError(f"{where}: too few points", column="points", value=self.points, remedy="give 2 or more")

    @property
    def span(self) -> tuple[float, float]:
        """Window as (from, to)."""
        return self.window if isinstance(self.window, tuple) else (self.window, self.window)

    def label(self, unit: str, time_unit: str) -> str:
        """The goal in words."""
        a, b = self.span
        when = f"at {a:g} {time_unit}" if a == b else f"from {a:g} to {b:g} {time_unit}"
        if self.statistic == "fraction":
            unit = "1"
        bounds = [f"at least {self.low:g}"] if np.isfinite(self.low) else []
        bounds += [f"at most {self.high:g}"] if np.isfinite(self.high) else []
        what = self.output if self.statistic == "at" else f"{self.statistic} of {self.output}"
        words = [what, when, " and ".join(bounds), unit if bounds and unit != "1" else ""]
        return " ".join(w for w in words if w)

    def met(self, values: Floats) -> NDArray[np.bool_]:
        """Whether each value lies in the range."""
        return (values >= self.low) & (values <= self.high)

    def times(self, plan: Schedule) -> Floats:
        """Times at which the output must be known under this plan."""
        a, b = self.span
        ends = np.array([a, b])
        if self.statistic in ("at", "increment"):
            return np.unique(ends)
        doses = dose_times(plan)
        if self.statistic == "trough":
            return np.unique(np.concatenate([doses[(doses > a) & (doses < b)], ends]))
        events = np.concatenate([doses, infusion_ends(plan)])
        return np.unique(np.concatenate([np.linspace(a, b, self.points), events[(events > a) & (events < b)]]))

    def evaluate(self, time: Floats, values: Floats, plan: Schedule) -> Floats:
        """The statistic of every draw, (draws,), from values (draws, records) at all records of the plan, `time` (records,)."""
        a, b = self.span
        first, last = int(np.searchsorted(time, a, side="left")), int(np.searchsorted(time, b, side="left"))
        if self.statistic == "at":
            return values[:, first]
        if self.statistic == "increment":
            scale = 1.0 if self.per is None else self.per / (b - a)
            return (values[:, last] - values[:, first]) * scale
        if self.statistic == "trough":
            doses = dose_times(plan)
            before = np.searchsorted(time, np.append(doses[(doses > a) & (doses < b)], b), side="left")
            return np.asarray(np.min(values[:, before], axis=1))
        after = int(np.searchsorted(time, a, side="right")) - 1
        t, v = time[after : last + 1], values[:, after : last + 1]
        if self.statistic == "min":
            return np.asarray(np.min(v, axis=1))
        if self.statistic == "max":
            return np.asarray(np.max(v, axis=1))
        if self.within is not None:
            v = ((v >= self.within[0]) & (v <= self.within[1])).astype(float)
        return np.asarray(np.trapezoid(v, t, axis=1) / (b - a))


@dataclass(frozen=True)
class Constraint:
    """The target must not be missed with a probability above `risk`."""

    target: Target
    risk: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.risk <= 1:
            raise DataError("impossible risk", column="risk", value=self.risk, remedy="give a probability")
