"""Regimens and grids of them: the candidates of a decision."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, RefusalError
from gemello.base.units import factor
from gemello.model.contract import Model
from gemello.model.schedule import DOSE, OTHER, RESET, Schedule

Floats = NDArray[np.float64]
MOST_DOSES = 2000  # of one regimen
MOST_CANDIDATES = 5000


@dataclass(frozen=True)
class Regimen:
    """`number` doses into a port every `interval`, each over `duration` (0: at once), the first one at `start`.

    loading: another amount for the first dose, over `loading_duration` (None: over `duration`).
    """

    dose: float
    interval: float
    number: int
    start: float = 0.0
    duration: float = 0.0
    port: int = 1
    loading: float | None = None
    loading_duration: float | None = None

    def __post_init__(self) -> None:
        for column, bad in (
            ("dose", self.dose < 0), ("interval", self.interval <= 0), ("number", self.number < 1), ("start", self.start < 0),
            ("duration", self.duration < 0), ("port", self.port < 1), ("loading", (self.loading or 0.0) < 0),
            ("loading_duration", (self.loading_duration or 0.0) < 0),
        ):  # fmt: skip
            if bad or not np.isfinite(getattr(self, column) or 0.0):
                raise DataError(
                    "impossible in a regimen", column=column, value=getattr(self, column), remedy="give a positive number"
                )

    @property
    def total(self) -> float:
        """Amount given in all."""
        return float(np.sum(self.amounts))

    @property
    def amounts(self) -> Floats:
        """(number,) amount of each dose."""
        out = np.full(self.number, float(self.dose))
        if self.loading is not None:
            out[0] = self.loading
        return out

    @property
    def durations(self) -> Floats:
        """(number,) over how long each dose is given."""
        out = np.full(self.number, float(self.duration))
        if self.loading is not None and self.loading_duration is not None:
            out[0] = self.loading_duration
        return out

    @property
    def fastest(self) -> float:
        """The highest rate at which anything is given; infinite for a dose at once."""
        a, d = self.amounts, self.durations
        if np.any((d == 0) & (a > 0)):
            return np.inf
        return float(np.max(a / np.where(d > 0, d, 1.0)))

    def most_within(self, day: float) -> float:
        """The largest amount that begins within any stretch of this length, a loading dose included."""
        count = min(self.number, int(np.ceil(day / self.interval - 1e-9)))
        sums = np.convolve(self.amounts, np.ones(max(count, 1)), mode="valid")
        return float(np.max(sums))

    def schedule(self) -> Schedule:
        """Every dose as a record of its own. Times are rounded to 1e-9, so that a dose and a window that meet do so exactly."""
        amount, over = self.amounts, self.durations
        time = np.round(self.start + self.interval * np.arange(self.number), 9)
        rate = np.where(over > 0, amount / np.where(over > 0, over, 1.0), 0.0)
        out = Schedule.of(time, evid=DOSE, port=self.port, amount=amount, rate=rate)
        return out.take(amount > 0) if (amount > 0).any() else Schedule.of(time[:1], evid=OTHER)

    def steady(self, until: float) -> Schedule:
        """The maintenance doses from `start` to `until` as if they had been given for ever (the first is a steady state)."""
        rate = self.dose / self.duration if self.duration > 0 else 0.0
        count = max(1, int(np.ceil((until - self.start) / self.interval - 1e-9)))
        time = np.round(self.start + self.interval * np.arange(count), 9)
        first = np.arange(count) == 0
        if self.dose <= 0:
            return Schedule.of(time[:1], evid=RESET)
        return Schedule.of(
            time, evid=DOSE, port=self.port, amount=self.dose, rate=rate, steady_state=first, interval=self.interval * first
        )

    def label(self, model: Model) -> str:
        """The regimen in words, with the units of the model."""
        unit, time = model.ports[self.port - 1].unit, model.time_unit
        long = self.loading_duration if self.loading_duration not in (None, self.duration) else None
        slow = "" if long is None else f" over {long:g} {time}"
        first = "" if self.loading is None else f"{self.loading:g} {unit}{slow} first, then "
        over = f" over {self.duration:g} {time}" if self.duration > 0 else ""
        return f"{first}{self.dose:g} {unit} every {self.interval:g} {time}{over}"


@dataclass(frozen=True)
class Pharmacy:
    """What can be given. What breaks a rule is no candidate.

    multiple: doses are rounded to whole multiples of it (a vial, a tablet). most_daily: amount that may begin within any 24 h, a
    loading dose included. most_rate: amount per time unit of the model (vancomycin: 10 to 15 mg/min). most_single: of one dose.
    """

    multiple: float | None = None
    most_daily: float | None = None
    most_rate: float | None = None
    most_single: float | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            v = getattr(self, f.name)
            if v is not None and not (np.isfinite(v) and v > 0):
                raise DataError("impossible for a pharmacy", column=f.name, value=v, remedy="give a number above 0")

    def rounded(self, doses: Sequence[float]) -> list[float]:
        """The doses as whole multiples, each once, in order."""
        if self.multiple is None:
            return list(doses)
        size = self.multiple
        return sorted({float(np.round(np.floor(d / size + 0.5) * size, 9)) for d in doses})

    def broken(self, r: Regimen, day: float) -> str | None:
        """Which rule the regimen breaks; None if none. day: 24 h in the model's time unit."""
        if self.most_single is not None and np.max(r.amounts) > self.most_single * (1 + 1e-9):
            return "most_single"
        if self.most_rate is not None and r.fastest > self.most_rate * (1 + 1e-9):
            return "most_rate"
        if self.most_daily is not None and r.most_within(day) > self.most_daily * (1 + 1e-9):
            return "most_daily"
        return None


