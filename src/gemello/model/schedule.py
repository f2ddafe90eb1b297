"""What is done to a subject and when, and what was measured: one table of records, in order of time.

The columns are those of NONMEM's event records, with names spelt out. A schedule is immutable; every verb returns a new one.
Records at one time keep the order in which they act: observations first, then what is done, unless a file says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError

OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)  # EVID
OCCASION = "OCC"  # column that counts a subject's occasions
_INTEGERS = ("evid", "port", "additional", "steady_state", "output", "row", "censored")


def _floats() -> NDArray[np.float64]:
    return np.zeros(0)


def _integers() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Schedule:
    """Records of one subject; every array is (records,).

    time: in the model's time unit. evid: 0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose. port: number of the
    port from 1 (NONMEM's CMT; 0: the first). amount: in the port's unit (level, for a signal port). rate: per time unit;
    0 bolus, −1 modelled rate, −2 modelled duration. interval, additional: `additional` further doses every `interval`.
    steady_state: 0 none, 1 replaces the state, 2 adds to it. value: measured value, NaN where none. output: index of the
    output that was measured. row: row of the file it came from, 0 where none. censored: 1 where the true value lies below
    `value` (a limit of quantification), −1 where above, 0 where it was measured. columns: covariates by name; the value of a
    record holds since the record before (next observation carried backward).
    """

    time: NDArray[np.float64] = field(default_factory=_floats)
    evid: NDArray[np.int64] = field(default_factory=_integers)
    port: NDArray[np.int64] = field(default_factory=_integers)
    amount: NDArray[np.float64] = field(default_factory=_floats)
    rate: NDArray[np.float64] = field(default_factory=_floats)
    interval: NDArray[np.float64] = field(default_factory=_floats)
    additional: NDArray[np.int64] = field(default_factory=_integers)
    steady_state: NDArray[np.int64] = field(default_factory=_integers)
    value: NDArray[np.float64] = field(default_factory=_floats)
    output: NDArray[np.int64] = field(default_factory=_integers)
    row: NDArray[np.int64] = field(default_factory=_integers)
    censored: NDArray[np.int64] = field(default_factory=_integers)
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, time: ArrayLike, columns: Mapping[str, ArrayLike] | None = None, **given: ArrayLike) -> Schedule:
        """Schedule from arrays or scalars by column name; what is not given is zero (`value`: NaN)."""
        t = np.atleast_1d(np.asarray(time, float))
        full: dict[str, Any] = {}
        for f in fields(cls):
            if f.name in ("time", "columns"):
                continue
            kind = int if f.name in _INTEGERS else float
            filler = np.nan if f.name == "value" else 0
            full[f.name] = np.broadcast_to(np.asarray(given.pop(f.name, filler), kind), t.shape).copy()
        if given:
            raise TypeError(f"Schedule has no column {', '.join(given)}")
        extra = {k: np.broadcast_to(np.asarray(v, float), t.shape).copy() for k, v in (columns or {}).items()}
        return cls(time=t, columns=extra, **full)

    def __len__(self) -> int:
        return len(self.time)

    # ---- building --------------------------------------------------------------------------------------------------
    def dose(
        self,
        time: float,
        amount: float,
        *,
        port: int = 1,
        duration: float = 0.0,
        rate: float = 0.0,
        every: float = 0.0,
        times: int = 1,
        steady_state: int = 0,
        reset: bool = False,
    ) -> Schedule:
        """With a bolus, or an infusion over `duration` (or at `rate`), given `times` times `every` time units."""
        if duration < 0 or rate < -2 or times < 1 or (times > 1 and every <= 0):
            raise DataError("a dose needs duration 0 or more, times 1 or more, and `every` above 0 when times > 1", column="dose")
        speed = amount / duration if duration > 0 else rate
        new = Schedule.of(
            time, evid=RESET_AND_DOSE if reset else DOSE, port=port, amount=amount, rate=speed, interval=every,
            additional=times - 1, steady_state=steady_state,
        )  # fmt: skip
        return self.merge(new)

    def observe(self, time: ArrayLike, value: ArrayLike | None = None, *, output: int = 0, censored: ArrayLike = 0) -> Schedule:
        """With observations of output number `output` at these times; without values: times at which to predict.

        censored: 1 where the assay only said "below `value`", −1 where "above".
        """
        return self.merge(Schedule.of(time, output=output, value=np.nan if value is None else value, censored=censored))

    def signal(self, time: float, level: float, *, port: int) -> Schedule:
        """With the level of a signal port set from `time` on."""
        return self.merge(Schedule.of(time, evid=DOSE, port=port, amount=level))

    def reset(self, time: float) -> Schedule:
        """With the system emptied at `time`; pending doses are cancelled."""
        return self.merge(Schedule.of(time, evid=RESET))

    def covariates(self, **values: float) -> Schedule:
        """With covariates that are constant over the whole schedule."""
        new = {k: np.full(len(self), float(v)) for k, v in values.items()}
        return replace(self, columns={**self.columns, **new})

    def change(self, time: float, **values: float) -> Schedule:
        """With covariates that take these values from `time` on (a record is set at `time` that still carries the old ones)."""
        for k in values:
            if k not in self.columns:
                raise DataError(
                    "is not among the schedule's covariates", column=k, remedy="give its first value with covariates()"
                )
        out = self.merge(Schedule.of(time, evid=OTHER))
        later = out.time > time
        new = {k: np.where(later, values[k], v) if k in values else v for k, v in out.columns.items()}
        return replace(out, columns=new)

    def merge(self, other: Schedule) -> Schedule:
        """Both, in order of time; each keeps its own order at one time, and between them observations come before what is
        done. A covariate that only one of them has is carried over to the other's records (from the next record, after the
        last one from the last)."""
        if not len(self) or not len(other):
            return other if not len(self) else self
        joined: dict[str, Any] = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self) if f.name != "columns"
        }
        order = np.lexsort((np.concatenate([_acted(self), _acted(other)]), joined["time"]))
        columns = {}
        for name in dict.fromkeys((*self.columns, *other.columns)):
            parts = [_carried(s, name, t) for s, t in ((self, other), (other, self))]
            columns[name] = np.concatenate([parts[0], parts[1]])[order]
        return Schedule(columns=columns, **{k: v[order] for k, v in joined.items()})

    def take(self, chosen: ArrayLike) -> Schedule:
        """The chosen records (mask or indices)."""
        c = np.asarray(chosen)
        arrays = {f.name: getattr(self, f.name)[c] for f in fields(self) if f.name != "columns"}
        return Schedule(columns={k: v[c] for k, v in self.columns.items()}, **arrays)

    def written_out(self) -> Schedule:
        """The same doses with every additional one as a record of its own, so that a value can be read just before it.

        Doses that a later reset, or a later steady state that replaces the state, would cancel are left out.
        """
        dose = (self.evid == DOSE) | (self.evid == RESET_AND_DOSE)
        clean = (self.evid == RESET) | (self.evid == RESET_AND_DOSE) | (dose & (self.steady_state == 1))
        rows = np.flatnonzero(dose & (self.additional > 0))
        if not len(rows):
            return self
        stops = [self.time[j[0]] if len(j := np.flatnonzero(clean[i + 1 :]) + i + 1) else np.inf for i in rows]
        times = [self.time[i] + self.interval[i] * np.arange(1, self.additional[i] + 1) for i in rows]
        kept = [t[t < stop] for t, stop in zip(times, stops, strict=True)]
        each = np.repeat(rows, [len(t) for t in kept])
        more = Schedule.of(
            np.concatenate(kept),
            evid=DOSE,
            port=self.port[each],
            amount=self.amount[each],
            rate=self.rate[each],
            row=self.row[each],
        )
        more = more.take(np.argsort(more.time, kind="stable"))
        once = replace(
            self, additional=np.zeros_like(self.additional), interval=np.where(self.steady_state > 0, self.interval, 0.0)
        )
        return once.merge(more)

    def without_values(self) -> Schedule:
        """The same records with the measured values taken out: what was done, and when one would look."""
        return replace(self, value=np.full(len(self), np.nan), censored=np.zeros(len(self), np.int64))

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(records,) where a value was measured."""
        return (self.evid == OBSERVATION) & ~np.isnan(self.value)


