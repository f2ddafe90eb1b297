"""The dossier of a trial's analysis: one HTML file that a reviewer can read and file, and what the command prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemello.report import render
from gemello.report.pictures import Pictures
from gemello.report.tables import Table
from gemello.report.words import axis, number, percent, plural
from gemello.trial import baseline, credibility, figures, outcomes
from gemello.trial.analyse import Result, collapsible, gains
from gemello.trial.analysis.result import Estimate
from gemello.trial.primary import summary
from gemello.trial.protocol import SUMMARIES
from gemello.trial.scores import Scored

ROLES = {
    "randomised": "randomised, history not used", "covariate": "randomised, history as covariate",
    "external arm": "history as control arm", "hybrid": "randomised and history, borrowing",
}  # fmt: skip


def write(result: Result, *, path: Path | str, interactive: bool = True) -> Path:
    """Write the dossier; returns its path. interactive: plotly inline (about 5 MB). Raises DataError."""
    pictures, p = Pictures(interactive), result.protocol
    unit = p.endpoint.unit
    one = len(result.primary) == 1
    rows = [(r.adjustment if one else f"{r.estimate.label}: {r.adjustment}", r.estimate) for r in result.comparison.rows]
    some = comparable(result)
    words: dict[str, Any] = {
        "title": p.title,
        "counts": f"{p.endpoint.label}; {', '.join(f'{p.arms.label(a)}: {n}' for a, n in result.prepared.subjects.items())}",
        "verdict": verdict(result),
        "refused": result.score is not None and not result.score.used,
        "warnings": result.warnings,
        "estimates": estimates_table(result),
        "forest": pictures.draw(
            figures.forest(rows, "", unit), f"{sentence(summary(p))} with {percent(p.analysis.level)} intervals"
        ),
        "baseline": baseline.table(result),
        "outcomes": outcomes.table(result),
        "course": pictures.draw(*seen) if (seen := outcomes.picture(result)) is not None else None,
        "estimand": items_table("The question that is answered", credibility.attributes(p.estimand)),
        "handling": result.applied.log,
        "events": baseline.events(result),
        "score": _score(result, pictures) if result.score is not None else None,
        "sensitivity": sensitivity_table(result) if result.sensitivity else None,
        "sensitivity_forest": pictures.draw(
            figures.forest(some, "", unit), "Primary and sensitivity analyses of the same summary"
        ),
        "external": _external(result, pictures) if result.external is not None else None,
        "power": result.power,
        "credibility": items_table("Seven steps of the plan", plan(result)) if result.score is not None else None,
        "coverage": credibility.COVERAGE,
        "log": [*result.prepared.log, *result.applied.log],
        "provenance": provenance_table(result),
    }
    return render.write("dossier.html", words, path, package="gemello.trial", interactive=interactive)


# ---- words ---------------------------------------------------------------------------------------------------------------
def verdict(result: Result) -> dict[str, Any]:
    """The primary estimate in words, and what a reader must know with it."""
    r = result.primary[0]
    e, p = r.estimate, result.protocol
    unit = "" if p.endpoint.unit in ("", "1") or e.scale == "log" or "difference" not in e.measure else f" {p.endpoint.unit}"
    said = f"{summary(p)} {figures.told(e)}{unit}"
    lines = [f"{percent(e.level)} interval in brackets; {figures.p_words(e.p)}; {e.method}; {plural(e.n, 'subject')}."]
    if "test_p" in e.extra:
        lines.append(f"Log-rank test: z {number(e.extra['test_z'], 4)}, {figures.p_words(e.extra['test_p'])}.")
    if not collapsible(p) and r.adjustment != "unadjusted" and "estimand" in e.extra:
        lines.append(f"{str(e.extra['estimand']).partition(';')[0].capitalize()}.")
    for other in result.primary[1:]:
        o = other.estimate
        lines.append(f"{o.label}, {other.adjustment}: {figures.told(o)}{unit}; {figures.p_words(o.p)}.")
    plain = next(x for x in result.comparison.rows if x.estimate.label == e.label)
    if r is not plain:
        lines.append(f"Unadjusted: {figures.told(plain.estimate)}{unit}.")
        if gain := gains(r):
            lines.append(f"The adjustment is worth an effective sample size × {gain}.")
        alone = next((x for x in result.comparison.rows if x.adjustment == "covariates" and x.estimate.label == e.label), None)
        if r.adjustment == "score + covariates" and alone is not None and "reported" in alone.ess and "reported" in r.ess:
            more = r.ess["reported"] / alone.ess["reported"]
            lines.append(
                f"The covariates alone are worth × {number(alone.ess['reported'], 4)}; the score adds × {number(more, 4)}."
            )
    if result.score is not None and not result.score.used:
        lines.append(f"The prognostic score was refused: {'; '.join(result.score.reasons)}.")
    return {"label": f"{e.label}, {r.adjustment}", "choice": said, "lines": lines}


def sentence(text: str) -> str:
    """With a capital at its start."""
    return text[:1].upper() + text[1:]


def comparable(result: Result) -> list[tuple[str, Estimate]]:
    """The primary estimates and those sensitivity estimates that are on their scale, contrast by contrast."""
    out: list[tuple[str, Estimate]] = []
    first = result.primary[0].estimate
    for r in result.primary:
        same = [s for s in result.sensitivity if s.name not in SUMMARIES[result.protocol.endpoint.kind]]
        mine = [(s.name, s.estimate) for s in same if s.estimate and s.estimate.label == r.estimate.label]
        out.append(("primary" if len(result.primary) == 1 else f"{r.estimate.label}: primary", r.estimate))
        out += [(name, e) for name, e in mine if e.scale == first.scale and _same(e.measure, first.measure)]
    return out


def _same(a: str, b: str) -> bool:
    """Whether two measures are one: a difference at a visit is a mean difference."""
    plain = {"mean difference", "difference", "difference of means"}
    return a == b or (a in plain and b in plain)


def printed(result: Result) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns and rows for the terminal."""
    columns = ("contrast", "adjustment", "estimate", "SE", "lower", "upper", "p", "ESS ×")
    rows = []
    for r in result.comparison.rows:
        e = r.estimate
        value, low, high = e.ratio if e.scale == "log" else (e.estimate, *e.interval)
        ess = r.ess.get("reported", next(iter(r.ess.values()), None)) if r.adjustment != "unadjusted" else None
        rows.append((e.label, r.adjustment, value, e.se, low, high, e.p, "" if ess is None else f"{ess:.3f}"))
    return columns, rows