@dataclass(frozen=True)
class Grid:
    """All combinations of doses, intervals, durations and loading doses (None: none), from `start` until `until`.

    start: default the end of the record. until: no dose at or after it; default the end of the last window of the goals.
    pharmacy: what can be given. Of a loading dose that would run too fast for it, the shortest longer one of `durations` that
    keeps the rate is taken.
    """

    doses: Sequence[float]
    intervals: Sequence[float]
    durations: Sequence[float] = (0.0,)
    loadings: Sequence[float | None] = (None,)
    start: float | None = None
    until: float | None = None
    port: int = 1
    pharmacy: Pharmacy = Pharmacy()

    def regimens(self, start: float, until: float, day: float = 24.0) -> list[Regimen]:
        """The regimens, with the grid's own start and end where it has them. day: 24 h in the model's time unit.

        Raises DataError for an empty grid, and RefusalError where nothing in it can be given.
        """
        begin, end = self.start if self.start is not None else start, self.until if self.until is not None else until
        for column, values in (("intervals", self.intervals), ("doses", self.doses), ("durations", self.durations)):
            for v in values:
                if not np.isfinite(v) or v < 0 or (column == "intervals" and v == 0):
                    raise DataError("impossible in a grid", column=column, value=v, remedy="give positive numbers")
        if self.intervals and (end - begin) / min(self.intervals) > MOST_DOSES:
            raise DataError(
                f"over {MOST_DOSES} doses until {end:g}", column="intervals", value=min(self.intervals),
                remedy="give longer intervals, or an earlier end",
            )  # fmt: skip
        many = len(self.doses) * len(self.intervals) * len(self.durations) * len(self.loadings)
        if many > MOST_CANDIDATES:
            raise DataError(f"{many} candidates", column="doses", remedy=f"give a coarser grid, of at most {MOST_CANDIDATES}")
        if end <= begin:
            raise DataError(
                "the grid ends before it starts", column="until", value=end, remedy=f"give an end, or windows, after {begin:g}"
            )
        doses, loadings = self.pharmacy.rounded(self.doses), self._loadings()
        out = []
        for interval, duration, loading, dose in itertools.product(self.intervals, self.durations, loadings, doses):
            number = max(1, int(np.ceil((end - begin) / interval - 1e-9)))
            slow = self._slow_enough(loading, duration)
            out.append(Regimen(dose, interval, number, begin, duration, self.port, loading, slow))
        if not out:
            raise DataError("an empty grid", column="doses", remedy="give at least one dose, interval and duration")
        return self._given(out, day)

    def _loadings(self) -> list[float | None]:
        amounts = self.pharmacy.rounded([x for x in self.loadings if x is not None])
        return [None] * (None in self.loadings) + list(amounts)

    def _slow_enough(self, loading: float | None, duration: float) -> float | None:
        """How long the loading dose takes; None: as long as the others."""
        rate = self.pharmacy.most_rate
        if loading is None or rate is None:
            return None
        longer = sorted(d for d in self.durations if d >= duration and d > 0 and loading / d <= rate * (1 + 1e-9))
        return longer[0] if longer and longer[0] != duration else None

    def _given(self, regimens: list[Regimen], day: float) -> list[Regimen]:
        broken = [self.pharmacy.broken(r, day) for r in regimens]
        kept = [r for r, b in zip(regimens, broken, strict=True) if b is None and np.max(r.durations) <= r.interval]
        if not kept:
            rules = sorted({b for b in broken if b is not None}) or ["infusions longer than their interval"]
            said = ", ".join(f"{r} {getattr(self.pharmacy, r):g}" if hasattr(self.pharmacy, r) else r for r in rules)
            raise RefusalError(f"none of {len(regimens)} regimens of the grid can be given ({said}); widen the grid or the rules")
        return kept


@dataclass(frozen=True, eq=False)
class Candidate:
    """One candidate of a decision: label, what would be done, amount in all, and the regimen where it is one."""

    label: str
    schedule: Schedule
    total: float
    regimen: Regimen | None = field(default=None)


Choices = Grid | Mapping[str, Schedule] | Sequence[Regimen]


def day_of(model: Model) -> float:
    """24 h in the model's time unit."""
    return 24.0 * factor("h", model.time_unit, "time")


def candidates_of(model: Model, given: Choices, start: float, until: float) -> list[Candidate]:
    """Candidates from a grid, regimens, or schedules by name. Raises DataError where there is none."""
    if isinstance(given, Mapping):
        out = [Candidate(name, s, _total(s)) for name, s in given.items()]
    else:
        chosen = given.regimens(start, until, _day(model, given)) if isinstance(given, Grid) else list(given)
        for r in chosen:
            if r.port > len(model.ports):
                known = ", ".join(f"{k} {q.name}" for k, q in enumerate(model.ports, start=1)) or "none"
                raise DataError(f"no such port in {model.name}", column="port", value=r.port, remedy=f"use one of: {known}")
        out = [Candidate(r.label(model), r.schedule(), r.total, r) for r in chosen]
    if not out:
        raise DataError("no candidates", column="candidates", remedy="give a grid, regimens, or schedules by name")
    return out


def _day(model: Model, grid: Grid) -> float:
    return day_of(model) if grid.pharmacy.most_daily is not None else 24.0  # models without hours need none


def _total(s: Schedule) -> float:
    return float(np.sum(s.amount * (1 + s.additional)))


def with_dose(regimen: Regimen, dose: float) -> Regimen:
    """The regimen with another dose."""
    return replace(regimen, dose=float(dose))
