"""Two groups that were not randomised against each other, and the propensity score between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import Design, Formula, design
from gemello.trial.external.fits import Fit, logistic

Array = NDArray[np.float64]
Kind = Literal["continuous", "binary"]
Target = Literal["ATT", "ATE", "ATC", "overlap"]  # whose average effect: treated, all, controls, those in equipoise


@dataclass(frozen=True, eq=False)
class Comparison:
    """treated: (n,) mask. outcome: (n,). design: covariates, intercept first (n, k). kind: of the outcome. table: rows used."""

    treated: NDArray[np.bool_]
    outcome: Array
    design: Design
    kind: Kind
    table: pl.DataFrame
    label: str = "treated − control"

    def __len__(self) -> int:
        return len(self.treated)

    @property
    def covariates(self) -> Array:
        """(n, k − 1) the design without its intercept."""
        return self.design.matrix[:, 1:]

    def biased(self, bias: float) -> Comparison:
        """Controls' outcomes moved by `bias`: what they would be if they were that much too low (`sensitivity.tipping_point`)."""
        return replace(self, outcome=np.where(self.treated, self.outcome, self.outcome + bias))

    def take(self, which: NDArray[Any]) -> Comparison:
        """Some rows (numbers, repeats allowed, or a mask)."""
        rows = np.flatnonzero(which) if which.dtype == bool else which
        small = replace(
            self.design, matrix=self.design.matrix[rows], outcome=self.outcome[rows], kept=self.design.kept[rows],
            table=self.table[rows],
        )  # fmt: skip
        return replace(self, treated=self.treated[rows], outcome=self.outcome[rows], design=small, table=self.table[rows])


def comparison(
    table: pl.DataFrame, formula: str, treatment: str, *, treated: object = 1, kind: Kind = "continuous", label: str = ""
) -> Comparison:
    """Read two groups from a table. formula: outcome ~ covariates (without the treatment). treatment: column; `treated`: its
    value in the treated group, all others are controls.

    Rows with a missing value in a column used are left out. Raises DataError for a group of fewer than 2, a treatment among the
    covariates, covariates that determine each other, a binary outcome with other values than 0 and 1.
    """
    f = Formula.parse(formula)
    if treatment not in table.columns:
        raise DataError("no such column", column=treatment, remedy=f"the table has {', '.join(table.columns[:30])}")
    if f.outcome is None or not f.intercept:
        raise DataError(f"formula {formula!r} has no outcome or no intercept", remedy="write outcome ~ covariates")
    if treatment in f.columns:
        raise DataError("the treatment is among the covariates", column=treatment, remedy="leave it out of the formula")
    d = design(f, table.filter(pl.col(treatment).is_not_null()))
    if problem := d.rank_problem():
        raise DataError(f"formula {formula!r}: {problem}", remedy="leave it out")
    mask = np.array([v == treated for v in d.table[treatment]], bool)
    for name, count in (("treated", int(mask.sum())), ("control", int((~mask).sum()))):
        if count < 2:
            raise DataError(f"{count} subjects in the {name} group", column=treatment, remedy="two at least are needed")
    assert d.outcome is not None
    if kind == "binary" and not set(np.unique(d.outcome)) <= {0.0, 1.0}:
        raise DataError("not 0 or 1", column=f.outcome.text, remedy="code the outcome 0 and 1")
    return Comparison(mask, d.outcome, d, kind, d.table, label or f"{treatment} {treated} − rest")


@dataclass(frozen=True, eq=False)
class Propensity:
    """Probability of being treated given covariates, by logistic regression. score, linear: (n,). fit: coefficients."""

    score: Array
    linear: Array
    fit: Fit
    names: tuple[str, ...]
    overlap: tuple[float, float] = field(default=(0.0, 1.0))  # range of scores that both groups have

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(n,) subjects whose score the other group does not reach."""
        return (self.score < self.overlap[0]) | (self.score > self.overlap[1])

    def concordance(self, treated: NDArray[np.bool_]) -> float:
        """C statistic: 0.5 says that the groups look alike, near 1 that they hardly overlap."""
        rank = np.argsort(np.argsort(self.score, kind="stable"), kind="stable") + 1.0
        unique, inverse = np.unique(self.score, return_inverse=True)
        rank = np.bincount(inverse, rank)[inverse] / np.bincount(inverse)[inverse]
        n1, n0 = int(treated.sum()), int((~treated).sum())
        return float((rank[treated].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)) if len(unique) > 1 else 0.5


def propensity(groups: Comparison) -> Propensity:
    """Propensity score (Rosenbaum & Rubin 1983, Biometrika 70:41). Raises DataError where covariates separate the groups."""
    x = groups.design.matrix
    centre = np.r_[0.0, x[:, 1:].mean(0)]
    scale = np.r_[1.0, x[:, 1:].std(0)]
    z = (x - centre) / scale
    fit = logistic(z, groups.treated.astype(float), what="the group")
    linear = z @ fit.values
    back = np.diag(1 / scale)
    back[0, 1:] = -centre[1:] / scale[1:]
    inverse = np.linalg.inv(back)
    score = expit(linear)
    a, b = score[groups.treated], score[~groups.treated]
    said = Fit(back @ fit.values, inverse.T @ fit.information @ inverse, fit.value)
    return Propensity(score, linear, said, groups.design.names, (max(a.min(), b.min()), min(a.max(), b.max())))
