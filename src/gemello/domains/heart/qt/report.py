"""The report of a concentration-QTc analysis: one HTML file that a reviewer can read."""

from __future__ import annotations

from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import numpy as np

from gemello.base.version import __version__
from gemello.domains.heart.qt.coverage import HeldOut
from gemello.domains.heart.qt.e14 import THRESHOLD, Analysis, AtTime
from gemello.report import render
from gemello.report.chart import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, Band, Chart, Line, Mark, Points, Rule
from gemello.report.diagnostics import normal_quantiles
from gemello.report.pictures import Grid, Pictures
from gemello.report.tables import Table
from gemello.report.words import number, percent, plural

COLORS = (BLUE, ORANGE, GREEN, PURPLE)  # of doses


def qt_report(
    analysis: Analysis, *, path: Path | str, twins: HeldOut | None = None, twin_model: str = "", known: float = 0.0,
    title: str = "", interactive: bool = True,
) -> Path:  # fmt: skip
    """Write the report; returns the path. twins: forecasts of subjects left out of the population, by `twin_model` (in words),
    which had seen the day up to `known` h. interactive: inline plotly (about 5 MB). Raises DataError."""
    pictures, study = Pictures(interactive), analysis.study
    words: dict[str, Any] = {
        "title": title or f"Concentration-QTc analysis of {study.drug}",
        "analysis": analysis,
        "study": study,
        "verdict": verdict(analysis),
        "notes": analysis.notes,
        "counts": _counts(analysis),
        "predictions": predictions_table(analysis),
        "relation": pictures.draw(relation_chart(analysis), "ΔΔQTcF against concentration: model and observed deciles"),
        "effects": effects_table(analysis),
        "course": pictures.draw(course_chart(analysis), "Mean ΔΔQTcF over time with 90 % intervals"),
        "by_time": by_time_table(analysis),
        "loop": pictures.draw(loop_chart(analysis), "Mean ΔΔQTcF against mean concentration, in order of time"),
        "loop_words": _loop_words(analysis),
        "residuals": pictures.draw(residual_chart(analysis), "Residuals of the model against nominal time"),
        "against": pictures.draw(residual_chart(analysis, "concentration"), "Residuals of the model against concentration"),
        "quantiles": pictures.draw(quantile_chart(analysis), "Normal quantiles of the residuals, with 95 % of what chance does"),
        "corrections": corrections_table(analysis),
        "twins": _twins(twins, twin_model, known, pictures),
        "provenance": provenance_table(analysis),
    }
    return render.write("qt.html", words, path, package="gemello.domains.heart.qt", interactive=interactive)


# ---- words -------------------------------------------------------------------------------------------------------------
def verdict(a: Analysis) -> str:
    """The decision in one sentence."""
    top = max(a.predictions, key=lambda p: p.concentration)
    c = top.contrast
    what = "is excluded" if a.excluded else "is not excluded"
    return (
        f"An effect of {THRESHOLD:g} ms {what} at {number(top.concentration)} {a.study.unit} ({top.label}): "
        f"ΔΔQTcF {c.value:.1f} ms, 90 % interval {c.low:.1f} to {c.high:.1f} ms."
    )


def _counts(a: Analysis) -> str:
    s = a.study
    drug, placebo = (len(np.unique(s.subject[m])) for m in (s.active, ~s.active))
    kind = "crossover" if s.crossover else "parallel"
    return (
        f"{s.source}: {plural(len(s), 'record')} of {plural(len(np.unique(s.subject)), 'subject')} ({drug} on {s.drug}, "
        f"{placebo} on placebo; {kind}), {len(s.times)} nominal times from {s.times[0]:g} to {s.times[-1]:g} h."
    )