def _acted(s: Schedule) -> NDArray[np.bool_]:
    """(records,) whether something has been done at the record's time, up to and with the record."""
    out = s.evid != OBSERVATION
    for i in range(1, len(s)):
        out[i] |= out[i - 1] and s.time[i] == s.time[i - 1]
    return out


def _carried(own: Schedule, name: str, other: Schedule) -> NDArray[np.float64]:
    """Values of covariate `name` at `own`'s records, taken from the other schedule's next record where own has none."""
    if name in own.columns:
        return own.columns[name]
    source = other.columns[name]
    return source[np.minimum(np.searchsorted(other.time, own.time), len(source) - 1)]


@dataclass(frozen=True)
class Subject:
    """One subject: its identifier and its records."""

    id: str
    schedule: Schedule

    def check(self) -> Subject:
        """Raise DataError at the first record that cannot be: row, column, value and remedy."""
        check_subjects([self])
        return self


def check_subjects(subjects: Sequence[Subject]) -> None:
    """Raise DataError at the first record of any subject that cannot be: row, column, value and remedy."""
    used = list({id(s.schedule): s for s in subjects}.values())
    for s in used:
        if not len(s.schedule):
            raise DataError(f"subject {s.id} has no records", remedy="give it at least one")
    together, lane, _ = concatenate([s.schedule for s in used])
    first = np.diff(lane, prepend=-1) != 0
    for bad, column, values, problem, remedy in rules(together, first):
        if bad.any():
            i = int(np.argmax(bad))
            row = int(together.row[i]) or None
            raise DataError(f"subject {used[lane[i]].id}: {problem}", row=row, column=column, value=values[i], remedy=remedy)


