"""From a table to the arrays of a survival analysis: what may not pass is refused here, with its row and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.trial.analysis.formula import Design, design

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SurvivalData:
    """Complete rows, sorted as in the table. n subjects.

    time, entry: (n,) end of follow-up and its start (left truncation; −inf where there is none), at risk in (entry, time].
    event: (n,) 1 seen, 0 censored. arm: (n,) number of the arm in `arms`, the control 0. stratum: (n,) number of the stratum.
    covariates: design of the covariates and of the score, without an intercept column, or None. kept: (n,) rows of the table.
    """

    time: Array
    event: Array
    entry: Array
    arm: NDArray[np.int64]
    arms: tuple[str, ...]
    stratum: NDArray[np.int64]
    strata: tuple[str, ...]
    x: Array
    names: tuple[str, ...]
    kept: NDArray[np.int64]
    dropped: int

    def __len__(self) -> int:
        return len(self.time)

    def pair(self, active: int) -> SurvivalData:
        """The control and one other arm only."""
        keep = (self.arm == 0) | (self.arm == active)
        return SurvivalData(
            self.time[keep], self.event[keep], self.entry[keep], (self.arm[keep] == active).astype(np.int64),
            (self.arms[0], self.arms[active]), self.stratum[keep], self.strata, self.x[keep], self.names, self.kept[keep],
            self.dropped,
        )  # fmt: skip


def times(table: pl.DataFrame, name: str, *, what: str = "time") -> Array:
    """(rows,) a column of times; DataError for words, negative and infinite values. Missing values are NaN."""
    values = number_column(table, name)
    bad = np.flatnonzero(~np.isnan(values) & ((values < 0) | ~np.isfinite(values)))
    if len(bad):
        i = int(bad[0])
        raise DataError(f"no {what} of follow-up", row=i + 1, column=name, value=values[i], remedy="give finite times from 0 up")
    return values


def events(table: pl.DataFrame, name: str) -> Array:
    """(rows,) a column of 0 (censored) and 1 (event seen), or of truth values; DataError for any other code."""
    values = number_column(table, name)
    bad = np.flatnonzero(~np.isnan(values) & (values != 0) & (values != 1))
    if len(bad):
        i = int(bad[0])
        codes = ", ".join(f"{v:g}" for v in np.unique(values[~np.isnan(values)])[:8])
        raise DataError(
            f"event codes {codes} are not 0 (censored) and 1 (event)", row=i + 1, column=name, value=f"{values[i]:g}",
            remedy="say which code is the event, for example pl.col(event) == 2; that censors competing events",
        )  # fmt: skip
    return values


def number_column(table: pl.DataFrame, name: str) -> Array:
    """(rows,) a column as numbers, NaN where missing; DataError for words and for a column that is not there."""
    if name not in table.columns:
        raise DataError("no such column", column=name, remedy=f"the table has {', '.join(table.columns[:30])}")
    s = table[name]
    if not (s.dtype.is_numeric() or s.dtype == pl.Boolean):
        raise DataError(f"holds {s.dtype}, not numbers", column=name, remedy="give numbers")
    return s.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(float)


def words(table: pl.DataFrame, names: Sequence[str]) -> list[str | None]:
    """(rows,) the values of some columns as one word each, None where one is missing. 1.0 and 1 are the same word."""
    for name in names:
        if name not in table.columns:
            raise DataError("no such column", column=name, remedy=f"the table has {', '.join(table.columns[:30])}")
    rows = zip(*(table[n].to_list() for n in names), strict=True)
    return [None if any(_missing(v) for v in r) else " / ".join(_word(v) for v in r) for r in rows]


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _word(value: Any) -> str:
    return f"{value + 0.0:.15g}" if isinstance(value, float) else str(value)


def terms(table: pl.DataFrame, covariates: Sequence[str], score: str | None = None) -> Design | None:
    """The design of covariates (columns or terms of a formula) and of a score, or None where there are neither."""
    parts = [f"`{c}`" if c in table.columns else c for c in (*covariates, *([score] if score else []))]
    if not parts:
        return None
    return design(" + ".join(parts), table, keep_missing=True)


def prepare(
    table: pl.DataFrame, *, time: str, event: str, arm: str | None = None, control: object = None, covariates: Sequence[str] = (),
    strata: Sequence[str] = (), score: str | None = None, entry: str | None = None,
) -> SurvivalData:  # fmt: skip
    """Read and check a table. Rows with a missing value in a column used are left out and counted.

    Raises DataError for negative or infinite times, event codes other than 0 and 1, an entry not before the end of follow-up, a
    control that is no arm, an arm of one subject, a score that is constant, no complete rows.
    """
    t, e = times(table, time), events(table, event)
    start = np.full(len(table), -np.inf) if entry is None else number_column(table, entry)
    label = words(table, [arm]) if arm else ["all"] * len(table)
    level = words(table, list(strata)) if strata else ["all"] * len(table)
    d = terms(table, covariates, score)
    x, names = (np.empty((len(table), 0)), ()) if d is None else _without_intercept(d)
    if len(endless := np.argwhere(np.isinf(x))):
        i, j = endless[0]
        raise DataError("not a finite number", row=int(i) + 1, column=names[j], remedy="mend the value or leave it empty")
    good = ~np.isnan(t) & ~np.isnan(e) & ~np.isnan(start) & ~np.isnan(x).any(axis=1)
    good &= np.array([v is not None for v in label], bool) & np.array([v is not None for v in level], bool)
    kept = np.flatnonzero(good)
    if not len(kept):
        raise DataError("no row has all of the columns used", remedy="give complete rows")
    late = kept[start[kept] >= t[kept]]
    if len(late):
        i = int(late[0])
        raise DataError(f"entry {start[i]:g} is not before {t[i]:g}", row=i + 1, column=entry, remedy="give entry < time")
    arms = _arms([str(label[i]) for i in kept], arm, control)
    codes = {a: i for i, a in enumerate(arms)}
    found = sorted({str(level[i]) for i in kept})
    stratum = {s: i for i, s in enumerate(found)}
    return SurvivalData(
        t[kept], e[kept], start[kept], np.array([codes[str(label[i])] for i in kept], np.int64), arms,
        np.array([stratum[str(level[i])] for i in kept], np.int64), tuple(found), x[kept], names, kept, len(table) - len(kept),
    )  # fmt: skip


def _without_intercept(d: Design) -> tuple[Array, tuple[str, ...]]:
    keep = [i for i, t in enumerate(d.term_of) if t >= 0]
    return d.matrix[:, keep], tuple(d.names[i] for i in keep)


def _arms(labels: list[str], arm: str | None, control: object) -> tuple[str, ...]:
    """Arms, the control first."""
    if arm is None:
        return ("all",)
    count = {a: labels.count(a) for a in sorted(set(labels), key=_natural)}
    chosen = _word(control) if control is not None else next(iter(count))
    if chosen not in count:
        raise DataError("the control is no arm", column=arm, value=control, remedy=f"one of {', '.join(count)}")
    if len(count) < 2:
        raise DataError(f"one arm only, {chosen}", column=arm, remedy="give two arms or more with complete rows")
    lone = [a for a, n in count.items() if n < 2]
    if lone:
        raise DataError(f"arm {lone[0]} has one subject", column=arm, remedy="leave the arm out, or join it to another")
    return (chosen, *(a for a in count if a != chosen))


def _natural(word: str) -> tuple[int, float, str]:
    try:
        return 0, float(word), word
    except ValueError:
        return 1, 0.0, word


def require_events(data: SurvivalData, arm: str | None) -> None:
    """DataError where an arm has no event: its hazard ratio is 0 or infinite."""
    for i, name in enumerate(data.arms):
        if not data.event[data.arm == i].any():
            raise DataError(
                f"arm {name} has no event, so the hazard ratio is 0 or infinite", column=arm,
                remedy="test with logrank(), or compare restricted mean survival times",
            )  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def no_entry(data: SurvivalData, method: str) -> None:
    """UnsupportedError for left-truncated data."""
    if np.isfinite(data.entry).any():
        raise UnsupportedError(f"{method} with delayed entry is not offered; use the Cox model, which takes entry times")