def _loop_words(a: Analysis) -> str:
    h = a.hysteresis
    return (
        f"Largest mean concentration at {h.peak_concentration:g} h, largest mean effect at {h.peak_effect:g} h. The loop "
        f"encloses {100 * h.area:.1f} % of its box (positive: the effect lags), 90 % interval over subjects {100 * h.low:.1f} to "
        f"{100 * h.high:.1f} %."
    )


# ---- tables ------------------------------------------------------------------------------------------------------------
def predictions_table(a: Analysis) -> Table:
    """ΔΔQTcF of the model at each exposure."""
    rows = tuple(
        (p.label, number(p.concentration), f"{p.contrast.value:.2f}", f"{p.contrast.low:.2f}", f"{p.contrast.high:.2f}",
         f"{p.contrast.df:.1f}", "yes" if p.contrast.high < THRESHOLD else "no")
        for p in a.predictions
    )  # fmt: skip
    columns = (
        "exposure", f"concentration ({a.study.unit})", "ΔΔQTcF (ms)", "90 % lower (ms)", "90 % upper (ms)", "df",
        f"upper below {THRESHOLD:g} ms?",
    )  # fmt: skip
    return Table("Predicted ΔΔQTcF", columns, rows, frozenset({1, 2, 3, 4, 5}))


def effects_table(a: Analysis) -> Table:
    """Fixed effects but those of time, and the variances."""
    rows = []
    for name, unit in (("intercept", "ms"), ("treatment", "ms"), ("concentration", f"ms per {a.study.unit}"), ("baseline", "1")):
        c = a.model.effect(name)
        ends = (number(c.se, 3), number(c.low), number(c.high), f"{c.df:.1f}", f"{c.p:.2g}")
        rows.append((f"{name} ({unit})" if unit != "1" else name, number(c.value), *ends))
    d, r = np.sqrt(np.diag(a.model.random)), a.model.random
    rho = r[0, 1] / (d[0] * d[1]) if d.all() else float("nan")
    between = (
        f"intercept {number(float(d[0]), 3)} ms, slope {number(float(d[1]), 3)} ms per {a.study.unit}, "
        f"correlation {number(float(rho), 2)}"
    )
    note = (
        f"Standard deviations between subjects: {between}; residual {number(a.model.residual**0.5, 3)} ms. Restricted "
        f"log-likelihood {a.model.loglik:.3f}. Time enters as a factor. Standard errors and degrees of freedom after Kenward and "
        "Roger (1997)."
    )
    columns = ("fixed effect", "estimate", "standard error", "90 % lower", "90 % upper", "df", "p")
    return Table("Linear mixed-effects model of ΔQTcF, by REML", columns, tuple(rows), frozenset(range(1, 7)), note=note)


def by_time_table(a: Analysis) -> Table:
    """Mean ΔΔQTcF at each time."""
    rows = tuple(
        (number(t.dose), number(t.time), number(t.concentration), f"{t.mean:.1f}", f"{t.low:.1f}", f"{t.high:.1f}", f"{t.drug}",
         f"{t.placebo}", number(t.heart_rate, 2))
        for t in a.by_time
    )  # fmt: skip
    columns = (
        "dose (as in the file)", "time (h)", f"mean concentration ({a.study.unit})", "mean ΔΔQTcF (ms)", "90 % lower (ms)",
        "90 % upper (ms)", "on drug", "on placebo", "ΔΔ heart rate (beats/min)",
    )  # fmt: skip
    peak = frozenset({i for i, t in enumerate(a.by_time) if t is a.peak})
    note = (
        f"Intersection-union test of ICH E14: an effect of {THRESHOLD:g} ms "
        + ("is excluded at every time." if a.excluded_by_time else "is not excluded.")
        + " Intervals: t, with the covariance of subjects that had both treatments."
    )
    return Table("Mean ΔΔQTcF by time", columns, rows, frozenset(range(9)), peak, note)


