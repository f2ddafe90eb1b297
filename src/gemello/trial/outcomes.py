"""What was seen, arm by arm, before any model: a table, and courses or curves. The part of a dossier that assumes least."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.formats.yamlfile import name_of
from gemello.report.chart import Chart
from gemello.report.tables import Table
from gemello.report.words import axis, number, percent
from gemello.trial import figures
from gemello.trial.analyse import Result
from gemello.trial.analysis.survival.kaplan_meier import curve
from gemello.trial.prepare import ARM, visit_order
from gemello.trial.primary import SCORE
from gemello.trial.protocol import Protocol

Array = NDArray[np.float64]


def table(result: Result) -> Table:
    """One row an arm: subjects randomised and analysed, and the outcome in a few numbers."""
    p, e = result.protocol, result.protocol.endpoint
    rows = []
    for a in result.prepared.arms:
        here = at_endpoint(p, result.table.filter(pl.col(ARM) == a))
        analysed = result.table.filter(pl.col(ARM) == a)[p.subject].n_unique()
        cells = _numbers(p, here)
        rows.append((p.arms.label(a), str(result.prepared.subjects[a]), str(analysed), *cells))
    heads = {
        "continuous": ("mean", "SD"), "repeated": (f"seen at {e.at}", "mean", "SD"), "binary": ("with the outcome", "share"),
        "count": ("mean", "SD", "total"), "ordinal": ("median", "quartiles"),
        "time-to-event": ("events", "follow-up, median of all", "median time to event"),
    }[e.kind]  # fmt: skip
    columns = ("arm", "in the population", "analysed", *heads)
    unit = "" if e.unit in ("", "1") else f" Unit: {e.unit}."
    note = f"As observed, after the estimand's strategies; no model. {e.better.capitalize()} is better.{unit}"
    return Table(f"Outcome by arm: {e.label}", columns, tuple(rows), frozenset(range(1, len(columns))), note=note)


def picture(result: Result) -> tuple[Chart, str] | None:
    """Mean course with the twins' (repeated), or survival curves (time to event), and the caption; None for other kinds."""
    p, e = result.protocol, result.protocol.endpoint
    labels = {a: p.arms.label(a) for a in result.prepared.arms}
    if e.kind == "time-to-event":
        curves = {}
        for a, label in labels.items():
            here = result.table.filter(pl.col(ARM) == a)
            km = curve(here[e.outcome].cast(pl.Float64).to_numpy(), here[e.event].cast(pl.Float64).to_numpy())
            at = np.concatenate([[0.0], km.times, [km.last]])
            curves[label] = (at, np.concatenate([[1.0], km.survival, km.survival[-1:] if len(km.survival) else [1.0]]))
        chart = figures.survival(curves, axis(e.label, e.unit))
        return chart, f"Kaplan–Meier curves by arm: without the event ({e.event})"
    if e.kind != "repeated":
        return None
    return _course(result, labels)


def _course(result: Result, labels: dict[str, str]) -> tuple[Chart, str]:
    p, e = result.protocol, result.protocol.endpoint
    visits = visit_order(result.table[e.visit].to_list(), e.times)
    timed = all(v in e.times for v in visits)
    x = np.array([e.times[v] for v in visits]) if timed else np.arange(1.0, len(visits) + 1)
    named = result.table.with_columns(pl.Series("visit_name", [name_of(v) for v in result.table[e.visit].to_list()]))
    observed, twins = {}, {}
    forecast = result.score is not None and p.score is not None and p.score.same_scale and SCORE in named.columns
    for a, label in labels.items():
        groups = [named.filter((pl.col(ARM) == a) & (pl.col("visit_name") == v)) for v in visits]
        observed[label] = (
            np.array([_mean(g[e.outcome]) for g in groups]), np.array([_half(g[e.outcome]) for g in groups])
        )  # fmt: skip
        if forecast:
            twins[label] = np.array([_mean(_raw(result, g)) for g in groups])
    ticks = "" if timed else f"Visits in order: {', '.join(visits)}."
    names = ("time since randomisation" if timed else "visit", axis(e.label, e.unit))
    more = "; dashed: what the twins of the same participants had been forecast on control" if twins else ""
    return figures.courses(
        x, observed, twins, names, ticks
    ), f"Mean course by arm, 95 % intervals, as observed{more}{f'. {ticks[:-1]}' if ticks else ''}"


def _raw(result: Result, rows: pl.DataFrame) -> pl.Series:
    """Scores as they were forecast: the analysis centres and scales them."""
    assert result.score is not None
    keys = [result.protocol.subject, result.protocol.endpoint.visit]
    return rows.select(keys).join(result.score.table.select(*keys, SCORE), on=keys, how="left")[SCORE]


def at_endpoint(p: Protocol, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of the primary comparison."""
    if not p.endpoint.visit:
        return rows
    return rows.filter(pl.Series([name_of(v) == p.endpoint.at for v in rows[p.endpoint.visit].to_list()], dtype=pl.Boolean))


def _numbers(p: Protocol, rows: pl.DataFrame) -> tuple[str, ...]:
    e = p.endpoint
    y = rows[e.outcome].cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    if e.kind == "binary":
        return str(int(y.sum())), percent(float(y.mean()), 1)
    if e.kind == "count":
        return number(float(y.mean())), number(float(y.std(ddof=1))), number(float(y.sum()))
    if e.kind == "ordinal":
        low, middle, high = np.quantile(y, (0.25, 0.5, 0.75))
        return number(middle), f"{number(low)} to {number(high)}"
    if e.kind == "time-to-event":
        km = curve(y, rows[e.event].cast(pl.Float64).to_numpy())
        below = np.flatnonzero(km.survival <= 0.5)
        median = number(float(km.times[below[0]])) if len(below) else "not reached"
        return str(int(km.events.sum())), number(float(np.median(y))), median
    cells = (number(float(y.mean())), number(float(y.std(ddof=1)) if len(y) > 1 else float("nan")))
    return (str(len(y)), *cells) if e.kind == "repeated" else cells


def _mean(values: pl.Series) -> float:
    y = values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    return float(y.mean()) if len(y) else float("nan")


def _half(values: pl.Series) -> float:
    y = values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    return 1.96 * float(y.std(ddof=1)) / np.sqrt(len(y)) if len(y) > 1 else float("nan")
