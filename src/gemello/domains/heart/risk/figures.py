"""The charts of a risk report, each a pure function of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gemello.domains.heart.risk.assess import CLASSES, Risk
from gemello.domains.heart.risk.performance import Bin
from gemello.domains.heart.risk.reference import Reference
from gemello.report.chart import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, Band, Chart, Line, Mark, Points, Zone

COLORS = (GREEN, ORANGE, VERMILLION)  # low, intermediate, high
DOSE_COLORS = (SKY, BLUE, PURPLE, VERMILLION)
SHOWN = 800.0  # ms of the action potential shown at least
Floats = NDArray[np.float64]


def zones(thresholds: tuple[float, float], axis: Literal["x", "y"], named: bool = True) -> list[Mark]:
    """Strips of the three classes of a score."""
    edges = ((thresholds[1], np.inf), thresholds, (-np.inf, thresholds[0]))
    return [
        Zone(low, high, axis, word if named else "", color, 0.13)
        for (low, high), word, color in zip(edges, CLASSES, COLORS, strict=True)
    ]


def qnet_chart(risk: Risk) -> Chart:
    """qNet by dose, with the interval of the samples, over the classes of the score."""
    at = np.array([d.multiple for d in risk.doses])
    q = np.array([d.qnet for d in risk.doses])
    low, high = (np.array([d.qnet_interval[k] for d in risk.doses]) for k in (0, 1))
    marks: list[Mark] = zones(risk.thresholds, "y")
    if np.all(np.isfinite(low)):
        marks.append(Band(at, low, high, "95 % of samples", GREY, 0.3))
    marks += [Line(at, q, "", BLACK), Points(at, q, "best values", BLACK, "circle", 4.0)]
    every = np.concatenate([q, low[np.isfinite(low)], high[np.isfinite(high)], np.array(risk.thresholds)])
    room = 0.12 * float(np.ptp(every)) + 1e-4
    told = f"qNet of {risk.name} at {', '.join(f'{m:g}' for m in at)} times Cmax, with the thresholds of the score."
    return Chart(
        "concentration (× free Cmax)", "qNet (C/F)", marks, told, height=205,
        x_range=(float(at.min()) - 0.15, float(at.max()) + 0.15), y_range=(float(every.min()) - room, float(every.max()) + room),
    )  # fmt: skip


def potentials_chart(time: Floats, voltage: Floats, doses: Sequence[float], ends: Sequence[float]) -> Chart:
    """Action potentials. time: (points,) ms; voltage: (lanes, points) mV, control first; doses: multiples of Cmax of the others;
    ends: APD90 of all lanes, ms, which the axis must hold."""
    longest = max((e for e in ends if np.isfinite(e)), default=SHOWN)
    here = time <= min(max(SHOWN, 1.25 * longest), float(time[-1]))
    marks: list[Mark] = [Line(time[here], voltage[0][here], "control", GREY, dashed=True)]
    for k, m in enumerate(doses):
        marks.append(Line(time[here], voltage[k + 1][here], f"{m:g}×", DOSE_COLORS[k % len(DOSE_COLORS)], width=1.6))
    told = f"Membrane potential over one beat without drug and at {', '.join(f'{m:g}' for m in doses)} times Cmax."
    return Chart("time (ms)", "membrane potential (mV)", marks, told, height=205)


def strip_chart(risk: Risk, reference: Sequence[Reference]) -> Chart:
    """The compound's score among those of the reference drugs, with 95 % intervals."""
    others = [r for r in reference if r.drug != risk.name]
    middle = risk.median.value if risk.median is not None else risk.score
    ends = (risk.low.value, risk.high.value) if risk.low is not None and risk.high is not None else (middle, middle)
    lines = [(r.drug, r.median, r.low, r.high, r.risk) for r in others] + [(risk.name, middle, *ends, -1)]
    lines.sort(key=lambda v: -v[1])
    marks: list[Mark] = zones(risk.thresholds, "x", named=False)
    for group, words, color, symbol, size in (
        *((c, f"{CLASSES[c]}", COLORS[c], "circle", 3.5) for c in (0, 1, 2)),
        (-1, "this compound", BLACK, "diamond", 5.0),
    ):
        at = [i for i, v in enumerate(lines) if v[4] == group]
        x, low, high = (np.array([lines[i][k] for i in at]) for k in (1, 2, 3))
        marks.append(Points(x, np.array(at, float), words, color, symbol, size, low=low, high=high))  # type: ignore[arg-type]
    told = f"Torsade metric score of {risk.name} among {len(others)} reference drugs: median and 95 % interval of samples."
    rows = tuple(v[0] if v[4] >= 0 else f"▶ {v[0] if len(v[0]) <= 16 else v[0][:15] + '…'}" for v in lines)
    return Chart("torsade metric score (C/F)", "", marks, told, rows=rows, height=92 + 12 * len(lines))


def calibration_chart(bins: Sequence[Bin]) -> Chart:
    """Predicted against observed share of drugs at or above each threshold, left-out drugs, with exact 95 % intervals."""
    marks: list[Mark] = [Line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "perfect", GREY, dashed=True)]
    for threshold, words, color in ((1, "intermediate or high", BLUE), (2, "high", VERMILLION)):
        here = [b for b in bins if b.threshold == threshold]
        x, y = np.array([b.predicted for b in here]), np.array([b.observed.value for b in here])
        for b in here:
            marks.append(Line(np.full(2, b.predicted), np.array([b.observed.low, b.observed.high]), "", color, width=1.0))
        told = tuple(f"{b.drugs} drugs" for b in here)
        marks.append(Points(x, y, words, color, "circle", 4.0, words=told))
    told_all = "Predicted probability against observed share of reference drugs, each predicted without itself."
    return Chart(
        "predicted probability",
        "observed share of drugs",
        marks,
        told_all,
        x_range=(-0.03, 1.03),
        y_range=(-0.03, 1.03),
        height=320,
    )
