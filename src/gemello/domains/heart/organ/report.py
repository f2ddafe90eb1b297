"""The report on a compound in one virtual heart: one page (A4 when printed, no scripts) that a reviewer reads and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gemello.base.provenance import Provenance
from gemello.domains.heart.drugs.drug import HERG
from gemello.domains.heart.organ import isochrones
from gemello.domains.heart.organ.ecg import Ecg
from gemello.domains.heart.organ.pictures import lead_chart, leads_chart
from gemello.domains.heart.organ.study import BEATS, CYCLE, Dose, Study
from gemello.report import render, svg
from gemello.report.tables import Table
from gemello.report.words import number, percent, plural, sentence

NARROW = 356  # px of a picture
MOST = 6  # ECGs in one picture, as many as there are colours
LEAD = "V5"  # shown enlarged
HERG_WORDS = {
    "static": "Block of hERG is the compound’s static one (IC50 and Hill coefficient): the heart’s cells have no states of bound "
    "drug.",
    "equivalent": "The compound’s hERG data are of dynamic binding, which the heart’s cells do not have. At each concentration "
    "it was replaced by a static block: that which gives the CiPA cell (dynamic hERG of Li 2017, cycle length "
    f"{CYCLE:g} ms, steady state, nothing else blocked) the APD90 that it has under the binding drug. Binding that differs "
    "between cell types or within a beat is not in it.",
    "none": "Nothing was given on hERG; it counts as not blocked.",
}


def write(study: Study, provenance: Provenance, *, path: Path | str, source: str = "", heart: str = "") -> Path:
    """Write the page; returns its path. The file appears whole or not at all. source: the compound's file. heart: the folder of
    the node cloud. Raises DataError where the file cannot be written."""
    shown = chosen(study)
    ecgs, labels = [thinned(d.ecg, 2.0) for d in shown], [label(d) for d in shown]
    until = max(d.intervals.qrs_onset + d.intervals.qt for d in shown) + 60.0
    large = [Ecg(e.time[e.time <= until], e.leads[:, e.time <= until]) for e in (thinned(d.ecg, 1.0) for d in shown)]
    leads = replace(leads_chart(ecgs, labels, study.control.intervals, until), height=700)
    told = {
        "title": f"Tissue ECG: {study.drug.name}",
        "sentences": sentences(study),
        "warnings": [sentence(w) for w in study.warnings],
        "leads": svg.render(leads, "figure-1", NARROW),
        "map": isochrones.picture(study.virtual.heart, study.virtual.activation, "figure-2", NARROW),
        "lead": svg.render(replace(lead_chart(large, labels, LEAD), height=330), "figure-3", NARROW),
        "lead_name": LEAD,
        "intervals": table(study),
        "assumed": assumptions(study),
        "stamp": stamp(study, provenance, source, heart),
    }
    return render.write("ecg.html", told, path, package="gemello.domains.heart.organ")


def chosen(study: Study) -> list[Dose]:
    """Control and the doses that are drawn: all, or of many some, the highest among them."""
    n = len(study.doses)
    return [study.doses[i] for i in np.unique(np.linspace(0, n - 1, min(n, MOST)).round().astype(int))]


def label(dose: Dose) -> str:
    """Name of a dose in pictures."""
    return "control" if dose.multiple == 0.0 else f"{dose.multiple:g} × Cmax"


def thinned(ecg: Ecg, step: float) -> Ecg:
    """Every `step` ms, for a page of some hundred kB."""
    every = max(1, round(step / float(ecg.time[1] - ecg.time[0])))
    return Ecg(ecg.time[::every], ecg.leads[:, ::every])


def sentences(study: Study) -> list[str]:
    """What was found."""
    now = study.control.intervals
    shown = [study.doses[1]] if len(study.doses) == 2 else [study.doses[1], study.doses[-1]]
    parts = [f"{signed(study.change(d)[1])} ms at {d.multiple:g} × Cmax ({number(d.concentration)} nM)" for d in shown]
    top = study.doses[-1]
    out = [f"ΔQTcF {' and '.join(parts)}."]
    cell = f"the endocardial cell’s APD90 goes from {study.control.apd90:.0f} ms to {top.apd90:.0f} ms at {top.multiple:g} × Cmax"
    out.append(
        f"Control: QRS {now.qrs:.0f} ms, QT {now.qt:.0f} ms at {CYCLE:g} ms; {cell}, where {percent(top.left)} of {HERG} is left."
    )
    return out


def signed(v: float) -> str:
    """With its sign, to the millisecond."""
    return f"{v:+.0f}".replace("-", "−") if round(v) else "0"


def table(study: Study) -> Table:
    """Intervals by dose."""
    rows = []
    for d in study.doses:
        i, (dqt, dqtcf) = d.intervals, study.change(d)
        change = ("", "") if d.multiple == 0.0 else (signed(dqt), signed(dqtcf))
        name = "0 (control)" if d.multiple == 0.0 else f"{d.multiple:g}"
        rows.append(
            (
                name,
                number(d.concentration),
                f"{i.qrs:.0f}",
                f"{i.qt:.0f}",
                f"{i.qtcf:.0f}",
                *change,
                f"{d.apd90:.0f}",
                percent(d.left),
            )
        )
    heads = ("× Cmax", "nM", "QRS (ms)", "QT (ms)", "QTcF (ms)", "ΔQT (ms)", "ΔQTcF (ms)", "endo APD90 (ms)", f"{HERG} left")
    return Table(f"By dose, at a cycle length of {CYCLE:g} ms", heads, tuple(rows), frozenset(range(1, len(heads))))


def assumptions(study: Study) -> list[str]:
    """What the page rests on, and what it does not say."""
    heart = study.virtual.heart
    return [
        f"One healthy biventricular heart of {heart.volume:.0f} mL on {plural(len(study.virtual.activation), 'voxel')} of "
        f"{heart.spacing:g} mm, with its fibres and the electrodes of the same person.",
        "Reaction–eikonal, not monodomain: the wave starts at four early endocardial sites (Durrer 1970), runs along a fast "
        "endocardial layer and then by the fibres; each voxel has the action potential of its place in the wall from its "
        "activation on. Activation does not depend on the dose: no widening of QRS, no block of conduction, no re-entry.",
        f"ToR-ORd cells (Tomek 2019; endocardial, mid, epicardial), {BEATS} beats at {CYCLE:g} ms from steady state, the drug at "
        "each cell at its free plasma concentration; best values of the assays alone, so nothing here has an interval of error.",
        HERG_WORDS[study.herg],
        "QRS from the spatial velocity of all leads, T end by the tangent, QT from the first QRS onset to the latest T end; "
        "QTcF = QT/(RR/s)^(1/3), here at RR 1 s equal to QT.",
        f"Known limits: QT in control ({study.control.intervals.qt:.0f} ms) is shorter than most healthy people’s, and "
        "amplitudes are too small, in limb leads twentyfold, for the body is taken as an unbounded conductor: read differences, "
        "signs and times. ΔQT of this heart is not a forecast of ΔQTc in a trial.",
    ]


def stamp(study: Study, p: Provenance, source: str, heart: str) -> str:
    """Where the page comes from. Nothing is drawn by chance, so there is no seed."""
    parts = [f"model {p.model} {p.model_version} and its mid and epi", f"parameters {p.parameter_hash}"]
    parts += [f"compound from {source}"] if source else []
    parts += [f"heart from {heart}, voxels of {study.virtual.heart.spacing:g} mm"] if heart else []
    parts += [f"data {p.data_hash}"] if p.data_hash else []
    return "; ".join([*parts, f"gemello {p.gemello}, JAX {p.jax}, made {p.created} UTC"])
