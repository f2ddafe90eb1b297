"""A trial analysed as its protocol says, from the file to everything that the dossier tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from gemello.base.errors import DataError, RefusalError
from gemello.base.provenance import Provenance
from gemello.formats.yamlfile import name_of
from gemello.report.words import number, plural
from gemello.trial import outside, scores, sensitivity
from gemello.trial.analysis.arms import quoted
from gemello.trial.analysis.compare import Comparison, Row, common_rows, side_by_side
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.result import Estimate
from gemello.trial.design.prognostic import prognostic_power
from gemello.trial.estimands import Applied, apply
from gemello.trial.outside import External
from gemello.trial.prepare import ARM, FEWEST, Prepared, prepare
from gemello.trial.primary import SCORE, estimates, summary
from gemello.trial.protocol import Protocol
from gemello.trial.scores import Scored
from gemello.trial.sensitivity import Sensitivity

Say = Callable[[str], None]
_SITES = re.compile("site|cent(er|re)|region|countr|strat|group|grp|sitegr", re.IGNORECASE)


@dataclass(frozen=True)
class Result:
    """What was found. comparison: rows of every adjustment and contrast. primary: the adjustment that the protocol leads to
    (score and covariates where the score passes its gates, else covariates, else unadjusted), a row for each active arm. score:
    None where the protocol has none. words: sentences for a reader; power: sentences on power."""

    protocol: Protocol
    prepared: Prepared
    applied: Applied
    comparison: Comparison
    primary: tuple[Row, ...]
    score: Scored | None
    sensitivity: tuple[Sensitivity, ...]
    external: External | None
    power: tuple[str, ...]
    words: tuple[str, ...]
    warnings: tuple[str, ...]
    table: pl.DataFrame
    provenance: Provenance

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return {
            "schema": "gemello-trial-result/1",
            "title": self.protocol.title,
            "protocol_sha256": self.protocol.hash,
            "data_sha256": self.prepared.hash,
            "subjects": self.prepared.subjects,
            "summary": summary(self.protocol),
            "comparison": self.comparison.as_dict(),
            "primary": [
                {"adjustment": r.adjustment, "ess_multiplier": dict(r.ess), **r.estimate.as_dict()} for r in self.primary
            ],
            "score": self.score.as_dict() if self.score else None,
            "sensitivity": [s.as_dict() for s in self.sensitivity],
            "external": self.external.as_dict() if self.external else None,
            "power": list(self.power),
            "warnings": list(self.warnings),
            "log": [*self.prepared.log, *self.applied.log],
            "provenance": self.provenance.to_dict(),
        }


def analyse(protocol: Protocol, *, progress: Say = lambda words: None) -> Result:
    """Run a protocol. Raises DataError for data that it cannot use, RefusalError and ConvergenceError as the methods do.

    A score that fails its gates is left out, with the reason in `score.reasons`; the other analyses go on.
    """
    sensitivity.check(protocol)
    progress("Reading the data")
    prepared = prepare(protocol)
    applied = apply(protocol, prepared)
    progress("Judging the prognostic score")
    scored = scores.attach(protocol, applied.table) if protocol.score else None
    table = scored.table if scored is not None else applied.table
    progress("Comparing the arms")
    table, lost = _complete(protocol, table, scored)
    scored = _beyond(protocol, table, scored)
    comparison = compare(protocol, table, scored is not None and scored.used)
    primary = tuple(_primary(comparison, label) for label in comparison.labels)
    progress("Running sensitivity analyses")
    around = sensitivity.run(protocol, table, scored.table if scored is not None else applied.table, primary)
    external = None
    if protocol.external:
        progress("Asking what external controls would have said")
        external = outside.compare(protocol, table)
    warnings = tuple(dict.fromkeys((
        *lost, *_placed(comparison, primary), *applied.warnings, *(scored.warnings if scored else ()), *_several(protocol),
        *_coded(protocol, table),
    )))  # fmt: skip
    stamp = Provenance.collect(data=prepared.hash, seed=protocol.seed)
    return Result(
        protocol, prepared, applied, comparison, primary, scored, around, external, power(protocol, table, scored),
        words(protocol, comparison, primary, scored), warnings, table, stamp,
    )  # fmt: skip


def compare(protocol: Protocol, table: pl.DataFrame, with_score: bool) -> Comparison:
    """Unadjusted, covariate-adjusted and score-adjusted on the same rows. A covariate of randomisation strata counts as one."""

    def fit(terms: tuple[str, ...]) -> Sequence[Estimate]:
        return estimates(protocol, table, [t for t in terms if t != SCORE], SCORE in terms)

    found = side_by_side(fit, covariates=covariates(protocol), score=(SCORE,) if with_score else ())
    if collapsible(protocol):
        return found
    return replace(found, rows=tuple(replace(r, ess={}) for r in found.rows))


def collapsible(protocol: Protocol) -> bool:
    """Whether adjusting leaves the estimand alone, so that variances measure the gain (not so for conditional ratios)."""
    return summary(protocol) not in ("hazard ratio", "common odds ratio")


def covariates(protocol: Protocol) -> tuple[str, ...]:
    """Terms of the covariate-adjusted analysis: the outcome's value at baseline, where there is one, and the protocol's."""
    own = protocol.analysis.covariates
    base = protocol.endpoint.baseline
    return (base, *own) if base and base not in own else own


def covariate_columns(protocol: Protocol, table: pl.DataFrame) -> tuple[str, ...]:
    """Columns that these terms are made of."""
    written = [quoted(c, table) for c in covariates(protocol)]
    return Formula.parse(" + ".join(written)).columns if written else ()


def _complete(protocol: Protocol, table: pl.DataFrame, scored: Scored | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rows that every analysis can use, so that all answer on the same subjects; what was left out, in words."""
    names = covariate_columns(protocol, table)
    missing = [n for n in names if n not in table.columns]
    if missing:
        raise DataError(
            "no such covariate in the data", source=protocol.source, column=missing[0], remedy="mend analysis: covariates"
        )
    _before(protocol, table, names)
    outcome = protocol.endpoint.outcome
    used = SCORE if scored is not None and scored.used else None
    if protocol.endpoint.kind in ("continuous", "binary", "count", "repeated"):
        kept, lost = common_rows(table, outcome, covariates(protocol), used)
    else:
        need = [n for n in (outcome, protocol.endpoint.event, *names) if n]
        keep = [pl.col(n).is_not_null() for n in need] + [pl.col(n).is_not_nan() for n in need if table.schema[n].is_float()]
        kept = table.filter(pl.all_horizontal(keep))
        n = len(table) - len(kept)
        lost = (f"{n} rows left out of every analysis: the outcome or a covariate is missing",) if n else ()
    for arm in (protocol.arms.control, *protocol.arms.active):
        n = kept.filter(pl.col(ARM) == arm)[protocol.subject].n_unique()
        if n < FEWEST:
            words = f"{plural(n, 'subject')} of arm {protocol.arms.label(arm)} with outcome and covariates"
            raise DataError(words, source=protocol.source, column=outcome, remedy=f"an arm needs at least {FEWEST}")
    return kept, lost