def plan(result: Result) -> tuple[credibility.Item, ...]:
    """The credibility plan of this run."""
    s = result.score
    if s is None:
        return credibility.plan(result.protocol, {}, (), ())
    performance = [
        f"{name}: {v['n']} held-out forecasts, RMSE {number(v['rmse'])}, CRPS {number(v['crps'])}, correlation "
        f"{number(v.get('r'), 3)}, 90 % intervals cover {percent(v['coverage'], 1)}."
        for name, v in s.held_out.get("variables", {}).items()
    ]
    performance += [
        f"{name}: {v['events']} events, held-out concordance {number(v['concordance'], 3)}."
        for name, v in s.held_out.get("events", {}).items()
    ]
    gate = ["The score passed its gates." if s.used else f"The score was refused: {'; '.join(s.reasons)}."]
    drift = s.figures.get("drift")
    if drift:
        gate.append(f"Trial and history can be told apart with AUC {drift['auc']:.2f}; {percent(drift['outside'])} outside.")
    return credibility.plan(result.protocol, s.model, performance, gate)


# ---- tables --------------------------------------------------------------------------------------------------------------
def estimates_table(result: Result) -> Table:
    """Every adjustment side by side."""
    rows, marked = [], set()
    for k, r in enumerate(result.comparison.rows):
        e = r.estimate
        rows.append((
            e.label, r.adjustment, figures.told(e, 5), number(e.se, 5), figures.p_value(e.p),
            "–" if e.df is None else number(e.df, 5), gains(r) or "–", e.method,
        ))  # fmt: skip
        if r in result.primary:
            marked.add(k)
    columns = ("contrast", "adjusted for", f"{summary(result.protocol)} (interval)", "SE", "p", "df", "ESS ×", "method that ran")
    note = (
        f"Marked: the primary analysis. {percent(result.protocol.analysis.level)} intervals, two-sided p. ESS ×: unadjusted "
        "variance over adjusted variance, by the kind of variance named; none where adjusting changes what is estimated. SE of a "
        "ratio is that of its logarithm."
    )
    return Table("Estimates", columns, tuple(rows), frozenset({3, 4, 5}), frozenset(marked), note)


