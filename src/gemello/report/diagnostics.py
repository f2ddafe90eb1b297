"""The charts of a population fit, each a pure function of results: goodness of fit, individual fits, VPC, NPDE, bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta

from gemello.inference.bootstrap import Bootstrap
from gemello.inference.npde import Npde
from gemello.inference.residuals import Course, Goodness
from gemello.inference.result import Fit
from gemello.inference.vpc import Percentile, Vpc
from gemello.model.contract import Model
from gemello.report.chart import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION, Band, Chart, Line, Mark, Points, Rule, Zone
from gemello.report.words import axis, number, percent

Floats = NDArray[np.float64]
SPAN = 0.67  # share of the values that a smooth line looks at


@dataclass(frozen=True)
class Panel:
    """A chart and its caption."""

    chart: Chart
    caption: str


# ---- goodness of fit -----------------------------------------------------------------------------------------------
def goodness_panels(g: Goodness, model: Model, output: int) -> list[Panel]:
    """Measured against both predictions, CWRES over time and typical prediction, |IWRES| over the individual prediction,
    histogram and normal quantiles of CWRES; of one output. Values that are limits only have no residual and are left out."""
    o = model.outputs[output]
    here = (g.output == output) & (g.data.censored == 0)
    y, typical, individual, t, c, w = (v[here] for v in (g.measured, g.typical, g.individual, g.time, g.cwres, g.iwres))
    who = [i for i, h in zip(g.ids, here, strict=True) if h]
    words = tuple(
        f"subject {i}, {number(a)} {model.time_unit}: measured {number(v)} {o.unit}" for i, a, v in zip(who, t, y, strict=True)
    )
    out = [
        Panel(_against(x, y, f"{kind} prediction", o.name, o.unit, words), f"Measured against {kind} prediction ({o.name})")
        for x, kind in ((individual, "individual"), (typical, "typical"))
    ]
    for x, title, name in (
        (t, axis("time", model.time_unit), "time"),
        (typical, axis("typical prediction", o.unit), "typical prediction"),
    ):
        out.append(Panel(_residuals(x, c, title, o.name, words), f"CWRES over {name} ({o.name})"))
    out.append(Panel(_absolute(individual, w, axis("individual prediction", o.unit), o.name, words),
                     f"Size of the individual residuals over the individual prediction ({o.name})"))  # fmt: skip
    out.append(Panel(histogram(c, f"CWRES of {o.name}"), f"Distribution of CWRES ({o.name}); the line is the standard normal"))
    out.append(
        Panel(normal_quantiles(c, f"CWRES of {o.name}"), f"Normal quantiles of CWRES ({o.name}), with 95 % of what chance does")
    )
    return out


def _against(x: Floats, y: Floats, kind: str, name: str, unit: str, words: tuple[str, ...]) -> Chart:
    ends = np.array([min(0.0, float(np.min(y))), float(max(np.max(y), np.max(x)))])
    marks: list[Mark] = [
        Line(ends, ends, "", GREY, dashed=True, width=1.5), Points(x, y, "", BLUE, "circle", 3.0, words=words), *_smooth(x, y),
    ]  # fmt: skip
    told = f"Measured {name} against the {kind}; the dashed line is equality, the other a local regression."
    return Chart(axis(kind, unit), axis(f"measured {name}", unit), marks, told, height=300)


def _residuals(x: Floats, c: Floats, title: str, name: str, words: tuple[str, ...], what: str = "CWRES") -> Chart:
    wide = float(max(3.0, np.nanmax(np.abs(c)) * 1.05)) if np.isfinite(c).any() else 3.0
    marks: list[Mark] = [
        Zone(-1.96, 1.96, "y", "95 % of a standard normal", GREEN, 0.08), Rule(0.0, "y"),
        Points(x, c, "", BLUE, "circle", 3.0, words=words), *_smooth(x, c),
    ]  # fmt: skip
    told = f"{what} of {name} over {title}; about 95 % should lie in the strip, and the line (a local regression) near 0."
    return Chart(title, what, marks, told, y_range=(-wide, wide), height=300)


def _absolute(x: Floats, w: Floats, title: str, name: str, words: tuple[str, ...]) -> Chart:
    size = np.abs(w)
    marks: list[Mark] = [
        Rule(0.674, "y", "median of a standard normal"), Points(x, size, "", BLUE, "circle", 3.0, words=words), *_smooth(x, size),
    ]  # fmt: skip
    told = f"Absolute individual weighted residuals of {name}; a slope says that the residual error model does not fit."
    return Chart(title, "|IWRES|", marks, told, height=300)


def histogram(x: Floats, name: str) -> Chart:
    """Density of x beside the standard normal."""
    x = x[np.isfinite(x)]
    count = int(np.clip(np.sqrt(len(x)), 5, 30))
    density, edges = np.histogram(x, bins=count, density=True) if len(x) else (np.zeros(1), np.array([-1.0, 1.0]))
    steps, height = np.repeat(edges, 2)[1:-1], np.repeat(density, 2)
    grid = np.linspace(min(-3.5, float(edges[0])), max(3.5, float(edges[-1])), 141)
    marks: list[Mark] = [
        Band(steps, np.zeros_like(height), height, "", BLUE, 0.35),
        Line(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), "", BLACK),
    ]  # fmt: skip
    told = f"Histogram of {len(x)} {name} with the standard normal density."
    return Chart(name, "density", marks, told, height=300)


def normal_quantiles(x: Floats, name: str, level: float = 0.95) -> Chart:
    """Ordered x against the quantiles of a standard normal, with the pointwise band of independent draws (order statistics)."""
    x = np.sort(x[np.isfinite(x)])
    n, rank = len(x), np.arange(1, len(x) + 1)
    at = ndtri((rank - 0.5) / n) if n else np.zeros(0)
    low, high = (ndtri(beta.ppf(p, rank, n + 1 - rank)) for p in (0.5 - level / 2, 0.5 + level / 2))
    marks: list[Mark] = [Band(at, low, high, "", GREEN, 0.15), Line(at, at, "", GREY, dashed=True, width=1.5),
                         Points(at, x, "", BLUE, "circle", 2.5)]  # fmt: skip
    told = f"Ordered {name} against normal quantiles; {percent(level)} of independent normal values lie in the band."
    return Chart("standard normal quantile", name, marks, told, height=300)


def _smooth(x: Floats, y: Floats) -> list[Mark]:
    """Local linear regression (Cleveland 1979, without its robustness weights), where there are enough different values."""
    fine = np.isfinite(x) & np.isfinite(y)
    x, y = x[fine], y[fine]
    if len(np.unique(x)) < 5 or len(x) < 10:
        return []
    at = np.linspace(float(x.min()), float(x.max()), 41)
    k = max(int(SPAN * len(x)), 5)
    out = np.empty(len(at))
    for i, a in enumerate(at):
        d = np.abs(x - a)
        reach = max(float(np.partition(d, k - 1)[k - 1]), 1e-12 * float(np.ptp(x)))
        w = np.clip(1 - (d / (1.0001 * reach)) ** 3, 0, None) ** 3
        mx, my = np.average(x, weights=w), np.average(y, weights=w)
        spread = np.average((x - mx) ** 2, weights=w)
        out[i] = my + (a - mx) * np.average((x - mx) * (y - my), weights=w) / spread if spread > 0 else my
    return [Line(at, out, "", VERMILLION, width=2.0)]


def individual_panels(g: Goodness, courses: Sequence[Course], model: Model, output: int) -> list[Panel]:
    """One small chart of each subject: what was measured, the individual and the typical course."""
    o, out = model.outputs[output], []
    for c in courses:
        here = np.array([i == c.id for i in g.ids]) & (g.output == output)
        if not here.any():
            continue
        limit = here & (g.data.censored != 0)
        seen = here & ~limit
        marks: list[Mark] = [
            Line(c.time, c.typical[o.name], "", GREY, dashed=True, width=1.3),
            Line(c.time, c.individual[o.name], "", BLUE, width=1.8),
            Points(g.time[seen], g.measured[seen], "", BLACK, "circle", 3.0),
        ]  # fmt: skip
        if limit.any():
            marks.append(Points(g.time[limit], g.measured[limit], "", VERMILLION, "diamond", 3.0))
        told = f"Subject {c.id}: {int(here.sum())} values of {o.name}, individual (line) and typical (dashed) prediction."
        out.append(
            Panel(Chart(axis("time", model.time_unit), axis(o.name, o.unit), marks, told, f"Subject {c.id}", height=230), "")
        )
    return out


# ---- simulated checks ----------------------------------------------------------------------------------------------
def vpc_panels(v: Vpc) -> list[Panel]:
    """The check of one output, and the share below the limit of quantification where there is one."""
    x = np.repeat(v.edges, 2)[1:-1]
    step = lambda values: np.repeat(values, 2)  # noqa: E731
    marks: list[Mark] = []
    middle = len(v.percentiles) // 2
    words = ", ".join(f"{100 * p.p:.3g}" for p in v.percentiles)
    for i, p in enumerate(v.percentiles):
        color = VERMILLION if i == middle else BLUE
        for low, high, at in _runs(x, step(p.low), step(p.high)):
            first = i in (0, middle) and at == 0
            label = f"{percent(v.level)} of simulated {'medians' if i == middle else 'outer percentiles'}" if first else ""
            marks.append(Band(x[low:high], step(p.low)[low:high], step(p.high)[low:high], label, color, 0.22))
    exact = ~v.beyond
    marks.append(Points(v.x[exact], v.y[exact], "", GREY, "circle", 1.8))
    for i, p in enumerate(v.percentiles):
        color = VERMILLION if i == middle else BLUE
        label = {0: "percentiles of the data", middle: "median of the data"}.get(i, "")
        marks.append(Line(v.centre, p.observed, label, color, dashed=i != middle))
        out = p.outside
        if out.any():
            marks.append(Points(v.centre[out], p.observed[out], "", color, "open", 6.0))
    if v.limit is not None:
        marks.append(Rule(v.limit, "y", "limit of quantification"))
    seen = np.concatenate([v.y[exact], *(q[np.isfinite(q)] for p in v.percentiles for q in (p.observed, p.high, p.low))])
    outside, of = v.outside
    kind = "Prediction-corrected visual" if v.corrected else "Visual"
    where = f", {v.stratum}" if v.stratum else ""
    caption = (
        f"{kind} predictive check of {v.output}{where}: {words} % percentiles of {len(v.x)} values and of "
        f"{v.replicates} simulated data sets; {outside} of {of} lie outside (ringed), "
        f"about {number((1 - v.level) * of, 2)} are expected to"
    )
    told = f"{caption}. {len(v.centre)} bins."
    title = axis(f"{v.output}{', prediction-corrected' if v.corrected else ''}", v.unit)
    top, bottom = float(np.max(seen)), float(np.min(seen))
    room = 0.04 * (top - bottom) or 1.0
    span = (0.0 if 0 <= bottom < 0.2 * top else bottom - room, top + room)
    panels = [Panel(Chart(axis(v.axis, v.axis_unit), title, marks, told, y_range=span, height=420), caption)]
    if v.below is not None:
        panels.append(_below(v, v.below))
    return panels


def _runs(x: Floats, low: Floats, high: Floats) -> list[tuple[int, int, int]]:
    """Stretches (first, last + 1, number) where both ends are known."""
    there = np.isfinite(low) & np.isfinite(high)
    change = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(int), [0]])))
    return [(int(a), int(b), k) for k, (a, b) in enumerate(zip(change[::2], change[1::2], strict=True))]


def _below(v: Vpc, b: Percentile) -> Panel:
    x = np.repeat(v.edges, 2)[1:-1]
    step = lambda values: np.repeat(values, 2)  # noqa: E731
    marks: list[Mark] = [
        Band(x, step(b.low), step(b.high), f"{percent(v.level)} of simulated shares", ORANGE, 0.25),
        Line(v.centre, b.observed, "share of the data", BLACK), Points(v.centre, b.observed, "", BLACK, "circle", 4.0),
    ]  # fmt: skip
    told = f"Share of {v.output} below {number(v.limit)} {v.unit}, in the data and simulated."
    chart = Chart(axis(v.axis, v.axis_unit), "share below the limit", marks, told, y_range=(0.0, 1.0), height=220)
    return Panel(chart, f"Share of {v.output} below the limit of quantification, {number(v.limit)} {v.unit}")


def npde_panels(n: Npde, model: Model) -> list[Panel]:
    """NPDE over time and typical prediction, histogram and normal quantiles, of each output that was measured."""
    out = []
    for k in np.unique(n.data.output):
        o, here = model.outputs[int(k)], n.data.output == k
        t, typical, e = n.data.time[here], n.typical[here], n.npde[here]
        words = tuple(f"subject {i}" for i, h in zip(n.data.ids, here, strict=True) if h)
        for x, title, name in (
            (t, axis("time", model.time_unit), "time"), (typical, axis("typical prediction", o.unit), "typical prediction"),
        ):  # fmt: skip
            out.append(Panel(_residuals(x, e, title, o.name, words, "NPDE"), f"NPDE over {name} ({o.name})"))
        out.append(Panel(histogram(e, f"NPDE of {o.name}"), f"Distribution of NPDE ({o.name})"))
        out.append(Panel(normal_quantiles(e, f"NPDE of {o.name}"), f"Normal quantiles of NPDE ({o.name})"))
    return out


# ---- estimation ----------------------------------------------------------------------------------------------------
def bootstrap_panels(b: Bootstrap, most: int = 12) -> list[Panel]:
    """Distribution of each estimate over the samples, with the fit's own and the interval."""
    low, high = b.interval()
    out = []
    for i, name in enumerate(b.names[:most]):
        v = b.used[:, i]
        count, edges = np.histogram(v, bins=int(np.clip(np.sqrt(len(v)), 5, 25)))
        marks: list[Mark] = [
            Band(np.repeat(edges, 2)[1:-1], np.zeros(2 * len(count)), np.repeat(count, 2).astype(float), "", BLUE, 0.35),
            Rule(float(b.fitted[i]), "x", "", BLACK), Rule(float(low[i]), "x", "", GREY), Rule(float(high[i]), "x", "", GREY),
        ]  # fmt: skip
        told = f"{len(v)} bootstrap estimates of {name}: 95 % between {number(low[i])} and {number(high[i])}."
        out.append(Panel(Chart(name, "samples", marks, told, name, height=210), ""))
    return out