def _coded(protocol: Protocol, table: pl.DataFrame) -> tuple[str, ...]:
    """Words about sites, regions and strata that are coded as numbers and enter as a number, in one slope."""
    out = []
    for term in covariates(protocol):
        name = term.strip("`")
        if name not in table.columns or not table.schema[name].is_numeric() or table[name].n_unique() < 3:
            continue
        if name in protocol.randomisation.strata or _SITES.search(name):
            out.append(f"{name} enters as a number, with one slope: write factor({term}) if its numbers are codes")
    return tuple(out)


def _placed(comparison: Comparison, primary: Sequence[Row]) -> tuple[str, ...]:
    """Warnings of the comparison; those that do not touch the primary rows say which rows they are about."""

    def of(row: Row) -> tuple[str, ...]:
        return tuple(row.estimate.extra.get("warnings", ()))

    out = []
    for w in comparison.warnings:
        where = list(dict.fromkeys(r.adjustment for r in comparison.rows if w in of(r)))
        mine = not where or any(w in of(r) for r in primary)
        out.append(w if mine else f"{' and '.join(where)}, not the primary analysis: {w}")
    return tuple(out)


def _several(protocol: Protocol) -> tuple[str, ...]:
    n = len(protocol.arms.active)
    return (f"{n} comparisons with control: intervals and p values are not adjusted for multiplicity",) if n > 1 else ()


def _beyond(protocol: Protocol, table: pl.DataFrame, scored: Scored | None) -> Scored | None:
    """The score refused where it is a linear function of the covariates: both together cannot be fitted, and it adds nothing."""
    terms = covariates(protocol)
    if scored is None or not scored.used or not terms:
        return scored
    e = protocol.endpoint
    rows = table.filter(pl.Series([name_of(v) == e.at for v in table[e.visit].to_list()])) if e.visit else table
    d = design(" + ".join(quoted(t, rows) for t in terms), rows)
    y = rows[SCORE].cast(pl.Float64).to_numpy()[d.kept]
    left = y - d.matrix @ np.linalg.lstsq(d.matrix, y, rcond=None)[0]
    if np.std(left) > 1e-6 * np.std(y):
        return scored
    words = f"it is a linear function of {', '.join(terms)}, which the analysis adjusts for: it adds nothing"
    return replace(scored, used=False, reasons=(*scored.reasons, words))


