"""A randomised trial made ready for analysis: arms, covariates and a prognostic score in one design, rows checked, losses
counted."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.trial.analysis.formula import Design, Formula, design
from gemello.trial.analysis.linear import checked

Array = NDArray[np.float64]
Terms = str | Sequence[str]
_PLAIN = re.compile(r"[A-Za-z_]\w*")
SCHEMES = ("simple", "permuted-block", "biased-coin", "urn", "pocock-simon")


@dataclass(frozen=True)
class Randomised:
    """design: outcome ~ arm + covariates + score on the complete rows. arms: levels, control first. code: (n,) arm of each row.
    strata: (n,) number of each row's randomisation stratum, None for none. exposure: (n,) or None. warnings: in words."""

    design: Design
    arms: tuple[str, ...]
    code: NDArray[np.int64]
    strata: NDArray[np.int64] | None
    scheme: str
    exposure: Array | None
    warnings: tuple[str, ...]
    adjusted_for: tuple[str, ...]
    arm: str

    @property
    def outcome(self) -> Array:
        """(n,) outcome."""
        assert self.design.outcome is not None
        return self.design.outcome

    @property
    def counts(self) -> NDArray[np.int64]:
        """(arms,) subjects analysed."""
        return np.bincount(self.code, minlength=len(self.arms))

    @property
    def share(self) -> Array:
        """(arms,) share of the subjects."""
        return self.counts / len(self.code)

    def counterfactual(self) -> list[Array]:
        """For each arm the (n, k) design if every subject were in it."""
        return [self.design.with_column(**{self.arm: a}) for a in self.arms]

    @property
    def adjustment(self) -> str:
        """In words."""
        return f"adjusted for {', '.join(self.adjusted_for)}" if self.adjusted_for else "unadjusted"


def randomised(
    table: pl.DataFrame,
    *,
    outcome: str,
    arm: str,
    control: str | float,
    covariates: Terms = (),
    score: str | None = None,
    heterogeneous: bool = False,
    strata: Terms = (),
    randomisation: str = "simple",
    exposure: str | None = None,
) -> Randomised:
    """The design outcome ~ arm + covariates + score, or arm * (covariates + score) where heterogeneous.

    outcome: column or transformed column. covariates: column names or formula terms. score: column of a prognostic score; it is
    centred and scaled here, so that no result depends on its origin or unit. strata: columns whose combinations were the strata
    of the randomisation. exposure: column of person-time. Rows with a missing outcome or covariate are left out and counted.
    Raises DataError for a single arm, an arm of fewer than two subjects, a control that no row has, an outcome that is no number,
    a score that is missing in a row or constant, a column that the others determine.
    """
    terms, by = _listed(covariates), _listed(strata)
    _require(table, [arm, *([score] if score else []), *by, *([exposure] if exposure else [])])
    if randomisation not in SCHEMES:
        raise DataError(f"randomisation {randomisation!r} is not known", remedy=f"one of {', '.join(SCHEMES)}")
    if randomisation != "simple" and not by:
        raise DataError(f"{randomisation} randomisation without strata", remedy="name the columns that it was stratified by")
    table, lost = _usable(table, outcome, arm, score, by, exposure)
    written = [quoted(t, table) for t in terms] + ([quoted(score, table)] if score else [])
    right = quoted(arm, table) + ("" if not written else (" * (" if heterogeneous else " + ") + " + ".join(written))
    f = Formula.parse(f"{quoted(outcome, table)} ~ {right}" + (")" if heterogeneous and written else ""))
    if not any(len(t) == 1 and t[0].text == arm for t in f.terms):
        raise DataError(f"formula {f.text!r} takes the arm out", column=arm, remedy="leave it out of the covariates")
    if arm in terms:
        raise DataError("the arm is no covariate", column=arm, remedy="leave it out of the covariates")
    arms = _arms(table, arm, control)
    d = design(f, table, levels={arm: arms})
    if (missing := len(table) - len(d)) > 0:
        lost.append(f"{missing} rows left out: a covariate is missing")
    here = d.table
    words = here[arm].to_numpy()
    code = np.searchsorted(np.array(arms)[np.argsort(arms)], words)
    code = np.argsort(arms)[code].astype(np.int64)
    for name, count in zip(arms, np.bincount(code, minlength=len(arms)), strict=True):
        if count < 2:
            raise DataError(f"arm {name!r} has {count} complete subjects", column=arm, remedy="an arm needs two at least")
    checked(d)
    groups = _strata(here, by)
    warnings = [*lost, *_left_out(by, f, randomisation)]
    used = (*terms, *([score] if score else []))
    time = None if exposure is None else here[exposure].cast(pl.Float64).to_numpy()
    return Randomised(d, arms, code, groups, randomisation, time, tuple(warnings), used, arm)


def quoted(name: str, table: pl.DataFrame) -> str:
    """A column name as a formula takes it; anything else is a term already."""
    plain = all(_PLAIN.fullmatch(part) and not keyword.iskeyword(part) for part in name.split("."))
    return f"`{name}`" if name in table.columns and not plain and "`" not in name else name


