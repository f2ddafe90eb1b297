"""What the strategies of a protocol's estimand do to its data, for every kind of endpoint; with a log in words.

Repeated endpoints go through `estimand.apply`, visit by visit. Of an endpoint that is measured once, an event before it decides
the one outcome; of a time to event, an intercurrent event censors (hypothetical, while on treatment) or counts (composite).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError, RefusalError, UnsupportedError
from gemello.formats.yamlfile import name_of
from gemello.trial import estimand as e9
from gemello.trial.prepare import ARM, Prepared, demand
from gemello.trial.protocol import Event, Protocol

Array = NDArray[np.float64]
TIME = "visit_time"
UNBALANCED = 1e-4  # p of a stratum whose share differs between randomised arms
_DONE = {
    "hypothetical": "after it set missing", "composite": "after it replaced",
    "while on treatment": "after it replaced by the last one before",
}  # fmt: skip


@dataclass(frozen=True)
class Applied:
    """table: analysis data. log: what was done, in words. warnings: what a reader must know. touched: outcomes changed."""

    table: pl.DataFrame
    log: tuple[str, ...]
    warnings: tuple[str, ...]
    touched: int = 0


def apply(protocol: Protocol, prepared: Prepared) -> Applied:
    """The analysis data of the protocol's estimand. Raises DataError for events without a column, columns that are no 0/1."""
    table, plan = prepared.table, protocol.estimand
    if plan is None:
        return Applied(table, (), ("no estimand is stated: treatment policy is what the analysis amounts to",))
    for e in plan.events:
        if e.strategy != "treatment policy" and not e.column:
            raise DataError(
                f"event {e.name}: the {e.strategy} strategy needs the column that tells of it", source=protocol.source,
                remedy="write column: (0/1), and time: where it matters",
            )  # fmt: skip
        demand(table, [e.column, e.time], protocol.source)
    log, touched = (
        [f"{e.name}: {e.strategy}; outcomes kept as observed" for e in plan.events if e.strategy == "treatment policy"],
        0,
    )
    active = [e for e in plan.events if e.strategy != "treatment policy"]
    if protocol.endpoint.kind == "repeated" and active:
        table, more, touched = _repeated(protocol, table, active)
        return Applied(table, (*log, *more), (), touched)
    for e in active:
        table, words, count = (_survival if protocol.endpoint.kind == "time-to-event" else _once)(protocol, table, e)
        log.append(words)
        touched += count
    return Applied(table, tuple(log), (), touched)


def happened(table: pl.DataFrame, event: Event) -> NDArray[np.bool_]:
    """(rows,) whether the event's column is 1. Raises DataError for anything but 0, 1 and missing (no event)."""
    values = table[event.column].cast(pl.Float64, strict=False).fill_null(0.0).to_numpy()
    bad = np.flatnonzero(~np.isin(values, (0.0, 1.0)))
    if len(bad):
        found = table[event.column][int(bad[0])]
        raise DataError("not 0 or 1", row=int(bad[0]) + 1, column=event.column, value=found, remedy="code the event as 0/1")
    return np.asarray(values == 1.0)


def _when(table: pl.DataFrame, event: Event, here: NDArray[np.bool_], protocol: Protocol) -> Array:
    """(rows,) time of the event, NaN where there is none. Raises DataError where it happened and has no time."""
    if not event.time:
        raise DataError(f"event {event.name}: no time", source=protocol.source, remedy="write time:, the column of its time")
    at = table[event.time].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    bad = np.flatnonzero(here & ~np.isfinite(at))
    if len(bad):
        remedy = "give the time of each event as a number"
        raise DataError(f"event {event.name} without a time", row=int(bad[0]) + 1, column=event.time, remedy=remedy)
    return np.asarray(at)


def _stratum(table: pl.DataFrame, event: Event, protocol: Protocol) -> tuple[pl.DataFrame, str]:
    """Rows of the stratum, and words. Raises RefusalError where its share differs between arms: it was not known before
    randomisation."""
    here = happened(table, event)
    one = table.with_columns(pl.Series("__in", here)).unique(protocol.subject, keep="first", maintain_order=True)
    counts = one.group_by(ARM).agg(pl.col("__in").sum().alias("yes"), (~pl.col("__in")).sum().alias("no")).sort(ARM)
    grid = counts.select("yes", "no").to_numpy()
    if not grid[:, 0].all():
        raise DataError(f"event {event.name}: the stratum is empty in an arm", column=event.column, remedy="mend the stratum")
    p = float(stats.chi2_contingency(grid, correction=False).pvalue) if grid[:, 1].any() else 1.0
    if p < UNBALANCED:
        raise RefusalError(
            f"event {event.name}: column {event.column} differs between the randomised arms (p {p:.1g}), so it was not known "
            "before randomisation: comparing those who have it is no randomised comparison; take another strategy"
        )
    n = int(grid[:, 0].sum())
    words = f"{event.name}: principal stratum; {n} subjects with {event.column} = 1, which must be known before randomisation"
    return table.filter(pl.Series(here, dtype=pl.Boolean)), words


