"""A trial's analysis written as ADaM: all randomised subjects of the arms compared, their records with a flag on those that were
analysed (ANL01FL), and the results."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from gemello.base.errors import DataError
from gemello.formats import adam
from gemello.trial.analyse import Result, covariate_columns
from gemello.trial.prepare import ARM
from gemello.trial.primary import SCORE


def write(result: Result, folder: Path | str) -> tuple[Path, ...]:
    """Write ADSL, the analysis data set and ADRES as XPT files into `folder` (made where it is not there); returns their paths.
    Raises DataError for columns that the format cannot take."""
    p, e = result.protocol, result.protocol.endpoint
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError("is a file", source=str(folder), column="--adam", remedy="give a folder")
    names = tuple(n for n in covariate_columns(p, result.table) if n != e.baseline)
    used = result.score is not None and result.score.used
    everyone = (
        result.score.table if result.score is not None else result.applied.table
    )  # with missing outcomes; score as forecast
    key = [p.subject, e.visit] if e.visit else [p.subject]
    seen = result.table.select(key).unique().with_columns(pl.lit(True).alias("analysed"))
    labels = pl.Series("treatment", [p.arms.label(a) for a in everyone[ARM].to_list()], dtype=pl.String)
    table = everyone.with_columns(labels).join(seen, on=key, how="left", maintain_order="left")
    table = table.with_columns(pl.col("analysed").fill_null(False) & pl.col(e.outcome).is_not_null())
    roles = adam.Roles(
        subject=p.subject, treatment="treatment", value=e.outcome, arms=tuple(p.arms.label(a) for a in result.prepared.arms),
        visit=e.visit or None, baseline=e.baseline or None, event=e.event or None, covariates=names,
        score=SCORE if used else None, change=bool(e.baseline), analysed="analysed",
    )  # fmt: skip
    code = re.sub(r"[^A-Z0-9]", "", e.outcome.upper())[:8] or "OUTCOME"
    estimates = [r.estimate.as_dict() for r in result.comparison.rows]
    return tuple(
        adam.write_analysis(
            folder, table, roles, study=p.title[:40], parameter=(code, e.label[:40]),
            dataset="ADTTE" if e.event else "ADEFF", estimates=estimates,
        )
    )  # fmt: skip