def as_words(column: pl.Series) -> pl.Series:
    """An arm as words: numbers as they are written shortest, NaN as missing."""
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Float64).fill_nan(None).to_list()
        return pl.Series(column.name, [None if v is None else word(v) for v in numbers], dtype=pl.String)
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        raise DataError(f"holds {column.dtype}", column=column.name, remedy="give the arm as a word or a number")
    return column.cast(pl.String)


def word(value: str | float) -> str:
    """The name of an arm or a category: numbers as they are written shortest."""
    if value is None:
        raise DataError("no control arm", remedy="name it")
    return (
        value
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool | np.bool_)
        else f"{float(value) + 0.0:.15g}"
    )


def standardised(table: pl.DataFrame, score: str) -> pl.DataFrame:
    """The table with its score centred to mean 0 and scaled to SD 1. Raises DataError for a score that is missing or constant."""
    column = table[score]
    if not column.dtype.is_numeric():
        raise DataError("a prognostic score must be a number", column=score, remedy="give the forecast outcome on control")
    values = column.cast(pl.Float64).to_numpy()
    if lacking := int((~np.isfinite(values)).sum()):
        raise DataError(f"{lacking} subjects lack a prognostic score", column=score, remedy="every subject needs its score")
    centred = values - values.mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    if not spread > 1e-12 * float(np.max(np.abs(values))):
        raise DataError("the prognostic score is the same for every subject", column=score, remedy="leave it out")
    return table.with_columns(pl.Series(score, centred / spread))


def _listed(terms: Terms) -> list[str]:
    return [terms] if isinstance(terms, str) else list(terms)


def _require(table: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise DataError(f"no column {name!r}", remedy=f"the table has {', '.join(table.columns[:30])}")


def _usable(
    table: pl.DataFrame, outcome: str, arm: str, score: str | None, by: Sequence[str], exposure: str | None
) -> tuple[pl.DataFrame, list[str]]:
    """Rows with an arm and an outcome, and words about the others."""
    lost = []
    table = table.with_columns(as_words(table[arm]))
    if (column := table[arm]).null_count():
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise DataError("the arm is missing", row=row, column=arm, remedy="every randomised subject has an arm")
    if outcome in table.columns:
        kind = table.schema[outcome]
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise DataError("the outcome is no number", column=outcome, value=table[outcome][0], remedy="give numbers")
        values = table[outcome].cast(pl.Float64)
        keep = ~(values.is_null() | values.is_nan().fill_null(True))
        if not keep.any():
            raise DataError("the outcome is missing in every row", column=outcome, remedy="give outcomes")
        if (endless := values.is_infinite().fill_null(False)).any():
            row = int(np.flatnonzero(endless.to_numpy())[0]) + 1
            raise DataError("the outcome is not finite", row=row, column=outcome, remedy="mend the value or leave the row out")
        if gone := len(table) - int(keep.sum()):
            lost.append(f"{gone} rows left out: {outcome} is missing")
            table = table.filter(keep)
    for name in by:
        if table[name].null_count() or (table.schema[name].is_float() and table[name].is_nan().any()):
            raise DataError("a randomisation stratum is missing", column=name, remedy="every randomised subject has one")
    if exposure is not None:
        time = table[exposure].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
        bad = np.flatnonzero(~(time > 0) | ~np.isfinite(time))
        if len(bad):
            raise DataError("exposure must be above 0", row=int(bad[0]) + 1, column=exposure, remedy="give person-time")
    if score is not None:
        table = standardised(table, score)
    return table, lost


def _arms(table: pl.DataFrame, arm: str, control: str | float) -> tuple[str, ...]:
    first = word(control)
    seen = table[arm].unique().to_list()
    numbers = all(_is_number(v) for v in seen)
    found = sorted(seen, key=float if numbers else None)
    if first not in found:
        raise DataError("no subject of the control arm", column=arm, value=first, remedy=f"one of {', '.join(found)}")
    if len(found) < 2:
        raise DataError(f"only one arm, {first!r}", column=arm, remedy="a comparison needs two")
    if len(found) > 20:
        raise UnsupportedError(f"column {arm}: {len(found)} arms; a trial has at most 20")
    return (first, *(a for a in found if a != first))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _strata(table: pl.DataFrame, by: Sequence[str]) -> NDArray[np.int64] | None:
    if not by:
        return None
    return np.unique(table.select(pl.struct(list(by)).rank("dense"))[:, 0].to_numpy(), return_inverse=True)[1].astype(np.int64)


def _left_out(by: Sequence[str], f: Formula, scheme: str) -> list[str]:
    """A warning where strata of the randomisation are not in the model."""
    out = [name for name in by if name not in f.columns]
    if not out:
        return []
    what = "influence and vcovG allow for that" if scheme != "simple" else "adjust for them"
    return [f"{', '.join(out)} stratified the randomisation but {'are' if len(out) > 1 else 'is'} not in the model; {what}"]