def sensitivity_table(result: Result) -> Table:
    """One row an analysis."""
    rows = tuple(
        (s.name, s.estimate.label, figures.told(s.estimate, 5), figures.p_value(s.estimate.p), s.words)
        if s.estimate is not None
        else (s.name, "", "–", "–", s.words)
        for s in result.sensitivity
    )
    columns = ("analysis", "contrast", "estimate (interval)", "p", "what it is")
    return Table("Sensitivity analyses", columns, rows, frozenset({3}))


def items_table(caption: str, items: Sequence[credibility.Item]) -> Table:
    """Items of a plan; what is not given stands out."""
    marked = frozenset(k for k, i in enumerate(items) if not i.given)
    rows = tuple((i.step, i.asked, i.said) for i in items)
    return Table(caption, ("item", "asked", "said"), rows, marked=marked, note="Marked: missing." if marked else "")


def provenance_table(result: Result) -> Table:
    """Where the numbers come from."""
    stamp = result.provenance.to_dict()
    rows = [("protocol", f"{result.protocol.source}, SHA-256 {result.protocol.hash}")]
    rows.append(("data", f"{result.protocol.data.name}, SHA-256 {result.prepared.hash}"))
    if result.score is not None:
        rows += [(f"generator, {k}", v) for k, v in result.score.model.items() if k in ("kind", "SHA-256")]
    rows += [(k.replace("_", " "), str(v)) for k, v in stamp.items() if v not in ("", None) and k != "data_hash"]
    return Table("Where the numbers come from", ("what", "value"), tuple(rows))


# ---- sections ------------------------------------------------------------------------------------------------------------
def _score(result: Result, pictures: Pictures) -> dict[str, Any]:
    s, p = result.score, result.protocol
    assert s is not None
    sentences = ["The score passed its gates." if s.used else f"The score was refused: {'; '.join(s.reasons)}."]
    sentences.append(
        "Drift is judged on baseline values, calibration on the outcomes of all arms together, blinded to the arm; the control "
        "arm below is shown, and decides nothing."
    )
    sentences += [f"{sentence(w)}." for w in s.warnings]
    names = (axis(f"forecast of {p.endpoint.label} on control", p.endpoint.unit), axis(p.endpoint.label, p.endpoint.unit))
    drawn = []
    told_apart = p.score is not None and p.score.same_scale
    if np.isfinite(s.score).any() and p.endpoint.kind != "time-to-event" and told_apart:
        labels = {a: p.arms.label(a) for a in (p.arms.control, *p.arms.active)}
        chart = figures.scatter(s.score, s.outcome, s.arm, labels, names)
        drawn.append(pictures.draw(chart, "Twin against observed, every participant"))
        here = np.array(s.arm) == p.arms.control
        if np.isfinite(s.score[here]).sum() >= 20:
            chart = figures.calibration(s.score[here], s.outcome[here], names)
            drawn.append(pictures.draw(chart, "Calibration of the twins in the control arm"))
    return {"sentences": sentences, "tables": _score_tables(s), "pictures": drawn}


