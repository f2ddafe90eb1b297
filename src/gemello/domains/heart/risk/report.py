"""The report on one compound's risk: one page (A4 when printed, no scripts) that a safety reviewer reads and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.provenance import Provenance
from gemello.domains.heart.drugs.drug import HERG, Block, Drug
from gemello.domains.heart.drugs.effect import unblocked
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.domains.heart.risk import figures
from gemello.domains.heart.risk.assess import CLASSES, Number, Risk
from gemello.domains.heart.risk.reference import Reference
from gemello.domains.heart.risk.solver import BEATS, CYCLE
from gemello.domains.heart.risk.traces import Traces
from gemello.report import render, svg
from gemello.report.tables import Table
from gemello.report.words import number, percent, plural, sentence

WIDTH, NARROW = 720, 356  # px of a picture
SHOWN = (1.0, 4.0)  # × Cmax, at which block is told


def write(
    risk: Risk,
    drug: Drug,
    vintage: Vintage,
    traces: Traces,
    provenance: Provenance,
    *,
    path: Path | str,
    reference: Sequence[Reference] = (),
    assumed: Sequence[str] = (),
    source: str = "",
) -> Path:
    """Write the page; returns its path. The file appears whole or not at all.

    assumed: sentences beside the standing ones. source: the file that the compound was read from. Raises DataError where the file
    cannot be written.
    """
    told = {
        "title": f"Torsade de pointes risk: {risk.name}",
        "level": CLASSES[risk.risk],
        "choice": choice(risk),
        "sentences": verdict(risk),
        "warnings": [sentence(w) for w in risk.warnings],
        "qnet": svg.render(figures.qnet_chart(risk), "figure-1", NARROW),
        "potentials": svg.render(
            figures.potentials_chart(traces.time, traces.voltage, [d.multiple for d in risk.doses], list(traces.apd90)),
            "figure-2",
            NARROW,
        ),
        "strip": svg.render(figures.strip_chart(risk, reference), "figure-3", NARROW) if reference else "",
        "strip_caption": _strip_caption(reference),
        "doses": doses_table(risk, traces),
        "block": block_table(drug, vintage, source, dict(zip((d.multiple for d in risk.doses), traces.bound[1:], strict=True))),
        "reference_words": leave_one_out_words(reference),
        "assumed": [*assumptions(vintage, risk), *assumed],
        "stamp": stamp(risk, vintage, provenance, source),
    }
    return render.write("risk.html", told, path, package="gemello.domains.heart.risk")


# ---- words ---------------------------------------------------------------------------------------------------------
def choice(risk: Risk) -> str:
    """The class, with its probability; both classes where the thresholds' and the most probable one are not the same."""
    words = f"{CLASSES[risk.risk].capitalize()} risk"
    if risk.probabilities is None:
        return words
    likely = [p.value for p in risk.probabilities]
    most = int(np.argmax(likely))
    if most != risk.risk:
        told = f"{percent(likely[risk.risk], 1)} and {percent(likely[most], 1)}"
        return f"{CLASSES[risk.risk].capitalize()} or {CLASSES[most]} risk, not settled: probabilities {told}"
    return f"{words}, probability {percent(likely[risk.risk])}"


def verdict(risk: Risk) -> list[str]:
    """What was found and how sure it is."""
    high, low = risk.thresholds
    side = (f"at or above {low:g}", f"between {high:g} and {low:g}", f"below {high:g}")[risk.risk]
    side = f"{CLASSES[risk.risk]} risk is {side} C/F"
    out = []
    if risk.median is not None and risk.low is not None and risk.high is not None:
        out.append(
            f"Torsade metric score {number(risk.median.value)} C/F, 95 % interval {number(risk.low.value)} to "
            f"{number(risk.high.value)}; {side}."
        )
    else:
        out.append(f"Torsade metric score {number(risk.score)} C/F (best values alone); {side}.")
    if risk.probabilities is not None:
        parts = [f"{c} {with_error(p)}" for c, p in zip(CLASSES, risk.probabilities, strict=True)]
        error = " (± Monte Carlo error)" if risk.samples > 1 else ""
        out.append(f"Probability of each class{error}: {', '.join(parts)}.")
    if risk.shares is not None and risk.median is not None:
        parts = [f"{percent(s.value, 1)} {c}" for c, s in zip(CLASSES, risk.shares, strict=True)]
        out.append(
            f"Of {plural(risk.samples, 'sample')} of the assay’s parameters the thresholds put {', '.join(parts)}. The score is "
            f"their median (Monte Carlo error {number(risk.median.error, 1)}); the best values alone give {number(risk.score)}."
        )
    return out


