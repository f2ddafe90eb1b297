"""A trial analysed as its protocol says, from the file to everything that the dossier tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.trial import outside, scores, sensitivity
from gemello.trial.analysis.arms import quoted
from gemello.trial.analysis.compare import Comparison, Row, common_rows, side_by_side
from gemello.trial.analysis.formula import Formula
from gemello.trial.analysis.result import Estimate
from gemello.trial.design.prognostic import prognostic_power
from gemello.trial.estimands import Applied, apply
from gemello.trial.outside import External
from gemello.trial.prepare import ARM, Prepared, prepare
from gemello.trial.primary import SCORE, estimates, summary
from gemello.trial.protocol import Protocol
from gemello.trial.scores import Scored
from gemello.trial.sensitivity import Sensitivity

Say = Callable[[str], None]


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
    progress("Reading the data")
    prepared = prepare(protocol)
    applied = apply(protocol, prepared)
    progress("Judging the prognostic score")
    scored = scores.attach(protocol, applied.table) if protocol.score else None
    table = scored.table if scored is not None else applied.table
    progress("Comparing the arms")
    table, lost = _complete(protocol, table, scored)
    comparison = compare(protocol, table, scored is not None and scored.used)
    primary = tuple(_primary(comparison, label) for label in comparison.labels)
    progress("Running sensitivity analyses")
    around = sensitivity.run(protocol, table, scored.table if scored is not None else applied.table, primary)
    external = None
    if protocol.external:
        progress("Asking what external controls would have said")
        external = outside.compare(protocol, table)
    warnings = tuple(dict.fromkeys((*lost, *comparison.warnings, *applied.warnings, *(scored.warnings if scored else ()))))
    stamp = Provenance.collect(data=prepared.hash, seed=protocol.seed)
    return Result(
        protocol, prepared, applied, comparison, primary, scored, around, external, power(protocol, table, scored),
        words(protocol, comparison, primary, scored), warnings, table, stamp,
    )  # fmt: skip


def compare(protocol: Protocol, table: pl.DataFrame, with_score: bool) -> Comparison:
    """Unadjusted, covariate-adjusted and score-adjusted on the same rows. A covariate of randomisation strata counts as one."""

    def fit(terms: tuple[str, ...]) -> Sequence[Estimate]:
        return estimates(protocol, table, [t for t in terms if t != SCORE], SCORE in terms)

    return side_by_side(fit, covariates=covariates(protocol), score=(SCORE,) if with_score else ())


def covariates(protocol: Protocol) -> tuple[str, ...]:
    """Terms of the covariate-adjusted analysis: the protocol's, and the baseline value of a repeated endpoint."""
    own = protocol.analysis.covariates
    base = protocol.endpoint.baseline
    return (base, *own) if base and base not in own and protocol.endpoint.kind == "repeated" else own


def _complete(protocol: Protocol, table: pl.DataFrame, scored: Scored | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rows that every analysis can use, so that all answer on the same subjects; what was left out, in words."""
    written = [quoted(c, table) for c in covariates(protocol)]
    names = Formula.parse(" + ".join(written)).columns if written else ()
    missing = [n for n in names if n not in table.columns]
    if missing:
        raise DataError(
            "no such covariate in the data", source=protocol.source, column=missing[0], remedy="mend analysis: covariates"
        )
    outcome = protocol.endpoint.outcome
    if protocol.endpoint.kind in ("continuous", "binary", "count", "repeated"):
        kept, lost = common_rows(table, outcome, covariates(protocol), SCORE if scored is not None and scored.used else None)
        return kept, lost
    keep = pl.all_horizontal([pl.col(n).is_not_null() for n in (outcome, *names)])
    kept = table.filter(keep)
    n = len(table) - len(kept)
    return kept, ((f"{n} rows left out of every analysis: the outcome or a covariate is missing",) if n else ())


def _primary(comparison: Comparison, label: str) -> Row:
    there = [r for r in comparison.rows if r.estimate.label == label]
    return there[-1]  # side_by_side goes from unadjusted to score + covariates


def words(protocol: Protocol, comparison: Comparison, primary: Sequence[Row], scored: Scored | None) -> tuple[str, ...]:
    """What a reader needs first."""
    out = []
    for r in primary:
        gain = ", ".join(f"{v:.3g} by {k} variances" for k, v in r.ess.items() if k in ("model", "HC3", "reported"))
        ran = f"{r.estimate.label}: {r.estimate.method}"
        out.append(ran + (f"; effective sample size × {gain}" if gain and r.adjustment != "unadjusted" else ""))
    if scored is not None and not scored.used:
        out.append(f"The prognostic score was refused: {'; '.join(scored.reasons)}")
    return tuple(out)


def power(protocol: Protocol, table: pl.DataFrame, scored: Scored | None) -> tuple[str, ...]:
    """What the planned difference would need, with and without the score at its validated and at its deflated correlation."""
    planned, s = protocol.planned, protocol.score
    if protocol.endpoint.kind not in ("continuous", "repeated") or "difference" not in planned or "sd" not in planned:
        return (
            "The protocol plans no difference and SD of a continuous outcome (planned: difference, sd): no statement is made.",
        )
    n = int(planned.get("total", table[protocol.subject].n_unique()))
    control = len(table.filter(pl.col(ARM) == protocol.arms.control)[protocol.subject].unique())
    ratio = (table[protocol.subject].n_unique() - control) / max(control, 1)
    common: Mapping[str, Any] = {"alpha": planned.get("alpha", 0.05), "ratio": ratio}
    if s is None or s.correlation is None:
        plain = prognostic_power(n, planned["difference"], planned["sd"], 0.0, deflation=1.0, **common)
        said = "" if s is None else " No validated correlation is stated, so the score adds nothing that may be counted on."
        words = f"With {n} subjects, a difference of {planned['difference']:g} and an SD of {planned['sd']:g}"
        return (f"{words} the unadjusted analysis has power {plain.power:.3f}.{said}",)
    found = prognostic_power(n, planned["difference"], planned["sd"], s.correlation, deflation=s.deflation, **common)
    return (found.text,)
