"""The report on a drug in a population: one page, no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.domains.heart.populations import figures, weights
from gemello.domains.heart.populations.measured import MARKERS, Measured
from gemello.domains.heart.populations.population import Population
from gemello.domains.heart.populations.response import Response
from gemello.report import render, svg
from gemello.report.tables import Table
from gemello.report.words import number, percent, sentence

WIDTH = 356  # px of a picture
NAMES = {"apd90_from_peak": "APD90 from the peak (ms)", "peak": "peak (mV)", "rest": "rest (mV)"}
SHOWN = (0.1, 0.25, 0.5, 0.75, 0.9)
Floats = NDArray[np.float64]


def write(
    pooled: Population,
    groups: Mapping[str, Population],
    responses: Sequence[Response],
    data: Measured,
    course: tuple[Floats, Floats],
    *,
    path: Path | str,
    assumed: Sequence[str] = (),
) -> Path:
    """Write the page; it appears whole or not at all. course: time (points,) ms, potential (cells, points) mV."""
    charts = (
        (figures.distribution_chart({"pooled": pooled, **groups}, data), "APD90 of the populations and of the measured"),
        (figures.bundle_chart(*course, data), "action potentials of cells drawn by weight, over the measured"),
        (figures.abnormal_chart(responses), "share of hearts with abnormal repolarisation (95 % interval)"),
        (figures.change_chart(responses), "mean ΔAPD90 of hearts that repolarise normally (95 % interval)"),
    )
    told = {
        "title": f"{responses[0].drug} in a population of hearts",
        "sentences": sentences(pooled, groups, responses),
        "pictures": [
            (svg.render(c, f"figure-{k + 1}", WIDTH), f"Figure {k + 1}. {sentence(w)}") for k, (c, w) in enumerate(charts)
        ],
        "tables": [dose_table(responses), agreement_table(pooled, data)],
        "assumed": [*assumptions(pooled), *assumed],
        "stamp": stamp(pooled),
    }
    return render.write("population.html", told, path, package="gemello.domains.heart.populations")


def sentences(pooled: Population, groups: Mapping[str, Population], responses: Sequence[Response]) -> list[str]:
    """What was found."""
    out = []
    for r in responses:
        last = r.doses[-1]
        out.append(
            f"{figures.WORDS[r.sex].capitalize()}: at {last.multiple:g} × Cmax {percent(last.share, 1)} of hearts "
            f"({percent(last.share_low, 1)} to {percent(last.share_high, 1)}) repolarise abnormally; without drug "
            f"{percent(r.doses[0].share, 1)}."
        )
    if "female" in groups and "male" in groups:
        women, men = (groups[s].mean("apd90") for s in ("female", "male"))
        out.append(
            f"Women’s APD90 without drug is {women[0] - men[0]:+.1f} ms against men’s in the same hearts.".replace("-", "−")
        )
    out.append(
        f"{pooled.cells} of {pooled.sampled} candidates lie within the range of the measured action potentials; their weights "
        f"make them worth {pooled.effective:.0f}."
    )
    return out


def dose_table(responses: Sequence[Response]) -> Table:
    """Every dose of every sex."""
    rows = tuple(
        (
            figures.WORDS[r.sex], f"{d.multiple:g}", number(d.concentration), f"{d.abnormal} of {d.cells}",
            f"{percent(d.share, 1)} ({percent(d.share_low, 1)} to {percent(d.share_high, 1)})",
            f"{d.change:+.1f} ({d.change_low:+.1f} to {d.change_high:+.1f})".replace("-", "−") if np.isfinite(d.change) else "–",
        )
        for r in responses
        for d in r.doses
    )  # fmt: skip
    heads = ("hearts", "× Cmax", "nM", "abnormal cells", "weighted share (95 % interval)", "mean ΔAPD90 (95 % interval), ms")
    return Table("By dose", heads, rows, frozenset({1, 2, 3, 4, 5}))


def agreement_table(p: Population, data: Measured) -> Table:
    """The pooled population against the measured action potentials."""
    rows = []
    for m in MARKERS:
        distance, limit = weights.kolmogorov(p.markers[m], p.weights, data.markers[m])
        ours, theirs = p.quantile(m, SHOWN), np.quantile(data.markers[m], SHOWN)
        words = [f"{a:.0f} / {b:.0f}".replace("-", "−") for a, b in zip(ours, theirs, strict=True)]
        rows.append((NAMES[m], *words, f"{distance:.3f} ({limit:.3f})"))
    heads = ("marker", *(f"{percent(q)}" for q in SHOWN), "KS distance (5 % limit)")
    caption = f"Quantiles: weighted population / {data.traces} measured action potentials"
    return Table(caption, heads, tuple(rows), frozenset(range(1, 7)))


def assumptions(p: Population) -> list[str]:
    """What the page rests on."""
    return [
        f"Cell {p.model}, cycle length {p.cycle_length:g} ms; conductances {p.low:g} to {p.high:g} times the published ones.",
        "A cell stands for a heart: no tissue, in which neighbours hold back a cell’s afterdepolarisation.",
        "Abnormal: an early afterdepolarisation, or no repolarisation within the beat. Intervals: sampling of cells alone "
        "(Wilson, at the effective number of cells), not the error of the model or of the assay.",
        "Women and men: ratios of Yang & Clancy 2012 from mRNA, shared out on both sides of the pooled population.",
    ]


def stamp(p: Population) -> str:
    """Where the page comes from."""
    s = p.provenance
    parts = [f"model {s.model} {s.model_version}", f"parameters {s.parameter_hash}", f"data {s.data_hash}", f"seed {s.seed}"]
    return "; ".join([*parts, f"gemello {s.gemello}, JAX {s.jax}, made {s.created} UTC"])