def _before(protocol: Protocol, table: pl.DataFrame, names: Sequence[str]) -> None:
    """RefusalError for a covariate that was seen after randomisation; DataError for the arm as one."""
    after = scores.late(protocol)
    for name in names:
        if name in after:
            raise RefusalError(
                f"{protocol.source}, covariate {name}: it is {after[name]}, seen after randomisation; adjusting for it biases "
                "the comparison: take it out of analysis: covariates"
            )
        if name == protocol.arms.column:
            remedy = "the analysis has it already; take it out"
            raise DataError("the arm is no covariate", source=protocol.source, column=name, remedy=remedy)
        if protocol.endpoint.visit and scores.varies(table, protocol.subject, name):
            raise RefusalError(
                f"{protocol.source}, covariate {name}: it changes within a subject, so it was seen after randomisation; give its "
                "value at baseline"
            )


def _primary(comparison: Comparison, label: str) -> Row:
    there = [r for r in comparison.rows if r.estimate.label == label]
    return there[-1]  # side_by_side goes from unadjusted to score + covariates


def words(protocol: Protocol, comparison: Comparison, primary: Sequence[Row], scored: Scored | None) -> tuple[str, ...]:
    """What a reader needs first."""
    out = []
    for r in primary:
        gain = gains(r)
        ran = f"{r.estimate.label}, {r.adjustment}: {r.estimate.method}"
        out.append(ran + (f"; effective sample size × {gain}" if gain else ""))
    if scored is not None and not scored.used:
        out.append(f"The prognostic score was refused: {'; '.join(scored.reasons)}")
    return tuple(out)


def gains(row: Row, digits: int = 4) -> str:
    """What the adjustment is worth as an effective sample size, by kind of variance, in words; empty where it is not defined."""
    if row.adjustment == "unadjusted":
        return ""
    kinds = {"reported": "by the reported variance", "model": "model-based", "HC3": "HC3"}
    shown = {k: v for k, v in row.ess.items() if k in kinds}
    told = {k: v for k, v in shown.items() if k == "reported" or v != shown.get("reported")}
    return ", ".join(f"{number(v, digits)} ({kinds[k]})" for k, v in told.items())


def power(protocol: Protocol, table: pl.DataFrame, scored: Scored | None) -> tuple[str, ...]:
    """What the planned difference would need, with and without the score at its validated and at its deflated correlation."""
    planned, s = protocol.planned, protocol.score
    if protocol.endpoint.kind not in ("continuous", "repeated") or "difference" not in planned or "sd" not in planned:
        return (
            "The protocol plans no difference and SD of a continuous outcome (planned: difference, sd): no statement is made.",
        )
    everyone = table[protocol.subject].n_unique()
    control, active = (
        table.filter(pl.col(ARM) == a)[protocol.subject].n_unique() for a in (protocol.arms.control, protocol.arms.active[0])
    )
    ratio = active / control
    n = round(planned.get("total", everyone) * (control + active) / everyone)  # of the first comparison
    common: Mapping[str, Any] = {"alpha": planned.get("alpha", 0.05), "ratio": ratio}
    held = _held_out(protocol, scored)
    rho = held if s is not None and s.correlation is None else s.correlation if s is not None else None
    if s is None or rho is None:
        plain = prognostic_power(n, planned["difference"], planned["sd"], 0.0, deflation=1.0, **common)
        said = "" if s is None else " No validated correlation is known, so the score adds nothing that may be counted on."
        words = f"With {n} subjects, a difference of {planned['difference']:g} and an SD of {planned['sd']:g}"
        return (f"{words} the unadjusted analysis has power {plain.power:.3f}.{said}",)
    found = prognostic_power(n, planned["difference"], planned["sd"], rho, deflation=s.deflation, **common)
    source = "stated in the protocol" if s.correlation is not None else "that of held-out persons in the locked file"
    known = f"; held out, the locked file has {held:.3f}" if held is not None and s.correlation is not None else ""
    more = [f"The validated correlation, {rho:.3f}, is {source}{known}."]
    if scored is not None and not scored.used:
        more.append("The score was refused, so this trial has the power of the analysis without it.")
    return (found.text, *more)


def _held_out(protocol: Protocol, scored: Scored | None) -> float | None:
    """Correlation of forecast and outcome in held-out persons of the history, from the locked file; None where it has none."""
    s = protocol.score
    if s is None or scored is None or not s.same_scale:
        return None
    r = scored.held_out.get("variables", {}).get(s.variable, {}).get("r")
    return float(r) if isinstance(r, float) and np.isfinite(r) and abs(r) < 1 and not s.change_from else None
