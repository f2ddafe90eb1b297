"""Regimens and grids of them: the candidates of a decision."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gemello.base.errors import DataError
from gemello.model.contract import Model
from gemello.model.schedule import DOSE, Schedule

MOST_DOSES = 2000  # of one regimen
MOST_CANDIDATES = 5000


@dataclass(frozen=True)
class Regimen:
    """`number` doses into a port every `interval`, each over `duration` (0: at once), the first one at `start`.

    loading: another amount for the first dose.
    """

    dose: float
    interval: float
    number: int
    start: float = 0.0
    duration: float = 0.0
    port: int = 1
    loading: float | None = None

    def __post_init__(self) -> None:
        for column, bad in (
            ("dose", self.dose < 0), ("interval", self.interval <= 0), ("number", self.number < 1), ("start", self.start < 0),
            ("duration", self.duration < 0), ("port", self.port < 1), ("loading", self.loading is not None and self.loading < 0),
        ):  # fmt: skip
            if bad or not np.isfinite(getattr(self, column) or 0.0):
                raise DataError(
                    "impossible in a regimen", column=column, value=getattr(self, column), remedy="give a positive number"
                )

    @property
    def total(self) -> float:
        """Amount given in all."""
        first = self.dose if self.loading is None else self.loading
        return first + (self.number - 1) * self.dose

    def schedule(self) -> Schedule:
        """Every dose as a record of its own. Times are rounded to 1e-9, so that a dose and a window that meet do so exactly."""
        amount = np.full(self.number, float(self.dose))
        if self.loading is not None:
            amount[0] = self.loading
        time = np.round(self.start + self.interval * np.arange(self.number), 9)
        rate = amount / self.duration if self.duration > 0 else 0.0
        out = Schedule.of(time, evid=DOSE, port=self.port, amount=amount, rate=rate)
        return out.take(amount > 0) if (amount > 0).any() else Schedule.of(time[:1], evid=2)

    def label(self, model: Model) -> str:
        """The regimen in words, with the units of the model."""
        unit, time = model.ports[self.port - 1].unit, model.time_unit
        first = "" if self.loading is None else f"{self.loading:g} {unit} first, then "
        over = f" over {self.duration:g} {time}" if self.duration > 0 else ""
        return f"{first}{self.dose:g} {unit} every {self.interval:g} {time}{over}"


@dataclass(frozen=True)
class Grid:
    """All combinations of doses, intervals, durations and loading doses (None: none), from `start` until `until`.

    start: default the end of the record. until: no dose at or after it; default the end of the last window of the goals.
    """

    doses: Sequence[float]
    intervals: Sequence[float]
    durations: Sequence[float] = (0.0,)
    loadings: Sequence[float | None] = (None,)
    start: float | None = None
    until: float | None = None
    port: int = 1

    def regimens(self, start: float, until: float) -> list[Regimen]:
        """The regimens, with the grid's own start and end where it has them. Raises DataError for an empty grid."""
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
        out = [
            Regimen(dose, interval, max(1, int(np.ceil((end - begin) / interval - 1e-9))), begin, duration, self.port, loading)
            for interval, duration, loading, dose in itertools.product(self.intervals, self.durations, self.loadings, self.doses)
        ]
        if not out:
            raise DataError("an empty grid", column="doses", remedy="give at least one dose, interval and duration")
        return out


@dataclass(frozen=True, eq=False)
class Candidate:
    """One candidate of a decision: label, what would be done, amount in all, and the regimen where it is one."""

    label: str
    schedule: Schedule
    total: float
    regimen: Regimen | None = field(default=None)


def candidates_of(
    model: Model, given: Grid | Mapping[str, Schedule] | Sequence[Regimen], start: float, until: float
) -> list[Candidate]:
    """Candidates from a grid, regimens, or schedules by name. Raises DataError where there is none."""
    if isinstance(given, Mapping):
        out = [Candidate(name, s, _total(s)) for name, s in given.items()]
    else:
        chosen = given.regimens(start, until) if isinstance(given, Grid) else list(given)
        for r in chosen:
            if r.port > len(model.ports):
                known = ", ".join(f"{k} {q.name}" for k, q in enumerate(model.ports, start=1)) or "none"
                raise DataError(f"no such port in {model.name}", column="port", value=r.port, remedy=f"use one of: {known}")
        out = [Candidate(r.label(model), r.schedule(), r.total, r) for r in chosen]
    if not out:
        raise DataError("no candidates", column="candidates", remedy="give a grid, regimens, or schedules by name")
    return out


def _total(s: Schedule) -> float:
    return float(np.sum(s.amount * (1 + s.additional)))


def with_dose(regimen: Regimen, dose: float) -> Regimen:
    """The regimen with another dose."""
    return replace(regimen, dose=float(dose))