def with_error(n: Number) -> str:
    """A probability in percent with its Monte Carlo error."""
    if n.error == 0:
        return percent(n.value, 1)
    return f"{percent(n.value, 1)} ± {100 * n.error:.1f}" if n.error >= 5e-4 else f"{percent(n.value, 1)} ± under 0.1"


def leave_one_out_words(reference: Sequence[Reference]) -> str:
    """How the method did on the reference drugs, each predicted without itself."""
    if not reference:
        return ""
    called = [int(np.argmax(r.left_out)) for r in reference]
    wrong = [f"{r.drug} ({CLASSES[r.risk]}, called {CLASSES[c]})" for r, c in zip(reference, called, strict=True) if c != r.risk]
    right = f"{len(reference) - len(wrong)} of {len(reference)} fall into the class that experts gave them"
    missed = f"; not so: {', '.join(wrong)}" if wrong else ""
    return f"Of the reference drugs, each predicted by the other {len(reference) - 1}, {right}{missed}."


def assumptions(vintage: Vintage, risk: Risk) -> list[str]:
    """What every such verdict rests on."""
    out = [
        f"Human ventricular cell of CiPA (O’Hara 2011, endocardial, dynamic hERG of Li 2017), cycle length {CYCLE:g} ms, steady "
        f"state of {BEATS:,} beats with the drug present from the first.",
        "qNet is the charge of INaL + ICaL + Ito + IKr + IKs + IK1 over one beat; the torsade metric score is its mean at "
        f"{', '.join(f'{d.multiple:g}' for d in risk.doses)} × free Cmax.",
        f"Block of {', '.join(vintage.channels)} and dynamic hERG only; free plasma concentration acts on the cell; metabolites, "
        "binding in the assay and effects in tissue are not in it.",
    ]
    if risk.probabilities is not None:
        out.append(
            "Probability of a class: mean over the samples of the proportional-odds model of the reference drugs. It is about "
            "the class that experts gave to drugs with such a score, not about the frequency of torsade in patients. How few "
            "drugs that model was fitted to is not in it: from that alone a probability near a threshold has a standard error of "
            "some 15 points."
        )
    return out


def stamp(risk: Risk, vintage: Vintage, p: Provenance, source: str) -> str:
    """Where the page comes from."""
    parts = [f"model {p.model} {p.model_version}", f"parameters {p.parameter_hash}", f"vintage {vintage.name}: {vintage.source}"]
    parts += [f"compound from {source}"] if source else []
    parts += [f"data {p.data_hash}"] if p.data_hash else []
    parts += [f"seed {p.seed}, {plural(risk.samples, 'sample')}"] if p.seed is not None else []
    return "; ".join([*parts, f"gemello {p.gemello}, JAX {p.jax}, made {p.created} UTC"])


def _strip_caption(reference: Sequence[Reference]) -> str:
    n = reference[0].samples if reference else 0
    return f"Score among the reference drugs (median, 95 % interval of {n} samples); dots: class by experts; strips: by score"


# ---- tables --------------------------------------------------------------------------------------------------------
def doses_table(risk: Risk, traces: Traces) -> Table:
    """qNet, APD90 and flags by dose."""
    columns = ["× Cmax", "nM", "qNet (C/F)", "APD90 (ms)", "ΔAPD90 (ms)", "EAD", "repolarised"]
    rows: list[tuple[str, ...]] = [("0 (control)", "0", number(traces.qnet), f"{traces.apd90[0]:.0f}", "", "no", "yes")]
    for d in risk.doses:
        flags = [_flag(d.ead, d.ead_share), "no" if d.unrepolarised else _kept(d.unrepolarised_share)]
        rows.append(
            (
                f"{d.multiple:g}",
                number(d.concentration),
                _ranged(d.qnet, d.qnet_interval, "{:.4f}"),
                _ranged(d.apd90, d.apd90_interval, "{:.0f}"),
                f"{d.apd90 - traces.apd90[0]:+.0f}".replace("-", "−") if np.isfinite(d.apd90) else "–",
                *flags,
            )
        )
    caption = "By dose: best values" + (" (95 % interval of samples)" if risk.shares is not None else "")
    return Table(caption, tuple(columns), tuple(rows), frozenset({1, 2, 3, 4}))


