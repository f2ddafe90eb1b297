"""A longitudinal outcome as a matrix: one row a subject, one column a visit, NaN where it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import design

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Visits:
    """subjects: (n,) names. visits: (T,) names in order. y: (n, T). arm: (n,) number of the arm; arms: their names, the control
    first. x: (n, p) baseline covariates, centred, without intercept; names: (p,). occurred: (n,) number of visits before the
    intercurrent event that ends treatment (T where there is none): reference-based imputation starts after them. handling: (n,)
    how values after a subject's own event are to be filled, where the table says so."""

    subjects: tuple[str, ...]
    visits: tuple[str, ...]
    y: Array
    arm: NDArray[np.int64]
    arms: tuple[str, ...]
    x: Array
    names: tuple[str, ...]
    occurred: NDArray[np.int64]
    handling: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(n, T)."""
        return np.isnan(self.y)

    @property
    def monotone(self) -> bool:
        """Whether nobody is seen again after a missing visit."""
        m = self.missing
        return not bool(np.any(m[:, :-1] & ~m[:, 1:]))

    def take(self, rows: NDArray[np.int64]) -> Visits:
        """Some subjects, repeats allowed (bootstrap, jackknife)."""
        return replace(
            self, subjects=tuple(f"{self.subjects[i]}#{k}" for k, i in enumerate(rows)), y=self.y[rows], arm=self.arm[rows],
            x=self.x[rows], occurred=self.occurred[rows], handling=tuple(self.handling[i] for i in rows) if self.handling else (),
        )  # fmt: skip

    def filled(self, y: Array) -> Visits:
        """The same with other outcomes."""
        return replace(self, y=y)

    def counts(self) -> pl.DataFrame:
        """Observed subjects by arm and visit: columns arm, visit, seen, of."""
        rows = [
            {"arm": name, "visit": v, "seen": int((~self.missing[self.arm == a, t]).sum()), "of": int((self.arm == a).sum())}
            for a, name in enumerate(self.arms)
            for t, v in enumerate(self.visits)
        ]
        return pl.DataFrame(rows)


def visits(
    table: pl.DataFrame,
    *,
    subject: str,
    visit: str,
    outcome: str,
    arm: str,
    control: object,
    covariates: str = "1",
    order: Sequence[str] | None = None,
    event: str | None = None,
    handling: str | None = None,
) -> Visits:
    """Read a table of one row a subject and visit.

    covariates: right-hand side of a formula of baseline columns ("RACE + SEX + FEV1_BL"), constant within a subject and complete.
    order: of the visits; None: sorted as numbers, or by name. event: column that is 1 (true) from the first visit after the
    intercurrent event on; None: the event is the last observed visit. handling: column that says on these rows how to fill them
    ("MAR", "J2R", …), as `estimand.apply` writes it (`event="gemello_after", handling="gemello_handling"`). A visit without a row
    is missing. Raises DataError for duplicate subject-visits, covariates or arms that change within a subject or are missing,
    arms of fewer than 2, a visit that nobody of an arm has, a subject without any row.
    """
    needed = [subject, visit, outcome, arm] + ([event] if event else []) + ([handling] if handling else [])
    if missing := [c for c in needed if c not in table.columns]:
        raise DataError("no such column", column=missing[0], remedy=f"the table has {', '.join(table.columns[:30])}")
    twice = table.group_by(subject, visit).len().filter(pl.col("len") > 1)
    if len(twice):
        row = twice.row(0)
        raise DataError("two rows", column=visit, value=f"{row[0]}, {row[1]}", remedy="one row a subject and visit")
    first = table.unique(subject, keep="first", maintain_order=True)
    n = len(first)
    names = [str(v) for v in _sorted(table[visit])] if order is None else [str(v) for v in order]
    unknown = set(table[visit].cast(pl.String).unique().to_list()) - set(names)
    if unknown:
        raise DataError(
            "visit not in the order given", column=visit, value=sorted(unknown)[0], remedy="name every visit in order"
        )
    d = design(covariates, first) if covariates.strip() != "1" else None
    if d is not None and len(d) < n:
        lost = sorted(set(range(n)) - set(d.kept.tolist()))[0]
        raise DataError("a baseline covariate is missing", column=subject, value=first[subject][lost], remedy="impute it first")
    _constant(table, subject, [arm, *(d.formula.columns if d else ())])
    where = {s: i for i, s in enumerate(first[subject].to_list())}
    at = {v: t for t, v in enumerate(names)}
    y = np.full((n, len(names)), np.nan)
    i = np.array([where[s] for s in table[subject].to_list()])
    t = np.array([at[str(v)] for v in table[visit].to_list()])
    y[i, t] = table[outcome].cast(pl.Float64).fill_null(np.nan).to_numpy()
    arms = [str(control), *sorted({str(v) for v in first[arm].to_list()} - {str(control)})]
    code = np.array([arms.index(str(v)) for v in first[arm].to_list()])
    for a, name in enumerate(arms):
        if (code == a).sum() < 2:
            raise DataError(f"{int((code == a).sum())} subjects in arm {name}", column=arm, remedy="two at least are needed")
        for k, v in enumerate(names):
            if np.isnan(y[code == a, k]).all():
                raise DataError(f"nobody of arm {name} has visit {v}", column=outcome, remedy="leave the visit out")
    x = np.empty((n, 0)) if d is None else d.matrix[:, 1:] - d.matrix[:, 1:].mean(0)
    seen = ~np.isnan(y)
    occurred = np.where(seen.any(1), len(names) - np.argmax(seen[:, ::-1], axis=1), 0)
    filling: tuple[str, ...] = ()
    if event:
        flag = np.zeros_like(y)
        flag[i, t] = table[event].cast(pl.Float64).fill_null(0).to_numpy()
        occurred = np.where(flag.any(1), np.argmax(flag > 0, axis=1), len(names))
        if handling:
            said = table.filter(pl.col(event).cast(pl.Float64) > 0).unique(subject, keep="first", maintain_order=True)
            of = dict(said.select(subject, handling).iter_rows())
            filling = tuple(str(of.get(s, "MAR")) for s in where)
    labels = () if d is None else d.names[1:]
    return Visits(tuple(str(s) for s in where), tuple(names), y, code, tuple(arms), x, labels, occurred.astype(np.int64), filling)


def _constant(table: pl.DataFrame, subject: str, columns: Sequence[str]) -> None:
    """DataError for a column that changes within a subject."""
    for column in columns:
        varying = table.group_by(subject).agg(pl.col(column).n_unique().alias("k")).filter(pl.col("k") > 1)
        if len(varying):
            raise DataError(
                "changes within a subject", column=column, value=varying[subject][0], remedy="give one value a subject"
            )


def _sorted(column: pl.Series) -> list[object]:
    values = column.drop_nulls().unique().to_list()
    try:
        return sorted(values, key=lambda v: float(str(v)))
    except ValueError:
        return sorted(values, key=lambda v: [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in _pieces(str(v))])


def _pieces(text: str) -> list[str]:
    """Digits and other letters apart, so that VIS10 follows VIS9."""
    out = [""]
    for c in text:
        if out[-1] and c.isdigit() != out[-1][-1].isdigit():
            out.append("")
        out[-1] += c
    return out
