"""Estimands by ICH E9(R1): five attributes, a strategy for every intercurrent event, and what each strategy does to the data.

| strategy | what is done to the records of a subject from the event on |
|---|---|
| treatment policy | nothing: outcomes count whether or not the event happened |
| hypothetical | outcomes after the event are set missing, to be imputed or modelled as if it had not happened |
| composite | the event is part of the variable: outcomes after it get the value that was stated for it |
| while on treatment | outcomes after the event are left out, the last one before it stands for the rest |
| principal stratum | only the stratum is analysed: it must be a baseline column, for nobody's stratum is seen directly |

`apply` does this and writes down what was done to whom. A strategy says what is asked; the assumption under which missing values
are filled (`Handling`) is a separate choice, and so are the sensitivity analyses, which must ask the same question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from gemello.base.errors import DataError

Strategy = Literal["treatment policy", "hypothetical", "composite", "while on treatment", "principal stratum"]
Handling = Literal["none", "MAR", "J2R", "CR", "CIR", "LMCF", "LOCF"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
HANDLINGS: tuple[Handling, ...] = get_args(Handling)
# what may fill the gaps that a strategy leaves; reference-based filling describes an outcome off treatment, so not hypothetical
ALIGNED: Mapping[Strategy, tuple[Handling, ...]] = {
    "treatment policy": ("none", "MAR", "J2R", "CR", "CIR", "LMCF"),
    "hypothetical": ("MAR",),
    "composite": ("none",),
    "while on treatment": ("none", "LOCF"),
    "principal stratum": ("none", "MAR"),
}
SUMMARIES = (
    "difference in means", "difference in proportions", "ratio of proportions", "odds ratio", "hazard ratio", "rate ratio",
    "difference in medians", "difference in restricted mean survival times", "proportional odds ratio", "win ratio",
)  # fmt: skip


@dataclass(frozen=True)
class IntercurrentEvent:
    """name: as in the table of events. strategy: how the question treats it. handling: how values that are missing after it are
    filled. value: of the variable, for composite (a number). stratum: column and value that define a principal stratum."""

    name: str
    strategy: Strategy
    handling: Handling = "none"
    value: float | None = None
    stratum: tuple[str, Any] | None = None
    rationale: str = ""

    def problems(self) -> Iterable[str]:
        """What does not fit together, in words."""
        if self.strategy not in STRATEGIES:
            yield f"event {self.name}: strategy {self.strategy!r} is not one of {', '.join(STRATEGIES)}"
            return
        if self.handling not in ALIGNED[self.strategy]:
            allowed = ", ".join(ALIGNED[self.strategy])
            yield f"event {self.name}: {self.handling} does not answer a {self.strategy} question; use one of {allowed}"
        if self.strategy == "hypothetical" and self.handling == "none":
            yield f"event {self.name}: hypothetical outcomes are never observed and need a handling"
        if (self.strategy == "composite") != (self.value is not None):
            yield f"event {self.name}: a value belongs to the composite strategy, and to it only"
        if (self.strategy == "principal stratum") != (self.stratum is not None):
            yield f"event {self.name}: a stratum belongs to the principal stratum strategy, and to it only"


@dataclass(frozen=True)
class Treatment:
    """arm: the column; active and control: its values compared; description: regimens, with permitted changes."""

    arm: str
    active: str
    control: str
    description: str = ""


@dataclass(frozen=True)
class Variable:
    """name: the outcome's column; unit; time: visit at which it counts (None: all visits); description."""

    name: str
    unit: str = "1"
    time: str | None = None
    description: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """An analysis of the same estimand under another assumption. name: for the report. handling: by event, in place of the main
    one. delta: added to filled values by arm, in the variable's unit. varies: the assumption that it puts to the test."""

    name: str
    varies: str
    handling: Mapping[str, Handling] = field(default_factory=dict)
    delta: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimand:
    """The five attributes (ICH E9(R1), A.3.3): treatment, population (words, and columns with values that define it), variable,
    intercurrent events, population-level summary; and sensitivity analyses aligned to it. missing: how values missing for other
    reasons than an event are filled."""

    treatment: Treatment
    population: str
    variable: Variable
    events: tuple[IntercurrentEvent, ...]
    summary: str
    restrict: Mapping[str, Any] = field(default_factory=dict)
    missing: Handling = "MAR"
    sensitivity: tuple[Sensitivity, ...] = ()

    def __post_init__(self) -> None:
        if found := list(self.problems()):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise DataError(found[0] + more, source="estimand", remedy="state every attribute and one strategy an event")

    def problems(self) -> Iterable[str]:
        """Everything that is missing or does not fit together, in words."""
        for name, value in (("population", self.population), ("variable", self.variable.name), ("arm", self.treatment.arm)):
            if not str(value).strip():
                yield f"no {name}"
        if self.treatment.active == self.treatment.control:
            yield f"treatment {self.treatment.active} is compared with itself"
        if self.summary not in SUMMARIES:
            yield f"summary {self.summary!r} is not one of {', '.join(SUMMARIES)}"
        if self.missing not in HANDLINGS:
            yield f"missing values: handling {self.missing!r} is not one of {', '.join(HANDLINGS)}"
        names = [e.name for e in self.events]
        for name in {n for n in names if names.count(n) > 1}:
            yield f"event {name} has two strategies"
        for e in self.events:
            yield from e.problems()
        for s in self.sensitivity:
            yield from self._misaligned(s)

    def _misaligned(self, s: Sensitivity) -> Iterable[str]:
        """A sensitivity analysis must ask the same question: it may change assumptions, not strategies."""
        if not s.handling and not s.delta:
            yield f"sensitivity analysis {s.name} changes nothing"
        by_name = {e.name: e for e in self.events}
        for name, handling in s.handling.items():
            if name != "missing" and name not in by_name:
                yield f"sensitivity analysis {s.name}: event {name} is not in the estimand"
            elif name != "missing" and handling not in ALIGNED[by_name[name].strategy]:
                yield f"sensitivity analysis {s.name}: {handling} would change the question asked about {name}"
        for arm in s.delta:
            if arm not in (self.treatment.active, self.treatment.control):
                yield f"sensitivity analysis {s.name}: no arm {arm}"

    def event(self, name: str) -> IntercurrentEvent:
        """One event's strategy; DataError for an event that the estimand does not know."""
        for e in self.events:
            if e.name == name:
                return e
        raise DataError(
            "intercurrent event without a strategy", source="estimand", value=name, remedy="add it to the estimand's events"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return asdict(self)

    def words(self) -> str:
        """The estimand in one sentence, for a protocol."""
        t, v = self.treatment, self.variable
        when = f" at {v.time}" if v.time else ""
        events = "; ".join(f"{e.name}: {e.strategy}" for e in self.events) or "none foreseen"
        return (
            f"{self.summary[0].upper()}{self.summary[1:]} of {v.description or v.name} ({v.unit}){when} between {t.active} and "
            f"{t.control} in {self.population}; intercurrent events: {events}."
        )


@dataclass(frozen=True, eq=False)
class Applied:
    """table: the analysis records, with columns `gemello_event` (name of the event that governs the row, or null),
    `gemello_after` (whether the row is after it), `gemello_handling` (how a missing outcome is to be filled). log: one row for
    each subject that an event or restriction touched: subject, event, strategy, time, action, rows. counts: rows set missing,
    replaced, dropped."""

    table: pl.DataFrame
    log: pl.DataFrame
    counts: Mapping[str, int]


def apply(
    estimand: Estimand, table: pl.DataFrame, events: pl.DataFrame, *, subject: str, time: str, event_time: str = "time",
    event_name: str = "event",
) -> Applied:  # fmt: skip
    """Turn records into the data set of an estimand.

    table: one row a subject and visit, with `time` (number) and the estimand's outcome and arm. events: one row an event, with
    subject, event_name, event_time (same unit as `time`). A row counts as after an event where its time is later. Where several
    events happened, the earliest that changes data governs from its time on (at equal times: in the estimand's order); one under
    treatment policy changes none, so a later event still acts. The
    input is not changed. Raises DataError for events without a strategy, subjects of events who are not in the table, missing or
    duplicate times, missing columns.
    """
    work = _prepared(estimand, table, subject, time)
    found = _events(estimand, events, set(table[subject].to_list()), subject, event_name, event_time)
    log: list[dict[str, Any]] = []
    counts = {"set missing": 0, "replaced": 0, "dropped": 0}
    by_subject: dict[Any, list[tuple[IntercurrentEvent, float]]] = {}
    for who, e, t in found:
        by_subject.setdefault(who, []).append((e, t))
    kept, gone = _restricted(estimand, work, subject)
    log += gone
    counts["dropped"] += len(work) - len(kept)
    outcome = estimand.variable.name
    rows = []
    for (who,), records in kept.group_by([subject], maintain_order=True):
        mine = by_subject.get(who, [])
        y = records[outcome].cast(pl.Float64).to_numpy().copy()
        times = records[time].cast(pl.Float64).to_numpy()
        governing = np.array([None] * len(y), dtype=object)
        handling = np.array([estimand.missing] * len(y), dtype=object)
        settled = np.zeros(len(y), bool)  # rows that an event has changed: later ones leave them alone
        for e, t in mine:
            after = (times > t) & ~settled
            action, touched = _act(e, y, times, after, t)
            policy = e.strategy == "treatment policy"
            if e.strategy == "principal stratum":
                after = np.zeros(len(y), bool)
            if policy:
                after &= np.array([g is None for g in governing])
            settled |= after & (not policy)
            if not policy or e.handling != "none":
                governing[after] = e.name
                handling[after] = e.handling
            counts["set missing"] += touched if action.startswith("set missing") else 0
            counts["replaced"] += touched if action.startswith(("replaced", "carried")) else 0
            log.append(_line(who, e.name, e.strategy, t, action, touched))
        rows.append(
            records.with_columns(
                pl.Series(outcome, y).fill_nan(None),
                pl.Series("gemello_event", governing.tolist(), dtype=pl.String),
                pl.Series("gemello_after", [g is not None for g in governing]),
                pl.Series("gemello_handling", handling.tolist(), dtype=pl.String),
            )
        )
    if not rows:
        raise DataError("nobody is left in the population", source="estimand", remedy="widen the restriction or the stratum")
    return Applied(pl.concat(rows), pl.DataFrame(log, schema=_LOG), counts)


_LOG = {
    "subject": pl.String,
    "event": pl.String,
    "strategy": pl.String,
    "time": pl.Float64,
    "action": pl.String,
    "rows": pl.Int64,
}


def _line(who: object, event: str, strategy: str, t: float | None, action: str, rows: int) -> dict[str, Any]:
    return {"subject": str(who), "event": event, "strategy": strategy, "time": t, "action": action, "rows": rows}


def _act(e: IntercurrentEvent, y: Any, times: Any, after: Any, t: float) -> tuple[str, int]:
    """Change y (one subject's outcomes) by the strategy; what was done, and to how many rows."""
    if e.strategy == "hypothetical":
        touched = int((after & ~np.isnan(y)).sum())
        y[after] = np.nan
        return f"set missing after the event, to be filled by {e.handling}", touched
    if e.strategy == "composite":
        y[after] = e.value
        return f"replaced by {e.value:g}", int(after.sum())
    if e.strategy == "while on treatment":
        before = np.flatnonzero((times <= t) & ~np.isnan(y))
        last = y[before[np.argmax(times[before])]] if len(before) else np.nan
        y[after] = last if e.handling == "LOCF" else np.nan
        words = "carried forward from before the event" if e.handling == "LOCF" else "set missing after the event"
        return words, int(after.sum())
    if e.strategy == "principal stratum":
        return "kept: in the stratum", 0
    filled = "" if e.handling == "none" else f"; missing ones filled by {e.handling}"
    return f"kept as observed{filled}", 0


def _prepared(estimand: Estimand, table: pl.DataFrame, subject: str, time: str) -> pl.DataFrame:
    t = estimand.treatment
    needed = [subject, time, estimand.variable.name, t.arm, *estimand.restrict]
    needed += [e.stratum[0] for e in estimand.events if e.stratum]
    if missing := [c for c in needed if c not in table.columns]:
        raise DataError("no such column", column=missing[0], remedy=f"the table has {', '.join(table.columns[:30])}")
    if not table[time].dtype.is_numeric() or table[time].null_count():
        raise DataError("not a complete column of numbers", column=time, remedy="give the time of every row, since randomisation")
    twice = table.group_by(subject, time).len().filter(pl.col("len") > 1)
    if len(twice):
        raise DataError("two rows at one time", column=subject, value=twice.row(0)[0], remedy="one row a subject and visit")
    return table.sort(subject, time, maintain_order=True)


def _events(
    estimand: Estimand, events: pl.DataFrame, known: set[Any], subject: str, name: str, time: str
) -> list[tuple[Any, IntercurrentEvent, float]]:
    if missing := [c for c in (subject, name, time) if c not in events.columns]:
        raise DataError("no such column in the events", column=missing[0], remedy=f"they have {', '.join(events.columns[:30])}")
    out = []
    order = {e.name: k for k, e in enumerate(estimand.events)}
    for row, (who, what, t) in enumerate(events.select(subject, name, time).iter_rows(), start=1):
        if who not in known:
            raise DataError("an event of nobody in the table", row=row, column=subject, value=who, remedy="mend the subject")
        if t is None or not np.isfinite(float(t)):
            raise DataError("event without a time", row=row, column=time, remedy="give its time since randomisation")
        out.append((who, estimand.event(str(what)), float(t)))
    return sorted(out, key=lambda item: (item[2], order[item[1].name]))


def _restricted(estimand: Estimand, work: pl.DataFrame, subject: str) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Rows of the arms, the population and the principal strata; a line for everybody left out."""
    t = estimand.treatment
    rules: list[tuple[str, str, pl.Expr]] = [
        ("arm", "", pl.col(t.arm).cast(pl.String).is_in([t.active, t.control])),
        *(("population", "", _is(c, v)) for c, v in estimand.restrict.items()),
        *((e.name, e.strategy, _is(*e.stratum)) for e in estimand.events if e.stratum),
    ]
    log, kept = [], work
    for name, strategy, rule in rules:
        out = kept.filter(~rule.fill_null(False))
        for (who,), records in out.group_by([subject], maintain_order=True):
            words = "left out: not in the stratum" if strategy else f"left out: {name}"
            log.append(_line(who, name, strategy, None, words, len(records)))
        kept = kept.filter(rule.fill_null(False))
    return kept, log


def _is(column: str, value: Any) -> pl.Expr:
    return pl.col(column).is_in(list(value)) if isinstance(value, list | tuple | set) else pl.col(column) == pl.lit(value)
