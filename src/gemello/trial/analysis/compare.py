"""One analysis four times: unadjusted, adjusted for covariates, for a prognostic score, and for both, side by side.

The effective sample size multiplier is the unadjusted variance over the adjusted one: how many times as many subjects the
unadjusted analysis would need for the same standard error (Schuler et al., International Journal of Biostatistics 2022, section
3). It depends on the kind of variance, so each has its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import polars as pl

from gemello.base.errors import DataError
from gemello.trial.analysis.arms import Terms, quoted, standardised
from gemello.trial.analysis.formula import Formula
from gemello.trial.analysis.result import Estimate

Adjustment = Literal["unadjusted", "covariates", "score", "score + covariates"]
Fit = Callable[[tuple[str, ...]], Estimate | Sequence[Estimate]]
_CONDITIONAL = ("hazard ratio", "conditional")


class Analysed(Protocol):
    """What an analysis gives: contrasts by measure."""

    def contrasts(self, measure: str = ...) -> tuple[Estimate, ...]:
        """Every arm against control."""
        ...


@dataclass(frozen=True)
class Row:
    """One estimate: what it is adjusted for, in a word and by terms; ess: effective sample size multiplier by kind of
    variance."""

    adjustment: Adjustment
    terms: tuple[str, ...]
    estimate: Estimate
    ess: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """rows: every adjustment for every contrast, unadjusted first. warnings: in words."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    def row(self, adjustment: Adjustment, label: str | None = None) -> Row:
        """One row (label: of the contrast, needed where there are several). DataError for one that is not there."""
        found = [r for r in self.rows if r.adjustment == adjustment and label in (None, r.estimate.label)]
        if len(found) != 1:
            labels = ", ".join(dict.fromkeys(r.estimate.label for r in self.rows))
            raise DataError(
                f"{len(found)} rows {adjustment!r} of {label or 'any contrast'}", remedy=f"the contrasts are {labels}"
            )
        return found[0]

    def ess(self, adjustment: Adjustment = "score", variance: str = "model", label: str | None = None) -> float:
        """Effective sample size multiplier of one row by one kind of variance."""
        row = self.row(adjustment, label)
        if variance not in row.ess:
            raise DataError(f"no variance {variance!r}", remedy=f"one of {', '.join(row.ess)}")
        return row.ess[variance]

    @property
    def labels(self) -> tuple[str, ...]:
        """The contrasts."""
        return tuple(dict.fromkeys(r.estimate.label for r in self.rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        rows = [
            {"adjustment": r.adjustment, "terms": list(r.terms), "ess_multiplier": dict(r.ess), "estimate": r.estimate.as_dict()}
            for r in self.rows
        ]
        return {"rows": rows, "warnings": list(self.warnings)}


def side_by_side(fit: Fit, *, covariates: Terms = (), score: Terms = ()) -> Comparison:
    """Runs fit(extra terms) without terms, with the covariates, the score and both, and compares the variances.

    fit: takes formula terms to add and gives one estimate, or one for each contrast in the same order each time. Variances
    other than the reported one are read from extra["se_by"] (standard errors by name, such as "model" and "HC3"). score: one
    term, or several (a time-matched score in a repeated-measures model). Raises DataError where fits do not answer the same
    contrasts.
    """
    cov = (covariates,) if isinstance(covariates, str) else tuple(covariates)
    prognostic = (score,) if isinstance(score, str) else tuple(score)
    plan: list[tuple[Adjustment, tuple[str, ...]]] = [("unadjusted", ())]
    plan += [("covariates", cov)] if cov else []
    plan += [("score", prognostic)] if prognostic else []
    plan += [("score + covariates", (*cov, *prognostic))] if cov and prognostic else []
    done = [(name, terms, _listed(fit(terms))) for name, terms in plan]
    base = done[0][2]
    rows: list[Row] = []
    for name, terms, estimates in done:
        if [e.label for e in estimates] != [e.label for e in base]:
            raise DataError(f"adjusted for {', '.join(terms)}: other contrasts than unadjusted", remedy="fit the same contrasts")
        rows += [Row(name, terms, e, _ess(b, e)) for b, e in zip(base, estimates, strict=True)]
    return Comparison(tuple(rows), _warnings(rows))


def analyses(
    analysis: Callable[..., Analysed],
    table: pl.DataFrame,
    *,
    outcome: str,
    arm: str,
    control: str | float,
    covariates: Terms = (),
    score: str | None = None,
    measure: str | None = None,
    **options: Any,
) -> Comparison:
    """`side_by_side` for ancova, g_computation or ordinal, on the same subjects each time: those with the outcome and every
    covariate.

    measure: of `contrasts` (None: the analysis's own). options: passed on (family, covariance, strata, randomisation, …).
    """
    terms = (covariates,) if isinstance(covariates, str) else tuple(covariates)
    table, lost = common_rows(table, outcome, terms, score)

    def fit(extra: tuple[str, ...]) -> Sequence[Estimate]:
        given = [t for t in extra if t != score]
        result = analysis(
            table, outcome=outcome, arm=arm, control=control, covariates=given, score=score if score in extra else None, **options
        )
        return result.contrasts() if measure is None else result.contrasts(measure)

    out = side_by_side(fit, covariates=terms, score=() if score is None else score)
    return Comparison(out.rows, (*lost, *out.warnings))


def common_rows(
    table: pl.DataFrame, outcome: str, covariates: Sequence[str] = (), score: str | None = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The rows with an outcome and every covariate, the score centred and scaled on them; and words about the others."""
    written = " + ".join(quoted(t, table) for t in (*covariates, *([score] if score else [])))
    names = Formula.parse(f"{quoted(outcome, table)} ~ {written or '1'}").columns
    for name in names:
        if name not in table.columns:
            raise DataError(f"no column {name!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    keep = pl.all_horizontal([pl.col(n).is_not_null() for n in names if n != score])
    floats = [n for n in names if table.schema[n].is_float() and n != score]
    kept = table.filter(keep & pl.all_horizontal([pl.lit(True), *(pl.col(n).is_not_nan() for n in floats)]))
    if not len(kept):
        raise DataError("no row has the outcome and every covariate", column=outcome, remedy="give complete rows")
    lost = len(table) - len(kept)
    words = (f"{lost} rows left out of every analysis: the outcome or a covariate is missing",) if lost else ()
    return (kept if score is None else standardised(kept, score)), words


def _listed(found: Estimate | Sequence[Estimate]) -> list[Estimate]:
    return [found] if isinstance(found, Estimate) else list(found)


def _ess(base: Estimate, other: Estimate) -> dict[str, float]:
    """Multipliers by kind of variance, "reported" that of the method that ran."""
    before, after = dict(base.extra.get("se_by", {})), dict(other.extra.get("se_by", {}))
    out = {k: (before[k] / after[k]) ** 2 for k in before if k in after and after[k] > 0}
    return ({"reported": (base.se / other.se) ** 2} if other.se > 0 else {}) | out


def _warnings(rows: Sequence[Row]) -> tuple[str, ...]:
    said = [w for r in rows for w in r.estimate.extra.get("warnings", ())]
    if any(len({r.estimate.n for r in rows if r.estimate.label == name}) > 1 for name in {r.estimate.label for r in rows}):
        counts = ", ".join(f"{r.adjustment} {r.estimate.n}" for r in rows)
        said.append(f"not the same subjects in each analysis ({counts}): the multipliers are not like for like")
    marginal = ("marginal hazard ratio: covariates", "marginal hazard ratio within")  # of the covariate-adjusted log-rank
    apart = [r for r in rows if r.terms and not str(r.estimate.extra.get("estimand", "")).startswith(marginal)]
    for measure in dict.fromkeys(r.estimate.measure for r in apart):
        if any(word in measure for word in _CONDITIONAL):
            said.append(f"the {measure} depends on what it is adjusted for: its variances do not measure the gain alone")
    return tuple(dict.fromkeys(said))
