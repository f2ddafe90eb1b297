"""What one wants of an output: a statistic of its course, and the range in which it should lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.model.schedule import Schedule
from gemello.twin.timing import dose_times, infusion_ends

Floats = NDArray[np.float64]
Statistic = Literal["at", "increment", "area", "mean", "min", "max", "trough", "fraction"]


@dataclass(frozen=True)
class Target:
    """A statistic of the noise-free course of `output` between `low` and `high` (either may be left out).

    window: (from, to) in the model's time unit, or one time for "at". Values at `from` are those after what is done then,
    at `to` those before. statistic:

    - at         value at the time, before what is done then
    - increment  value at the end minus value at the start (an area under a curve, from its accumulator); with `per`, for
                 that length of time: increment · per/(to − from)
    - area       the same of an output without accumulator: trapezoid rule on `points` times and all events
    - mean       average over time, the same rule
    - min, max   over the same times
    - trough     lowest of the values just before each dose in (from, to], and at `to`
    - fraction   share of the time with the output within `within` = (low, high); between those times the output is taken to
                 be exponential where it is positive (exact for one compartment after a bolus), else linear

    scale: the output is multiplied by it first, such as by the unbound fraction, or by 1/MIC. name, unit: what a reader calls
    the statistic, and its unit; default from statistic and output.
    """

    output: str
    statistic: Statistic = "at"
    window: tuple[float, float] | float = (0.0, 24.0)
    low: float = -np.inf
    high: float = np.inf
    per: float | None = None
    within: tuple[float, float] | None = None
    points: int = 97
    scale: float = 1.0
    name: str = ""
    unit: str | None = None

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
        if self.statistic == "fraction" and 1 < self.low < np.inf:
            raise DataError(
                f"{where}: a share above 1", column="low", value=self.low, remedy="give shares from 0 to 1, not percent"
            )
        if not self.low <= self.high:
            raise DataError(f"{where}: low above high", column="low", value=self.low, remedy="give low <= high")
        if (self.within is None) == (self.statistic == "fraction") or (
            self.per is not None and (self.statistic not in ("increment", "area") or self.per <= 0)
        ):
            raise DataError(
                f"{where}: `within` belongs to 'fraction' and `per` (above 0) to 'increment' and 'area'",
                column="statistic",
                value=self.statistic,
            )
        if self.points < 2:
            raise DataError(f"{where}: too few points", column="points", value=self.points, remedy="give 2 or more")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise DataError(f"{where}: impossible scale", column="scale", value=self.scale, remedy="give a number above 0")

    @property
    def span(self) -> tuple[float, float]:
        """Window as (from, to)."""
        return self.window if isinstance(self.window, tuple) else (self.window, self.window)

    def label(self, unit: str, time_unit: str, when: str = "") -> str:
        """The goal in words. when: in place of the window."""
        a, b = self.span
        when = when or (f"at {a:g} {time_unit}" if a == b else f"from {a:g} to {b:g} {time_unit}")
        unit = self.unit_of(unit, time_unit)
        bounds = [f"at least {self.low:g}"] if np.isfinite(self.low) else []
        bounds += [f"at most {self.high:g}"] if np.isfinite(self.high) else []
        words = [self.title, when, " and ".join(bounds), unit if bounds and unit != "1" else ""]
        return " ".join(w for w in words if w)

    @property
    def title(self) -> str:
        """What is looked at, in words."""
        if self.name:
            return self.name
        of = self.output if self.scale == 1.0 else f"{self.scale:.4g} × {self.output}"
        if self.statistic == "fraction" and self.within is not None:
            low, high = self.within
            what = f"above {low:g}" if np.isinf(high) else f"below {high:g}" if np.isinf(low) else f"from {low:g} to {high:g}"
            return f"share of the time with {of} {what}"
        return of if self.statistic == "at" else f"{self.statistic} of {of}"

    def unit_of(self, unit: str, time_unit: str) -> str:
        """Unit of the statistic of an output in `unit`."""
        if self.unit is not None:
            return self.unit
        if self.statistic == "fraction":
            return "1"
        top, slash, bottom = unit.partition("/")
        return f"{top}*{time_unit}{slash}{bottom}" if self.statistic == "area" else unit

    def during(self, window: tuple[float, float]) -> Target:
        """The same target in another window."""
        return replace(self, window=window[1] if self.statistic == "at" else window)

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
            return values[:, first] * self.scale
        if self.statistic == "increment":
            return (values[:, last] - values[:, first]) * self._per_length() * self.scale
        if self.statistic == "trough":
            doses = dose_times(plan)
            before = np.searchsorted(time, np.append(doses[(doses > a) & (doses < b)], b), side="left")
            return np.asarray(np.min(values[:, before], axis=1) * self.scale)
        after = int(np.searchsorted(time, a, side="right")) - 1
        t, v = time[after : last + 1], values[:, after : last + 1] * self.scale
        if self.statistic == "min":
            return np.asarray(np.min(v, axis=1))
        if self.statistic == "max":
            return np.asarray(np.max(v, axis=1))
        if self.within is not None:
            low, high = self.within
            return np.asarray((share_above(v, low) - share_above(v, high)) @ np.diff(t) / (b - a))
        area = np.trapezoid(v, t, axis=1)
        return np.asarray(area * self._per_length() if self.statistic == "area" else area / (b - a))

    def _per_length(self) -> float:
        a, b = self.span
        return 1.0 if self.per is None else self.per / (b - a)


def share_above(v: Floats, bound: float) -> Floats:
    """Share of each step between neighbours of v (draws, times) that lies above `bound`, (draws, times − 1).

    Between two positive values ln v is taken to be linear in time, else v itself.
    """
    if np.isinf(bound):
        return np.full((v.shape[0], v.shape[1] - 1), 1.0 if bound < 0 else 0.0)
    a, b = v[:, :-1], v[:, 1:]
    curved = (a > 0) & (b > 0) & (bound > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(curved, np.log(bound / a) / np.log(b / a), (bound - a) / (b - a))
    at = np.clip(np.nan_to_num(at, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    return np.where(a == b, (a > bound).astype(float), np.where(a > b, at, 1.0 - at))


# ---- what is aimed at in the clinic --------------------------------------------------------------------------------
def auc24(
    output: str,
    window: tuple[float, float],
    day: float = 24.0,
    *,
    accumulated: bool = True,
    mic: float = 1.0,
    low: float = -np.inf,
    high: float = np.inf,
) -> Target:
    """Area under the curve for one day. output: its accumulator, or (accumulated=False) the concentration itself.

    mic: divides it, for AUC24/MIC. day: in the model's time unit. The unbound fraction comes in as
    `replace(target, scale=…)`.
    """
    name = "AUC24" if mic == 1.0 else f"AUC24/MIC (MIC {mic:g})"
    kind: Statistic = "increment" if accumulated else "area"
    return Target(output, kind, window, per=day, scale=1.0 / mic, name=name, unit=None if mic == 1.0 else "h", low=low, high=high)


def time_above_mic(
    output: str, mic: float, window: tuple[float, float], *, unbound: float = 1.0, low: float = -np.inf, high: float = np.inf
) -> Target:
    """Share of the time with the unbound concentration above the MIC (fT>MIC). unbound: fraction not bound to protein.

    low, high: as shares from 0 to 1. Raises DataError for an impossible MIC or fraction.
    """
    if not (np.isfinite(mic) and mic > 0):
        raise DataError("impossible MIC", column="mic", value=mic, remedy="give a concentration above 0")
    if not 0 < unbound <= 1:
        raise DataError("impossible unbound fraction", column="unbound", value=unbound, remedy="give above 0, at most 1")
    name = f"{'fT' if unbound < 1 else 'T'}>MIC (MIC {mic:g}{f', unbound {unbound:g}' if unbound < 1 else ''})"
    return Target(output, "fraction", window, within=(mic, np.inf), scale=unbound, name=name, low=low, high=high)


@dataclass(frozen=True)
class Constraint:
    """The target must not be missed with a probability above `risk`."""

    target: Target
    risk: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.risk <= 1:
            raise DataError("impossible risk", column="risk", value=self.risk, remedy="give a probability")
