"""Charts of a trial's report: forest plot, twin against observed, calibration, courses, balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gemello.report.chart import BLACK, BLUE, GREY, PALETTE, VERMILLION, Chart, Line, Mark, Points, Rule, Zone
from gemello.report.words import axis, number
from gemello.trial.analysis.result import Estimate

Array = NDArray[np.float64]


def forest(rows: Sequence[tuple[str, Estimate]], title: str, unit: str = "1") -> Chart:
    """Estimates with intervals, one below the other; ratios on a logarithmic axis of which the numbers are the logarithms."""
    log = any(e.scale == "log" for _, e in rows)
    x = np.array([e.estimate for _, e in rows])
    ends = np.array([limits(e) for _, e in rows])
    words = tuple(f"{name}: {told(e)}" for name, e in rows)
    null = rows[0][1].null
    marks: list[Mark] = [
        Rule(null, "x", "no effect"),
        Points(x, np.arange(len(rows), dtype=float), "", BLACK, "diamond", 5.0, low=ends[:, 0], high=ends[:, 1], words=words),
    ]
    measure = rows[0][1].measure
    has_unit = not log and (any(w in measure for w in ("mean", "restricted", "rate difference")) or measure == "difference")
    return Chart(
        axis(measure if not log or measure.startswith("log") else f"log {measure}", unit if has_unit else "1"), "", marks,
        f"Forest plot: {'; '.join(words)}.", title, rows=tuple(n for n, _ in rows), height=90 + 34 * len(rows),
    )  # fmt: skip


def p_value(p: float, digits: int = 2) -> str:
    """A p value that reads well: never 0, never with an exponent."""
    if not np.isfinite(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.001 else number(p, max(digits, 2) if p < 0.1 else 3)


def p_words(p: float) -> str:
    """ "p = 0.031" or "p < 0.0001"."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def limits(e: Estimate) -> tuple[float, float]:
    """Interval on the scale of the estimate: the credible one of a posterior, else the confidence interval."""
    if "credible_lower" in e.extra:
        return float(e.extra["credible_lower"]), float(e.extra["credible_upper"])
    return e.interval


def told(e: Estimate, digits: int = 4) -> str:
    """Estimate and interval in words, a ratio as a ratio."""
    if e.scale == "log":
        value, low, high = (float(np.exp(v)) for v in (e.estimate, *limits(e)))
    else:
        value, (low, high) = e.estimate, limits(e)
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def scatter(score: Array, outcome: Array, arm: Sequence[str], labels: Mapping[str, str], names: tuple[str, str]) -> Chart:
    """Observed outcome against the twin's forecast, one point a participant, colours by arm. names: axes of score and outcome."""
    marks: list[Mark] = []
    here = np.array(arm)
    both = np.isfinite(score) & np.isfinite(outcome)
    for k, a in enumerate(labels):
        pick = both & (here == a)
        marks.append(Points(score[pick], outcome[pick], labels[a], PALETTE[k % len(PALETTE)], "open" if k else "circle", 2.5))
    ends = np.array([np.nanmin(score[both]), np.nanmax(score[both])])
    marks.append(Line(ends, ends, "equal", GREY, dashed=True, width=1.2))
    words = f"{int(both.sum())} participants; dashed: forecast and observation equal"
    return Chart(names[0], names[1], marks, f"Observed against forecast: {words}.", height=420)


def calibration(score: Array, outcome: Array, names: tuple[str, str], groups: int = 10) -> Chart:
    """Mean observed against mean forecast in groups of equal size, with 95 % intervals of the mean."""
    both = np.isfinite(score) & np.isfinite(outcome)
    s, y = score[both], outcome[both]
    order = np.argsort(s, kind="stable")
    parts = [p for p in np.array_split(order, min(groups, max(1, len(s) // 5))) if len(p) > 1]
    x = np.array([s[p].mean() for p in parts])
    m = np.array([y[p].mean() for p in parts])
    e = np.array([1.96 * y[p].std(ddof=1) / np.sqrt(len(p)) for p in parts])
    ends = np.array([min(x.min(), m.min()), max(x.max(), m.max())])
    marks: list[Mark] = [
        Line(ends, ends, "perfect calibration", GREY, dashed=True, width=1.2),
        Points(x, m, "mean of a group, 95 % interval", BLUE, error=e),
    ]
    return Chart(names[0], names[1], marks, f"Calibration in {len(parts)} groups of the control arm.", height=360)


def courses(
    times: Array, observed: Mapping[str, tuple[Array, Array]], twin: Mapping[str, Array], names: tuple[str, str], ticks: str = ""
) -> Chart:
    """Means by arm over time with 95 % intervals, and the mean of the twins. observed: label -> (means, half widths); twin: label
    -> means of the control forecasts of that arm's participants."""
    marks: list[Mark] = []
    for k, (label, (mean, half)) in enumerate(observed.items()):
        color = PALETTE[k % len(PALETTE)]
        marks += [Line(times, mean, label, color), Points(times, mean, "", color, error=half)]
    for k, (label, mean) in enumerate(twin.items()):
        marks.append(Line(times, mean, f"twins of {label}", PALETTE[k % len(PALETTE)], dashed=True))
    return Chart(names[0], names[1], marks, f"Mean course by arm, observed and as the twins had it. {ticks}", height=380)


def survival(curves: Mapping[str, tuple[Array, Array]], x_title: str) -> Chart:
    """Kaplan–Meier curves as steps. curves: label -> (times from 0, survival just after each)."""
    marks: list[Mark] = []
    for k, (label, (t, s)) in enumerate(curves.items()):
        marks.append(Line(np.repeat(t, 2)[1:], np.repeat(s, 2)[:-1], label, PALETTE[k % len(PALETTE)]))
    said = "; ".join(f"{label} ends at {100 * s[-1]:.0f} %" for label, (_, s) in curves.items())
    return Chart(x_title, "share without the event", marks, f"Kaplan–Meier curves: {said}.", y_range=(0.0, 1.02), height=380)


def balance(before: Mapping[str, float], after: Mapping[str, Mapping[str, float]], title: str) -> Chart:
    """Standardised mean differences of covariates, before and after each method (a Love plot)."""
    rows = tuple(before)
    y = np.arange(len(rows), dtype=float)
    marks: list[Mark] = [Zone(-0.1, 0.1, "x", "within 0.1"), Rule(0.0, "x")]
    marks.append(Points(np.array([before[r] for r in rows]), y, "before", VERMILLION, "open", 4.5))
    for k, (method, values) in enumerate(after.items()):
        marks.append(Points(np.array([values.get(r, np.nan) for r in rows]), y, method, PALETTE[(k + 3) % len(PALETTE)]))
    words = "Standardised mean differences of the external controls against the trial, before and after adjustment."
    return Chart("standardised mean difference", "", marks, words, title, rows=rows, height=100 + 26 * len(rows))