def trace_chart(fit: Fit) -> Chart:
    """Objective by iteration."""
    y = np.array(fit.trace, float)
    x = np.arange(1, len(y) + 1, dtype=float)
    told = f"Objective over {len(y)} iterations, ending at {number(fit.objective, 6)}."
    return Chart("iteration", "objective", [Line(x, y, "", BLUE), Points(x, y, "", BLUE, "circle", 3.0)], told, height=260)


def eta_panels(g: Goodness, covariates: Mapping[str, Any], units: Mapping[str, str]) -> list[Panel]:
    """Each η̂ against each covariate (subjects,): what a covariate model would explain, blurred by shrinkage."""
    out = []
    for k, name in enumerate(g.eta_names):
        if "_occasion" in name:
            continue
        for c, v in covariates.items():
            x, e = np.asarray(v, float), g.etas[:, k]
            if np.ptp(x) <= 0:
                continue
            words = tuple(f"subject {s.id}" for s in g.data.subjects)
            marks: list[Mark] = [Rule(0.0, "y"), Points(x, e, "", BLUE, "circle", 3.0, words=words), *_smooth(x, e)]
            told = f"Estimated eta of {name} of each subject against {c}; a trend says that {c} would explain some of it."
            out.append(Panel(Chart(axis(c, units.get(c, "1")), f"η of {name}", marks, told, height=230), ""))
    return out
