"""Prognostic scores in an MMRM, matched in time: at every visit the forecast of that visit, with a slope of its own.

Adjusting for one baseline score at all visits loses what the forecast says about when change comes; the score of a visit enters
as score + score:visit, as a baseline covariate does in the usual MMRM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.mmrm.data import label_of, words
from gemello.trial.analysis.mmrm.fit import MmrmFit, mmrm
from gemello.trial.analysis.result import Estimate


@dataclass(frozen=True)
class SideBySide:
    """The same contrast under several formulas on the same rows. estimates, fits: by name, the first the one compared with;
    every estimate's extra has `effective_sample_size`, the ratio of its precision to the first's."""

    estimates: Mapping[str, Estimate]
    fits: Mapping[str, MmrmFit]
    rows: int
    rows_left_out: int


def add_score(
    table: pl.DataFrame, scores: pl.DataFrame, *, subject: str, visit: str | None = None, score: str = "score"
) -> pl.DataFrame:
    """The table with the scores (columns subject, visit and score; without visit, one for each subject) as a column.

    Raises DataError for a name that is taken, scores given twice, and rows of the table without a score.
    """
    keys = [subject] if visit is None else [subject, visit]
    for name in (*keys, score):
        if name not in scores.columns:
            raise DataError(f"scores: no column {name!r}", remedy=f"they have {', '.join(scores.columns[:30])}")
    if score in table.columns:
        raise DataError(f"the table has a column {score!r} already", remedy="name the score otherwise")
    label = [f"{k}\0" for k in keys]
    left = table.with_columns(**{n: pl.Series(n, words(table[k])) for n, k in zip(label, keys, strict=True)})
    right = scores.select(score, **{n: pl.Series(n, words(scores[k])) for n, k in zip(label, keys, strict=True)})
    twice = right.filter(right.select(label).is_duplicated())
    if len(twice):
        raise DataError(
            f"score given twice for {', '.join(str(v) for v in twice.row(0)[1:])}", column=score, remedy="give it once"
        )
    out = left.join(right, on=label, how="left", maintain_order="left")
    missing = out[score].is_null() | (out[score].cast(pl.Float64).is_nan().fill_null(True))
    if missing.any():
        i = int(missing.arg_max() or 0)
        who = ", ".join(str(out[n][i]) for n in label)
        raise DataError(f"no score for {who}", row=i + 1, column=score, remedy="give one for every row, or leave the row out")
    return out.drop(label)


def with_score(formula: Formula | str, score: str, visit: str) -> Formula:
    """The formula with score and score:visit at its end. visit: as it stands in the formula, for example factor(week)."""
    f = Formula.parse(formula) if isinstance(formula, str) else formula
    if not any(len(t) == 1 and t[0].text == visit for t in f.terms):
        raise DataError(f"formula {f.text!r} has no term {visit}", remedy="give the visit as it stands in the formula")
    name = score if score.replace("_", "").replace(".", "").isalnum() and not score[0].isdigit() else f"`{score}`"
    written = visit if visit.replace("_", "").replace(".", "").isalnum() or "(" in visit else f"`{visit}`"
    return f.plus(name, f"{name}:{written}")


def side_by_side(
    formulas: Mapping[str, Formula | str], table: pl.DataFrame, *, arm: str, control: str, at_visit: str | None = None,
    **options: Any,
) -> SideBySide:  # fmt: skip
    """Fit every formula on the rows that all can use, and compare one difference of arms.

    formulas: by name ("unadjusted", "covariates", "score"), the first the one that others are compared with. options: of mmrm.
    """
    if not formulas:
        raise DataError("no formula", remedy="give at least one, by name")
    parsed = {k: Formula.parse(f) if isinstance(f, str) else f for k, f in formulas.items()}
    kept = set(range(len(table)))
    for f in parsed.values():
        kept &= set(design(f, table).kept.tolist())
    most = max(len(design(f, table)) for f in parsed.values())
    rows = table[sorted(kept)]
    fits = {k: mmrm(f, rows, **options) for k, f in parsed.items()}
    found = {k: fit.difference(arm, control, at_visit) for k, fit in fits.items()}
    first = next(iter(found.values()))
    estimates = {
        k: replace(e, extra={**e.extra, "effective_sample_size": (first.se / e.se) ** 2, "formula": label_of(parsed[k].text)})
        for k, e in found.items()
    }
    return SideBySide(estimates, fits, len(rows), most - len(rows))