def corrections_table(a: Analysis) -> Table | None:
    """Slopes on RR without drug."""
    if not a.corrections:
        return None
    rows = tuple((c.name, f"{c.slope:.1f}", f"{c.low:.1f}", f"{c.high:.1f}") for c in a.corrections)
    note = "Within subjects on placebo; a correction that holds leaves a slope near 0."
    columns = ("interval", "slope (ms per s of RR)", "90 % lower", "90 % upper")
    return Table("Heart-rate correction", columns, rows, frozenset({1, 2, 3}), note=note)


def provenance_table(a: Analysis) -> Table:
    """What was read, as what, and by which version."""
    rows = (
        ("file", a.study.source),
        ("hash of the numbers", a.study.hash),
        ("columns", ", ".join(f"{k} from {v}" for k, v in a.study.columns.items())),
        ("gemello", __version__),
    )
    return Table("Where the numbers come from", ("what", "value"), rows)


# ---- charts ------------------------------------------------------------------------------------------------------------
def relation_chart(a: Analysis) -> Chart:
    """Line of the model with its band, every observed ΔΔQTcF, means of the deciles, and the exposures asked for."""
    c = a.study.conc[a.study.active]
    grid = np.linspace(0.0, float(max(c.max(), *(p.concentration for p in a.predictions))), 61)
    found = [a.at(v) for v in grid]
    x, y = (np.array([getattr(d, n) for d in a.deciles]) for n in ("concentration", "mean"))
    half = np.array([d.high - d.mean for d in a.deciles])
    marks: list[Mark] = [
        Points(c, a.paired, "observed, one record", GREY, "open", 2.2),
        Band(
            grid, np.array([f.low for f in found]), np.array([f.high for f in found]), "90 % interval of the model", opacity=0.28
        ),
        Line(grid, np.array([f.value for f in found]), "model"),
        Points(x, y, "mean of a decile, 90 % interval", BLACK, "circle", 4.5, error=half),
        Rule(THRESHOLD, "y", f"{THRESHOLD:g} ms", VERMILLION),
    ]
    for p in a.predictions[:3]:
        marks.append(Rule(p.concentration, "x", p.label.removeprefix("geometric mean ")))  # room for the words
    told = f"ΔΔQTcF rises by {a.slope.value:.4g} ms per {a.study.unit}; observed deciles lie beside the line."
    return Chart(f"concentration ({a.study.unit})", "ΔΔQTcF (ms)", marks, told, height=400)


def course_chart(a: Analysis) -> Chart:
    """Mean ΔΔQTcF over time, with what the model says at the mean concentration."""
    marks: list[Mark] = []
    for (dose, means), color in zip(_doses(a), cycle(COLORS), strict=False):
        t, y = np.array([p.time for p in means]), np.array([p.mean for p in means])
        half, line = np.array([p.high - p.mean for p in means]), np.array([a.at(p.concentration).value for p in means])
        marks += [
            Line(t, line, f"model at the mean concentration{dose}", color, dashed=True),
            Line(t, y, "", color, width=1.2),
            Points(t, y, f"observed mean, 90 % interval{dose}", color, "circle", 4.5, error=half),
        ]
    marks.append(Rule(THRESHOLD, "y", f"{THRESHOLD:g} ms", VERMILLION))
    return Chart("time (h)", "ΔΔQTcF (ms)", marks, f"Mean ΔΔQTcF is largest at {a.peak.time:g} h with {a.peak.mean:.1f} ms.")


def loop_chart(a: Analysis) -> Chart:
    """Mean effect against mean concentration, joined in order of time."""
    marks: list[Mark] = []
    for (dose, means), color in zip(_doses(a), cycle(COLORS), strict=False):
        c, e = np.array([p.concentration for p in means]), np.array([p.mean for p in means])
        words = tuple(f"{p.time:g} h: {p.mean:.1f} ms at {p.concentration:.4g} {a.study.unit}" for p in means)
        marks += [
            Line(np.concatenate([[0.0], c]), np.concatenate([[0.0], e]), f"in order of time{dose}", color),
            Points(c, e, "", BLACK, "circle", 4.0, words=words),
            Points(c[:1], e[:1], f"first time, {means[0].time:g} h{dose}", VERMILLION, "diamond", 6.0),
        ]
    return Chart(
        f"mean concentration ({a.study.unit})", "mean ΔΔQTcF (ms)", marks, "Loop of effect and concentration.", height=320
    )