def concatenate(parts: Sequence[Schedule]) -> tuple[Schedule, NDArray[np.int64], NDArray[np.int64]]:
    """All records one after another (without covariates), the part that each belongs to, and its number within that part."""
    joined: dict[str, Any] = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Schedule) if f.name != "columns"
    }
    counts = np.array([len(p) for p in parts])
    part = np.repeat(np.arange(len(parts)), counts)
    return Schedule(**joined), part, numbered(counts)


def numbered(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … within each of several groups of these sizes, one group after another."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


EVENTS = "use 0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose"
BACKWARDS = "time runs backwards"
MOST_ADDITIONAL = 100_000


def rules(s: Schedule, first: NDArray[np.bool_]) -> Sequence[tuple[NDArray[np.bool_], str, NDArray[Any], str, str]]:
    """What no record may be: (records,) where it is, column, values, problem, remedy. first: first record of each subject."""
    dose = (s.evid == DOSE) | (s.evid == RESET_AND_DOSE)
    steady = dose & (s.steady_state > 0)
    constant = steady & (s.rate > 0) & (s.amount == 0) & (s.interval == 0)
    bad_rate = (s.rate < 0) & ~np.isin(s.rate, (-1, -2)) | ~np.isfinite(s.rate)
    limitless = (s.censored != 0) & np.isnan(s.value) & (s.evid == OBSERVATION)
    empty = dose & (s.amount == 0) & ~constant & (s.rate != 0)
    backwards = (np.diff(s.time, prepend=s.time[:1]) < 0) & ~first
    return (
        (~np.isfinite(s.time), "TIME", s.time, "time is not a number", "give a finite time"),
        (s.time < 0, "TIME", s.time, "time is negative", "count time from the first record"),
        (backwards, "TIME", s.time, BACKWARDS, "sort the records of each subject by time"),
        (~np.isin(s.evid, (0, 1, 2, 3, 4)), "EVID", s.evid, "unknown event", EVENTS),
        (~np.isfinite(s.amount), "AMT", s.amount, "amount is not a number", "give a finite amount"),
        (bad_rate, "RATE", s.rate, "impossible rate", "use 0 (bolus), a rate, -1 or -2"),
        (empty, "AMT", s.amount, "an infusion without amount", "give AMT, or SS=1 with RATE and II=0"),
        (~np.isin(s.steady_state, (0, 1, 2)), "SS", s.steady_state, "unknown steady state", "use 0, 1 or 2"),
        ((s.interval < 0) | ~np.isfinite(s.interval), "II", s.interval, "interval is not 0 or more", "give the dosing interval"),
        (steady & ~constant & (s.interval <= 0), "II", s.interval, "a steady state without interval", "give II above 0"),
        ((s.additional < 0), "ADDL", s.additional, "negative number of additional doses", "give 0 or more"),
        ((s.additional > MOST_ADDITIONAL), "ADDL", s.additional, "too many additional doses", f"give at most {MOST_ADDITIONAL}"),
        (dose & (s.additional > 0) & (s.interval <= 0), "II", s.interval, "additional doses without interval", "give II above 0"),
        (~np.isin(s.censored, (-1, 0, 1)), "CENS", s.censored, "unknown censoring", "use 0, 1 (below the value) or -1 (above)"),
        (limitless, "CENS", s.censored, "a censored value without its limit", "give the limit as DV"),
        (s.port < 0, "CMT", s.port, "negative compartment number", "number compartments from 1"),
    )  # fmt: skip
