"""Ordinary least squares with model-based and heteroscedasticity-consistent covariance.

HC0 White (Econometrica 1980); HC1–HC3 MacKinnon and White (J Econometrics 1985); HC4 Cribari-Neto (CSDA 2004): with residual e,
leverage h, HC2 divides e² by 1 − h, HC3 by (1 − h)², HC4 by (1 − h)^min(4, n h / k).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import Design, design
from gemello.trial.analysis.result import Coefficients

Array = NDArray[np.float64]
Covariance = Literal["model", "HC0", "HC1", "HC2", "HC3", "HC4"]
KINDS: tuple[str, ...] = get_args(Covariance)


@dataclass(frozen=True)
class LinearFit:
    """A least-squares fit. names, values: (k,). inverse: (k, k) of X'X. residuals, leverage: (n,). df: n − k.
    sigma2: residual variance. r2: share of the outcome's variance explained."""

    names: tuple[str, ...]
    values: Array
    inverse: Array
    matrix: Array
    residuals: Array
    leverage: Array
    df: int
    sigma2: float
    r2: float

    def covariance(self, kind: str = "HC3") -> Array:
        """(k, k) covariance of the coefficients. Raises DataError where HC2–HC4 are not defined (a leverage of 1)."""
        if kind == "model":
            return self.sigma2 * self.inverse
        return sandwich(self.inverse, self.matrix * self.residuals[:, None], self.leverage, kind)

    def coefficients(self, kind: str = "HC3") -> Coefficients:
        """As coefficients with t quantiles on n − k degrees of freedom."""
        words = f"ordinary least squares, {'model-based' if kind == 'model' else kind} covariance"
        return Coefficients(self.names, self.values, self.covariance(kind), float(self.df), len(self.residuals), words)


def ols(
    formula: str, table: pl.DataFrame, covariance: str = "HC3", *, levels: Mapping[str, Sequence[str]] | None = None
) -> Coefficients:
    """Least squares of a formula on a table; rows with a missing value are left out.

    covariance: "model", "HC0" … "HC4". levels: order of factor levels, reference first. Raises DataError for a column that the
    others determine (named), for fewer rows than columns, for an outcome that is no number.
    """
    return fit(design(formula, table, levels=levels)).coefficients(covariance)


def fit(d: Design) -> LinearFit:
    """Least squares of a design that has an outcome, by QR of its scaled columns."""
    if d.outcome is None:
        raise DataError(f"formula {d.formula.text!r}: no outcome", remedy="write outcome ~ terms")
    checked(d)
    return least_squares(d.matrix, d.outcome, d.names)


def least_squares(x: Array, y: Array, names: tuple[str, ...]) -> LinearFit:
    """x: (n, k) of full rank, y: (n,)."""
    n, k = x.shape
    scale = np.linalg.norm(x, axis=0)
    q, r = np.linalg.qr(x / scale)
    root = np.linalg.solve(r, np.eye(k)) / scale[:, None]  # (X'X)⁻¹ = root root'
    residuals = y - q @ (q.T @ y)
    rss, total = float(residuals @ residuals), float(np.sum((y - y.mean()) ** 2))
    r2 = 1 - rss / total if total > 0 else float("nan")
    return LinearFit(names, root @ (q.T @ y), root @ root.T, x, residuals, np.sum(q**2, axis=1), n - k, rss / (n - k), r2)


def checked(d: Design) -> None:
    """DataError where a design cannot be fitted: outcome not finite, too few rows, columns that the others determine."""
    if d.outcome is not None and not np.isfinite(d.outcome).all():
        row = int(d.kept[np.flatnonzero(~np.isfinite(d.outcome))[0]]) + 1
        raise DataError("the outcome is not finite", row=row, remedy="mend the value or leave the row out")
    if not np.isfinite(d.matrix).all():
        i, j = np.argwhere(~np.isfinite(d.matrix))[0]
        raise DataError("not a finite number", row=int(d.kept[i]) + 1, column=d.names[j], remedy="mend the value")
    if problem := d.rank_problem():
        raise DataError(f"formula {d.formula.text!r}: {problem}", remedy="leave it out")
    if len(d) <= d.matrix.shape[1]:
        raise DataError(
            f"formula {d.formula.text!r}: {len(d)} complete rows for {d.matrix.shape[1]} columns", remedy="use fewer terms"
        )


def sandwich(bread: Array, scores: Array, leverage: Array, kind: str) -> Array:
    """bread · meat · bread. bread: (k, k). scores: (n, k) contributions to the estimating equation. leverage: (n,)."""
    n, k = scores.shape
    if kind not in KINDS[1:]:
        raise DataError(f"covariance {kind!r} is not known", remedy=f"one of {', '.join(KINDS)}")
    weight = np.ones(n)
    if kind == "HC1":
        weight[:] = n / (n - k)
    elif kind != "HC0":
        alone = np.flatnonzero(leverage > 1 - 1e-10)
        if len(alone):
            raise DataError(
                f"complete row {alone[0] + 1} alone determines a coefficient (leverage 1): {kind} is not defined",
                remedy="merge a rare level with another, or use HC1",
            )
        power = {"HC2": 1.0, "HC3": 2.0}.get(kind, np.minimum(4.0, n * leverage / k))
        weight = (1 - leverage) ** -np.asarray(power)
    return np.asarray(bread @ ((scores * weight[:, None]).T @ scores) @ bread)
