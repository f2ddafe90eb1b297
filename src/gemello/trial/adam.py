"""A trial's analysis written as ADaM: the data set as it was analysed, subjects, and the results."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from gemello.base.errors import DataError
from gemello.formats import adam
from gemello.trial.analyse import Result, covariates
from gemello.trial.analysis.formula import Formula
from gemello.trial.prepare import ARM
from gemello.trial.primary import SCORE


def write(result: Result, folder: Path | str) -> tuple[Path, ...]:
    """Write ADSL, the analysis data set and ADRES as XPT files into `folder` (made where it is not there); returns their paths.
    Raises DataError for columns that the format cannot take."""
    p, e = result.protocol, result.protocol.endpoint
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError("is a file", source=str(folder), column="--adam", remedy="give a folder")
    terms = covariates(p)
    names = tuple(n for n in (Formula.parse(" + ".join(terms)).columns if terms else ()) if n != e.baseline)
    used = SCORE in result.table.columns and result.score is not None and result.score.used
    labels = pl.Series("treatment", [p.arms.label(a) for a in result.table[ARM].to_list()], dtype=pl.String)
    table = result.table.with_columns(labels)
    roles = adam.Roles(
        subject=p.subject, treatment="treatment", value=e.outcome, arms=tuple(p.arms.label(a) for a in result.prepared.arms),
        visit=e.visit or None, baseline=e.baseline or None, event=e.event or None, covariates=names,
        score=SCORE if used else None, change=bool(e.baseline),
    )  # fmt: skip
    code = re.sub(r"[^A-Z0-9]", "", e.outcome.upper())[:8] or "OUTCOME"
    estimates = [r.estimate.as_dict() for r in result.comparison.rows]
    return tuple(
        adam.write_analysis(
            folder, table, roles, study=p.title[:40], parameter=(code, e.label[:40]),
            dataset="ADTTE" if e.event else "ADEFF", estimates=estimates,
        )
    )  # fmt: skip
