"""From a table to subjects in blocks: visits in their order, patterns of missing visits, times, groups, weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError, RefusalError
from gemello.trial.analysis.formula import Design, Formula, design
from gemello.trial.analysis.mmrm.covariance import EVERY_LAG, EVERY_PAIR, EVERY_VISIT, SPATIAL, Array, Ints
from gemello.trial.analysis.mmrm.reml import Block


@dataclass(frozen=True)
class Repeated:
    """Repeated measures of a design. subjects: names of those with data. subject, visit, group: (rows,) numbers. visits, groups:
    their labels in order. times: (rows, dimensions) or None. weights: (rows,). read: subjects in the table, with data or not.
    columns: of subject, visit and group."""

    design: Design
    subjects: tuple[str, ...]
    subject: Ints
    visits: tuple[str, ...]
    visit: Ints
    groups: tuple[str, ...]
    group: Ints
    times: Array | None
    weights: Array
    read: int
    columns: tuple[str, str, str | None]
    weighted: bool

    @property
    def outcome(self) -> Array:
        """(rows,) the outcome."""
        if self.design.outcome is None:
            raise DataError(f"formula {self.design.formula.text!r} has no outcome", remedy="write outcome ~ terms")
        return self.design.outcome


def natural(words: Sequence[str]) -> list[str]:
    """Words in an order in which the numbers inside them count as numbers: Week 8, Week 16, Week 24."""
    return sorted(words, key=lambda w: [(0, float(x), "") if i % 2 else (1, 0.0, x) for i, x in enumerate(_NUMBER.split(w))])


_NUMBER = re.compile(r"((?:(?<=\s)-|^-)?\d+(?:\.\d+)?)")  # a sign stands alone: Day -7, but not Visit 1-2


def words(column: pl.Series) -> list[str | None]:
    """Values as labels: 8 and 8.0 are "8"; nothing, NaN and "" are None."""
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        raise DataError(f"holds {column.dtype}", column=column.name, remedy="give words or numbers")
    if column.dtype.is_numeric():
        return [None if v is None or np.isnan(v) else f"{v + 0.0:.15g}" for v in column.cast(pl.Float64).to_list()]
    return [None if v is None or v == "" else str(v) for v in column.cast(pl.String).to_list()]


def label_of(value: object) -> str:
    """One value as words() shows it."""
    return str(words(pl.Series([value]))[0])


def repeated(
    formula: Formula | str, table: pl.DataFrame, *, subject: str, visit: str, visits: Sequence[str] | None = None,
    levels: Mapping[str, Sequence[str]] | None = None, times: Sequence[str] = (), group: str | None = None,
    weights: str | None = None,
) -> Repeated:  # fmt: skip
    """Read repeated measures. Raises DataError with subject and visit for duplicates, times out of the visits' order, …"""
    for name in (subject, visit, *times, *([group] if group else []), *([weights] if weights else [])):
        if name not in table.columns:
            raise DataError(f"no column {name!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    who, when = words(table[subject]), words(table[visit])
    unique(who, when, subject, visit)
    found = design(formula, table, levels=levels)
    order = _order(table, visit, [when[i] for i in found.kept], visits)
    if table[visit].dtype == pl.String and order != sorted(order) and visit in found.levels and visit not in (levels or {}):
        found = design(formula, table, levels={**(levels or {}), visit: order})
    if (problem := found.rank_problem()) is not None:
        raise DataError(f"formula {found.formula.text!r}: {problem}", remedy="leave a term out, or merge empty cells")
    _finite(found)
    names, number = _numbers([who[i] for i in found.kept], found, subject)
    _, visit_number = _numbers([when[i] for i in found.kept], found, visit, order)
    groups: tuple[str, ...] = ("all",)
    group_number = np.zeros(len(found), np.int64)
    if group is not None:
        groups, group_number = _numbers(words(found.table[group]), found, group)
        _constant(number, group_number, names, group)
    at = _floats(found, times) if times else None
    if len(times) == 1 and at is not None:
        _in_order(at[:, 0], number, visit_number, names, order, times[0])
    w = np.ones(len(found)) if weights is None else _weights(found, weights)
    read = len({s for s in who if s is not None})
    return Repeated(
        found, names, number, tuple(order), visit_number, groups, group_number, at, w, read,
        (subject, visit, group), weights is not None,
    )  # fmt: skip


def subjects_of(
    formula: Formula | str, table: pl.DataFrame, *, subject: str, levels: Mapping[str, Sequence[str]] | None = None
) -> Repeated:
    """Read observations of subjects that need no visits: each subject's are numbered in the table's order."""
    if subject not in table.columns:
        raise DataError(f"no column {subject!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    found = design(formula, table, levels=levels)
    if (problem := found.rank_problem()) is not None:
        raise DataError(f"formula {found.formula.text!r}: {problem}", remedy="leave a term out, or merge empty cells")
    _finite(found)
    who = words(table[subject])
    names, number = _numbers([who[i] for i in found.kept], found, subject)
    by = np.argsort(number, kind="stable")
    within = np.empty(len(by), np.int64)
    within[by] = np.arange(len(by)) - np.searchsorted(number[by], number[by])
    visits = tuple(str(i + 1) for i in range(int(within.max()) + 1))
    ones, read = np.ones(len(found)), len({s for s in who if s is not None})
    group = np.zeros(len(found), np.int64)
    return Repeated(found, names, number, visits, within, ("all",), group, None, ones, read, (subject, "", None), False)


def unique(who: list[str | None], when: list[str | None], subject: str, visit: str) -> None:
    """DataError for a visit that a subject has twice. who, when: of every row; subject, visit: the columns' names."""
    first: dict[tuple[str, str], int] = {}
    for i, (s, v) in enumerate(zip(who, when, strict=True)):
        if s is None or v is None:
            continue
        if (s, v) in first:
            raise DataError(
                f"subject {s} has {visit} {v} twice (rows {first[s, v] + 1} and {i + 1})",
                row=i + 1,
                column=f"{subject}, {visit}",
                remedy="keep one row for each subject and visit",
            )
        first[s, v] = i


def _order(table: pl.DataFrame, visit: str, used: Sequence[str | None], given: Sequence[str] | None) -> list[str]:
    present = {v for v in used if v is not None}
    if given is not None:
        order = [str(v) for v in given]
        unknown = sorted(present - set(order))
        if unknown:
            raise DataError("visit not among those given", column=visit, value=unknown[0], remedy="name every visit, in order")
        return [v for v in order if v in present]
    kind = table.schema[visit]
    if isinstance(kind, pl.Enum):
        return [v for v in kind.categories.to_list() if v in present]
    return sorted(present, key=float) if table.schema[visit].is_numeric() else natural(sorted(present))


def _numbers(
    values: list[str | None], found: Design, column: str, order: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Ints]:
    for i, v in enumerate(values):
        if v is None:
            raise DataError("missing in a row with an outcome", row=int(found.kept[i]) + 1, column=column, remedy="fill it in")
    labels = tuple(order) if order is not None else tuple(natural(sorted({v for v in values if v is not None})))
    where = {v: i for i, v in enumerate(labels)}
    return labels, np.array([where[v] for v in values if v is not None], np.int64)


def _finite(found: Design) -> None:
    y = found.outcome if found.outcome is not None else np.zeros(len(found))
    bad = np.flatnonzero(~(np.isfinite(y) & np.isfinite(found.matrix).all(1)))
    if len(bad):
        raise DataError("a value is not finite", row=int(found.kept[bad[0]]) + 1, remedy="mend it, or leave it empty")


def _constant(subject: Ints, group: Ints, names: tuple[str, ...], column: str) -> None:
    low = np.full(len(names), len(group))
    high = np.full(len(names), -1)
    np.minimum.at(low, subject, group)
    np.maximum.at(high, subject, group)
    bad = np.flatnonzero(low != high)
    if len(bad):
        raise DataError(f"subject {names[bad[0]]} is in more than one group", column=column, remedy="one group for each subject")


def _floats(found: Design, names: Sequence[str]) -> Array:
    columns = []
    for name in names:
        if not found.table[name].dtype.is_numeric():
            raise DataError("times are no numbers", column=name, remedy="give times as numbers")
        values = found.table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError("missing in a row with an outcome", row=int(found.kept[bad[0]]) + 1, column=name, remedy="fill it in")
        columns.append(values)
    return np.column_stack(columns)


def _in_order(time: Array, subject: Ints, visit: Ints, names: tuple[str, ...], visits: Sequence[str], column: str) -> None:
    by = np.lexsort((visit, subject))
    same = subject[by][1:] == subject[by][:-1]
    bad = np.flatnonzero(same & (np.diff(time[by]) <= 0))
    if len(bad):
        i, j = by[bad[0]], by[bad[0] + 1]
        raise DataError(
            f"subject {names[subject[i]]}: visits out of order, {visits[visit[j]]} at {time[j]:g} does not come after "
            f"{visits[visit[i]]} at {time[i]:g}", column=column, remedy="mend the times, or give the visits' order",
        )  # fmt: skip


def _weights(found: Design, name: str) -> Array:
    values = _floats(found, (name,))[:, 0]
    bad = np.flatnonzero(values <= 0)
    if len(bad):
        raise DataError("weight not above 0", row=int(found.kept[bad[0]]) + 1, column=name, value=values[bad[0]],
                        remedy="weights are positive: variances are divided by them")  # fmt: skip
    return values


# ---- blocks ----------------------------------------------------------------------------------------------------------------
def blocks(data: Repeated, places: Array | None, group: Ints | None = None) -> tuple[Block, ...]:
    """Subjects by their number of observations. places: (rows, d) what the covariance needs of a row; None: the visit number.

    Rows are weighted here: with weight w a row's variance is divided by w (SAS WEIGHT), so the row is multiplied by √w.
    """
    by = np.lexsort((data.visit, data.subject))
    counts = np.bincount(data.subject[by], minlength=len(data.subjects))
    ends = np.cumsum(counts)
    root = np.sqrt(data.weights)[:, None]
    X, y = data.design.matrix * root, data.outcome * root[:, 0]
    out = []
    for m in np.unique(counts):
        who = np.flatnonzero(counts == m)
        rows = by[(ends[who] - m)[:, None] + np.arange(m)]
        group_of = (data.group if group is None else group)[rows[:, 0]]
        at = data.visit[rows].astype(float)[..., None] if places is None else places[rows]
        key = np.concatenate([group_of[:, None], at.reshape(len(rows), -1)], axis=1)
        unique, first, pattern = np.unique(key, axis=0, return_index=True, return_inverse=True)
        turn = np.argsort(pattern, kind="stable")
        who, rows, pattern, place = who[turn], rows[turn], pattern[turn], at[first]
        starts = np.searchsorted(pattern, np.arange(len(unique)))
        shape = place[..., 0].astype(np.int64) if places is None else place
        out.append(Block(who, rows, X[rows], y[rows], pattern, starts, shape, group_of[first]))
    return tuple(out)


def distances(times: Array) -> Array:
    """(P, m, m) Euclidean distances of (P, m, d) times."""
    return np.sqrt(np.square(times[:, :, None] - times[:, None, :]).sum(-1))


def moments(data: Repeated, residual: Array) -> tuple[Array, float]:
    """Variance at each visit (visits,), and the mean correlation between visits, of ordinary residuals: where to start."""
    r = residual * np.sqrt(data.weights)
    whole = float(np.mean(r**2))
    n = np.bincount(data.visit, minlength=len(data.visits))
    v = np.bincount(data.visit, r**2, minlength=len(data.visits))
    v = np.maximum((v + whole) / (n + 1), 1e-3 * whole)
    z = r / np.sqrt(v[data.visit])
    total = np.bincount(data.subject, z)
    pairs = np.bincount(data.subject)
    over = float((pairs * (pairs - 1)).sum())
    rho = float((total**2).sum() - (z**2).sum()) / over if over else 0.5
    return np.asarray(v, np.float64), min(max(rho, 0.1), 0.9)


def refuse_sparse(data: Repeated, name: str) -> None:
    """RefusalError where a structure has a parameter about which no subject says anything."""
    remedy = "leave the visit out, or take a covariance with fewer parameters (cs, ar1, toep)"
    for g, label in enumerate(data.groups):
        here = data.group == g
        seen: NDArray[Any] = np.zeros((len(data.subjects), len(data.visits)))
        seen[data.subject[here], data.visit[here]] = 1
        both = seen.T @ seen
        place = f"group {label}: " if len(data.groups) > 1 else ""
        if name in EVERY_VISIT and (both.diagonal() < 2).any():
            v = int(np.flatnonzero(both.diagonal() < 2)[0])
            raise RefusalError(
                f"{place}visit {data.visits[v]} has {int(both[v, v])} observation(s): its variance under {name} cannot be "
                f"estimated; {remedy}"
            )
        i, j = np.tril_indices(len(data.visits), -1)
        apart = np.flatnonzero(both[i, j] == 0)
        if name in EVERY_PAIR and len(apart):
            a, b = data.visits[j[apart[0]]], data.visits[i[apart[0]]]
            raise RefusalError(
                f"{place}no subject was seen at both {a} and {b}: their covariance under {name} cannot be estimated; {remedy}"
            )
        lags = [k for k in range(1, len(data.visits)) if not both[i, j][i - j == k].any()]
        if name in EVERY_LAG and lags:
            raise RefusalError(
                f"{place}no subject was seen at two visits {lags[0]} apart: their covariance under {name} cannot be estimated; "
                "leave visits out, or take ar1 or cs"
            )


def check_times(name: str, blocks_of: Sequence[Block], data: Repeated) -> None:
    """DataError where a subject has two visits at one time, under a spatial structure."""
    if name not in SPATIAL:
        return
    for b in blocks_of:
        d = b.place + 1e300 * np.eye(b.place.shape[1])
        bad = np.argwhere(d[b.pattern] <= 0)
        if len(bad):
            s, i, j = bad[0]
            raise DataError(
                f"subject {data.subjects[b.subjects[s]]}: visits {data.visits[data.visit[b.rows[s, i]]]} and "
                f"{data.visits[data.visit[b.rows[s, j]]]} at the same time", remedy="mend the times",
            )  # fmt: skip
