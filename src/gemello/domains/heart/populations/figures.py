"""The charts of a population's report, each a pure function of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gemello.domains.heart.populations.measured import Measured
from gemello.domains.heart.populations.population import Population
from gemello.domains.heart.populations.response import Response
from gemello.report.chart import BLACK, BLUE, GREY, VERMILLION, Band, Chart, Line, Mark, Points

COLORS = {"pooled": GREY, "female": VERMILLION, "male": BLUE}
WORDS = {"pooled": "pooled", "female": "women", "male": "men"}
SHOWN = 500.0  # ms of the action potentials
LINE_CELLS = 60
Floats = NDArray[np.float64]


def distribution_chart(groups: Mapping[str, Population], data: Measured) -> Chart:
    """Distribution of APD90 from the peak: each population under its weights, and the measured ones."""
    measured = np.sort(data.markers["apd90_from_peak"])
    marks: list[Mark] = [_steps(measured, np.ones(measured.size), f"{measured.size} measured", BLACK)]
    for sex, p in groups.items():
        values = p.markers["apd90_from_peak"]
        here = np.isfinite(values)
        marks.append(_steps(values[here], p.weights[here], WORDS[sex], COLORS[sex]))
    told = "Cumulative distribution of APD90 of the measured action potentials and of the weighted populations."
    return Chart("APD90 from the peak (ms)", "share below", marks, told, height=230)


def _steps(values: Floats, weights: Floats, label: str, color: str) -> Line:
    order = np.argsort(values)
    x = np.repeat(values[order], 2)
    top = np.cumsum(weights[order]) / weights.sum()
    return Line(x, np.stack([np.append(0.0, top[:-1]), top], axis=1).ravel(), label, color, width=1.6)


def bundle_chart(time: Floats, voltage: Floats, data: Measured) -> Chart:
    """Action potentials of single cells over quantiles of the measured ones. time: (points,) ms after the upstroke; voltage:
    (cells, points) mV."""
    here, there = (time >= -10) & (time <= SHOWN), (data.time >= -10) & (data.time <= SHOWN)
    marks: list[Mark] = [Line(time[here], v[here], "cells" if k == 0 else "", GREY, width=0.5) for k, v in enumerate(voltage)]
    if there.any():
        q, x = {n: v[there] for n, v in data.quantiles.items()}, data.time[there]
        marks.append(Band(x, q["q10"], q["q90"], "measured, 10 to 90 %", BLUE, 0.25))
        marks.append(Line(x, q["median"], "measured, median", BLUE))
    told = f"Membrane potential of {len(voltage)} cells, drawn by weight, with quantiles of the measured action potentials."
    return Chart("time after the upstroke (ms)", "membrane potential (mV)", marks, told, height=230)


def abnormal_chart(responses: Sequence[Response]) -> Chart:
    """Share of abnormal hearts by dose, with intervals."""
    marks: list[Mark] = []
    for k, r in enumerate(responses):
        x = _at(r) + 0.06 * (k - 0.5 * (len(responses) - 1))
        low, high, share = (np.array([getattr(d, n) for d in r.doses]) for n in ("share_low", "share_high", "share"))
        marks += [
            Line(np.full(2, a), np.array([b, c]), "", COLORS[r.sex], width=1.0) for a, b, c in zip(x, low, high, strict=True)
        ]
        marks += [Line(x, share, "", COLORS[r.sex]), Points(x, share, WORDS[r.sex], COLORS[r.sex])]
    told = "Share of hearts with abnormal repolarisation by dose, control first, with 95 % intervals."
    return Chart(_doses(responses), "share abnormal", marks, told, y_range=(-0.02, 1.02), height=230)


def change_chart(responses: Sequence[Response]) -> Chart:
    """Mean ΔAPD90 of the normal hearts by dose, with intervals."""
    marks: list[Mark] = []
    for r in responses:
        x, change = _at(r), np.array([d.change for d in r.doses])
        half = np.array([d.change_high - d.change for d in r.doses])
        here = np.isfinite(change)
        marks += [
            Line(x[here], change[here], "", COLORS[r.sex]),
            Points(x[here], change[here], WORDS[r.sex], COLORS[r.sex], error=half[here]),
        ]
    told = "Mean change of APD90 of the hearts that repolarise normally, by dose, with 95 % intervals."
    return Chart(_doses(responses), "ΔAPD90 (ms)", marks, told, height=230)


def _at(r: Response) -> Floats:
    """Doses evenly, for they span decades and begin at 0."""
    return np.arange(len(r.doses), dtype=float)


def _doses(responses: Sequence[Response]) -> str:
    told = ["0 = control", *(f"{k} = {d.multiple:g} ×" for k, d in enumerate(responses[0].doses) if k)]
    return f"dose by number: {', '.join(told)} Cmax"