def _score_tables(s: Scored) -> list[Table]:
    out = [
        Table(
            "The locked model" if "SHA-256" in s.model else "The score",
            ("what", "value"),
            tuple((k.replace("_", " "), v) for k, v in s.model.items()),
        )
    ]
    held: list[tuple[str, ...]] = [
        (name, str(v["n"]), number(v.get("r"), 3), f"{number(v['slope'], 3)} (SE {number(v['slope_error'], 2)})",
         number(v["rmse"]), number(v["spread"]), number(v["crps"]), percent(v["coverage"], 1))
        for name, v in s.held_out.get("variables", {}).items()
    ]  # fmt: skip
    if held:
        told_of = ("variable", "forecasts", "correlation", "slope", "RMSE", "SD of the variable", "CRPS", "90 % intervals cover")
        note = "From the locked file: persons of the history whom the generator had not seen, all times of forecast together."
        out.append(Table("Validated in history, held out", told_of, tuple(held), frozenset(range(1, 8)), note=note))
    if c := s.figures.get("concordance"):
        told: tuple[tuple[str, ...], ...] = (
            ("Harrell's C of score and time to event, all arms, blinded", f"{number(c['c'], 3)} (SE {number(c['se'], 2)})"),
        )
        out.append(Table("Discrimination in the trial", ("what", "value"), told))
    found = [("all arms, blinded", s.figures.get("calibration")), ("control arm", s.control)]
    rows: list[tuple[str, ...]] = []
    for name, c in found:
        if c:
            rho = c["correlation"]
            ends = f"{number(rho['rho'], 3)} ({number(rho['lower'], 3)} to {number(rho['upper'], 3)})"
            slope = f"{number(c['slope'], 3)} ({number(c['slope_interval'][0], 3)} to {number(c['slope_interval'][1], 3)})"
            rows.append((name, str(c["n"]), ends, slope, number(c["rmse"]), number(c["sd"])))
    if rows:
        columns = ("outcomes of", "n", "correlation (95 %)", "slope (95 %)", "RMSE of the score", "SD of the outcome")
        out.append(Table("Correlation and calibration in the trial", columns, tuple(rows), frozenset({1, 4, 5})))
    drift = s.figures.get("drift")
    if drift:
        shifts: tuple[tuple[str, ...], ...] = tuple(
            (x["name"], number(x["mean_history"]), number(x["mean_trial"]), f"{x['difference']:+.2f}", number(x["distance"], 2),
             figures.p_value(x["p"]), percent(x["outside"]))
            for x in drift["shifts"]
        )  # fmt: skip
        heads = ("covariate", "history", "trial", "standardised difference", "distance", "p", "outside of history")
        note = f"AUC of telling trial from history apart: {drift['auc']:.2f}; Hotelling's test {figures.p_words(drift['p'])}."
        out.append(Table("Drift of the trial's population", heads, shifts, frozenset(range(1, 7)), note=note))
    return out


def _external(result: Result, pictures: Pictures) -> dict[str, Any]:
    x, p = result.external, result.protocol
    assert x is not None
    rows, drawn = [], []
    for r in x.found.rows:
        e = r.estimate
        said = "–" if e is None else figures.told(e)
        rows.append((ROLES.get(r.role, r.role), r.method, said, number(r.gap, 3), number(r.precision, 3), r.refused))
        if e is not None and e.measure == x.found.truth.measure:
            drawn.append((f"{r.role}: {r.method}", e))
    columns = ("use of history", "method", "estimate (interval)", "gap", "precision", "refused because")
    note = "Gap: against the unadjusted randomised estimate. Precision: its variance over this one's."
    uses = Table("Like for like", columns, tuple(rows), frozenset({3, 4}), note=note)
    before = dict(zip(x.balance["covariate"], x.balance["before"], strict=True))
    after = {name: dict(zip(x.balance["covariate"], x.balance[name], strict=True)) for name in x.balance.columns[2:]}
    sentences = [
        "The randomised comparison stands for the truth; an external arm can be biased by whatever differs between history and "
        "trial and is not in the covariates.",
        f"Largest standardised difference before adjustment: {x.found.worst_covariate}, {x.found.imbalance:.2f}.",
        *(f"Effective number of external controls by {k} weights: {number(v, 3)}." for k, v in x.ess.items()),
        *x.log,
    ]
    return {
        "sentences": sentences,
        "tables": [uses],
        "bias": list(x.bias),
        "pictures": [
            pictures.draw(figures.forest(drawn, "", p.endpoint.unit), "Uses of the same history"),
            pictures.draw(figures.balance(before, after, ""), "Balance of treated participants and history"),
        ],
    }