def _doses(a: Analysis) -> list[tuple[str, list[AtTime]]]:
    """Means by time of each dose; its name for a legend, empty where there is one dose."""
    groups = [(d, list(g)) for d, g in groupby(a.by_time, key=lambda p: p.dose)] if np.isfinite(a.by_time[0].dose) else []
    groups = groups or [(float("nan"), list(a.by_time))]
    return [(f", dose {d:g}" if len(groups) > 1 else "", g) for d, g in groups]


def residual_chart(a: Analysis, against: str = "time") -> Chart:
    """Residuals (with the subject's random effects) on drug and on placebo, against time (spread a little) or concentration."""
    rest = a.study.change - a.model.fitted
    timed = against == "time"
    x, name = (a.study.time, "time (h)") if timed else (a.study.conc, f"concentration ({a.study.unit})")
    groups = ((a.study.active, a.study.drug, BLUE, 0.05), (~a.study.active, "placebo", GREY, -0.05))
    marks: list[Mark] = [Rule(0.0, "y")]
    marks += [Points(x[m] + timed * shift, rest[m], who, color, "open", 2.4) for m, who, color, shift in groups]
    return Chart(name, "residual (ms)", marks, f"Residuals of the linear mixed model against {against}.", height=300)


def quantile_chart(a: Analysis) -> Chart:
    """Normal quantiles of the residuals over their standard deviation."""
    rest = (a.study.change - a.model.fitted) / np.sqrt(a.model.residual)
    return normal_quantiles(rest, "residual / its SD")


def _twins(held: HeldOut | None, model: str, known: float, pictures: Pictures) -> dict[str, Any] | None:
    if held is None:
        return None
    c = held.coverage
    ids = sorted(dict.fromkeys(held.id.tolist()), key=lambda s: (len(s), s))
    low, high = float(min(held.low.min(), held.value.min())), float(max(held.high.max(), held.value.max()))
    grid: Grid | None = pictures.grid(
        [_subject_chart(held, s, (low - 5.0, high + 5.0)) for s in ids],
        f"Twins of all {len(ids)} subjects: median and {percent(held.level)} interval of new measurements, and what was measured",
    )
    errors = f"standard error {100 * c.error:.1f} points by subject, {100 * held.binomial:.1f} were they independent"
    sentence = (
        f"Model: {model}. Each subject was left out of the population that its twin starts from; the twin had seen the ECG "
        f"before the dose and those up to {known:g} h, and was told the later concentrations. Of {c.number} later measurements "
        f"{percent(c.share, 1)} lie in the {percent(held.level)} interval ({errors}); the medians miss by {held.rmse:.1f} ms "
        "(root mean square)."
    )
    return {"sentence": sentence, "grid": grid}


def _subject_chart(held: HeldOut, subject: str, y_range: tuple[float, float]) -> Chart:
    here = held.id == subject
    t, inside = held.time[here], (held.value >= held.low)[here] & (held.value <= held.high)[here]
    y = held.value[here]
    marks: list[Mark] = [
        Band(t, held.low[here], held.high[here], "", opacity=0.25),
        Line(t, held.median[here]),
        Points(t[inside], y[inside], "", BLACK, "circle", 3.0),
        Points(t[~inside], y[~inside], "", VERMILLION, "diamond", 4.0),
    ]
    told = f"Subject {subject}: {int(inside.sum())} of {len(y)} later measurements inside the interval."
    return Chart("time (h)", "QTcF (ms)", marks, told, f"subject {subject}", y_range=y_range, height=210)