def _ranged(value: float, ends: tuple[float, float], form: str) -> str:
    if not np.isfinite(value):
        return "–"
    text = form.format(value)
    return f"{text} ({form.format(ends[0])} to {form.format(ends[1])})" if np.isfinite(ends[0]) else text


def _flag(here: bool, share: float) -> str:
    if here:
        return "YES"
    return f"in {percent(share, 1)} of samples" if np.isfinite(share) and share > 0 else "no"


def _kept(share: float) -> str:
    return f"not in {percent(share, 1)} of samples" if np.isfinite(share) and share > 0 else "yes"


def block_table(drug: Drug, vintage: Vintage, source: str = "", bound: Mapping[float, float] | None = None) -> Table:
    """Block of each channel at Cmax and 4 Cmax, with where its numbers come from. source: the compound's file. bound: by
    multiple of Cmax, the share of hERG channels that hold the drug at the steady state."""
    rows = []
    for c in (HERG, *vintage.channels):
        b = drug.point.block.get(c)
        name = f"{c} (hERG)" if c == HERG else c
        if c == HERG and drug.point.binding is not None:
            rows.append(_dynamic(drug, b, source, bound or {}))
        elif b is None:
            unknown = c in drug.unmeasured
            rows.append((name, "no block", "0 %", "0 %", "NOT GIVEN, taken as not blocked" if unknown else "no block seen"))
        else:
            drawn = None if drug.samples is None else drug.samples.block[c]
            words = f"IC50 {_drawn(b.ic50, None if drawn is None else drawn.ic50)} nM, Hill {number(b.h, 3)}"
            rows.append((name, words, *(_blocked(b, m * drug.cmax) for m in SHOWN), origin(drug, c, source)))
    columns = ("channel", "parameters (95 % interval)", "at Cmax", "at 4 Cmax", "origin")
    return Table(f"Block of channels at free Cmax {number(drug.cmax)} nM", columns, tuple(rows), frozenset({2, 3}))


def _dynamic(drug: Drug, static: Block | None, source: str, bound: Mapping[float, float]) -> tuple[str, ...]:
    """The row of dynamic binding. The static assay, where there is one, is told and not used."""
    b = drug.point.binding
    assert b is not None
    words = f"dynamic: Kmax {number(b.kmax, 3)}, Ku {number(b.ku, 3)}/ms, n {number(b.n, 3)}, EC50 {number(b.ec50, 3)} nM, "
    words += f"Vhalf {number(b.vhalf, 3)} mV; shown is the share of channels that hold the drug at the end of a beat"
    if static is not None:
        blocked = " and ".join(_blocked(static, m * drug.cmax) for m in SHOWN)
        words += f" (the static IC50, not used, would give {blocked})"
    at = [percent(bound[m]) if np.isfinite(bound.get(m, np.nan)) else "–" for m in SHOWN]
    return f"{HERG} (hERG)", words, *at, origin(drug, HERG, source)


def origin(drug: Drug, channel: str, source: str) -> str:
    """Where the numbers of a channel come from, and whether they vary over the samples."""
    where = source or (f"vintage {drug.vintage}" if drug.vintage else "the compound's file")
    part = drug.samples
    if part is None:
        return f"values in {where}"
    dynamic = channel == HERG and part.binding is not None
    numbers = part.binding if dynamic else part.block.get(channel)
    varies = numbers is not None and any(np.ptp(np.asarray(v, float)) > 0 for v in numbers)
    return f"samples of a fit, {where}" if varies else f"values in {where}, without uncertainty"


def _blocked(b: Block, concentration: float) -> str:
    return percent(1.0 - float(unblocked(b, concentration)))


def _drawn(value: float, drawn: NDArray[np.float64] | None) -> str:
    if drawn is None or np.ptp(drawn) == 0:
        return number(value)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{number(value)} ({number(float(low), 3)} to {number(float(high), 3)})"