def _once(protocol: Protocol, table: pl.DataFrame, event: Event) -> tuple[pl.DataFrame, str, int]:
    y = protocol.endpoint.outcome
    here = pl.Series(happened(table, event), dtype=pl.Boolean)
    n = int(here.sum())
    if event.strategy == "hypothetical":
        table = table.with_columns(pl.when(here).then(None).otherwise(pl.col(y)).alias(y))
        return table, f"{event.name}: hypothetical; {n} outcomes set missing", n
    if event.strategy == "composite":
        assert event.value is not None
        table = table.with_columns(pl.when(here).then(pl.lit(event.value)).otherwise(pl.col(y).cast(pl.Float64)).alias(y))
        return table, f"{event.name}: composite; {n} outcomes set to {event.value:g}", n
    if event.strategy == "principal stratum":
        return *_stratum(table, event, protocol), n
    raise UnsupportedError(
        f"event {event.name}: {event.strategy} needs the visits before the event; give a repeated endpoint, or a composite value"
    )


def _survival(protocol: Protocol, table: pl.DataFrame, event: Event) -> tuple[pl.DataFrame, str, int]:
    e = protocol.endpoint
    here = happened(table, event)
    if event.strategy == "principal stratum":
        return *_stratum(table, event, protocol), 0
    at = np.where(here, _when(table, event, here, protocol), np.inf)
    time = table[e.outcome].cast(pl.Float64).to_numpy()
    seen = table[e.event].cast(pl.Float64).to_numpy()
    first = here & (at < time)
    counts = 1.0 if event.strategy == "composite" else 0.0
    table = table.with_columns(pl.Series(e.outcome, np.where(first, at, time)), pl.Series(e.event, np.where(first, counts, seen)))
    done = "counts as the event" if counts else "censors"
    return table, f"{event.name}: {event.strategy}; {done} in {int(first.sum())} subjects", int(first.sum())


def _repeated(protocol: Protocol, table: pl.DataFrame, events: list[Event]) -> tuple[pl.DataFrame, list[str], int]:
    if any(e.strategy != "principal stratum" for e in events):
        table = with_times(protocol, table)
    found: list[tuple[object, str, float]] = []
    log: list[str] = []
    for event in events:
        here = happened(table, event)
        if event.strategy == "principal stratum":
            table, words = _stratum(table, event, protocol)
            log.append(words)
            continue
        _when(table, event, here, protocol)
        rows = table.filter(pl.Series(here, dtype=pl.Boolean)).sort(event.time).unique(protocol.subject, maintain_order=True)
        found += [(s, event.name, t) for s, t in zip(rows[protocol.subject].to_list(), rows[event.time].to_list(), strict=True)]
    listed = pl.DataFrame(
        {protocol.subject: [f[0] for f in found], "event": [f[1] for f in found], "time": [f[2] for f in found]},
        schema={protocol.subject: table.schema[protocol.subject], "event": pl.String, "time": pl.Float64},
    )  # fmt: skip
    events = [e for e in events if e.strategy != "principal stratum"]
    if not events:
        return table, log, 0
    known = set(table[protocol.subject].to_list())
    listed = listed.filter(pl.col(protocol.subject).is_in(list(known)))
    strategies = tuple(_strategy(x) for x in events)
    touched = 0
    done = _all_arms(protocol, table, listed, strategies)
    for event in events:
        lines = done.log.filter(pl.col("event") == event.name)
        rows_changed = int(lines["rows"].sum()) if len(lines) else 0
        touched += rows_changed
        log.append(f"{event.name}: {event.strategy}; {len(lines)} subjects, {rows_changed} outcomes {_DONE[event.strategy]}")
    return done.table, log, touched


def _all_arms(
    protocol: Protocol, table: pl.DataFrame, listed: pl.DataFrame, strategies: tuple[e9.IntercurrentEvent, ...]
) -> e9.Applied:
    """`estimand.apply` compares two arms; the strategies are the same in all, so arms are taken in pairs and put together."""
    tables, logs = [], []
    for k, arm in enumerate(protocol.arms.active):
        pair = [arm] if k else [protocol.arms.control, arm]
        part = table.filter(pl.col(ARM).is_in(pair))
        known = set(part[protocol.subject].to_list())
        mine = listed.filter(pl.col(protocol.subject).is_in(list(known)))
        plan, e = protocol.estimand, protocol.endpoint
        assert plan is not None
        two = e9.Estimand(
            e9.Treatment(ARM, arm, protocol.arms.control), plan.population, e9.Variable(e.outcome, e.unit, e.at), strategies,
            "difference in means",
        )  # fmt: skip
        done = e9.apply(two, part, mine, subject=protocol.subject, time=TIME)
        tables.append(done.table)
        logs.append(done.log)
    return e9.Applied(pl.concat(tables), pl.concat(logs), {})


def _strategy(event: Event) -> e9.IntercurrentEvent:
    handling: e9.Handling = (
        "MAR" if event.strategy == "hypothetical" else "LOCF" if event.strategy == "while on treatment" else "none"
    )
    return e9.IntercurrentEvent(event.name, event.strategy, handling, event.value)  # type: ignore[arg-type]


def with_times(protocol: Protocol, table: pl.DataFrame) -> pl.DataFrame:
    """The table with the time of every visit in `visit_time`: the protocol's, or the visit's own number."""
    e = protocol.endpoint
    names = [name_of(v) for v in table[e.visit].to_list()]
    times = dict(e.times)
    for n in dict.fromkeys(names):
        if n in times:
            continue
        try:
            times[n] = float(n)
        except ValueError:
            remedy = f"write endpoint: times: {{{n}: …}} for every visit"
            raise DataError("a visit without a time", source=protocol.source, column=e.visit, value=n, remedy=remedy) from None
    return table.with_columns(pl.Series(TIME, [times[n] for n in names], dtype=pl.Float64))
