"""Are two groups alike? Standardised differences, variance ratios and distribution distances, before and after weighting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.external.comparison import Comparison
from gemello.trial.external.weight import kish

Array = NDArray[np.float64]
SMD_LIMIT = 0.1  # above it a covariate counts as imbalanced (Austin 2009, Stat Med 28:3083)


@dataclass(frozen=True, eq=False)
class Balance:
    """table: one row a covariate with columns covariate, mean_treated, mean_control, smd, variance_ratio, ks and the same with
    `_weighted` behind. ess: Kish's effective sample size of (treated, controls) after weighting; sizes: before."""

    table: pl.DataFrame
    sizes: tuple[int, int]
    ess: tuple[float, float]

    @property
    def worst(self) -> float:
        """Largest absolute standardised difference after weighting."""
        return float(self.table["smd_weighted"].abs().max())  # type: ignore[arg-type]

    @property
    def imbalanced(self) -> tuple[str, ...]:
        """Covariates whose standardised difference after weighting is above 0.1."""
        return tuple(self.table.filter(pl.col("smd_weighted").abs() > SMD_LIMIT)["covariate"])


def balance(groups: Comparison, weights: Array | None = None) -> Balance:
    """Balance of every column of the design but the intercept.

    weights: (n,), e.g. `Weights.values` or `Matching.weights`; None: all 1. The standardised difference is that of means over
    √((s₁² + s₀²)/2), with the SDs of the unweighted groups before and after, so that both are on one scale; the variance ratio is
    treated over control (NaN for a column of 0 and 1); ks the largest distance of the two distribution functions.
    """
    w = np.ones(len(groups)) if weights is None else np.asarray(weights, float)
    if w.shape != (len(groups),) or np.any(w < 0) or not np.all(np.isfinite(w)):
        raise DataError(f"weights of shape {w.shape}", remedy=f"give {len(groups)} weights, none negative")
    a = groups.treated
    if w[a].sum() == 0 or w[~a].sum() == 0:
        raise DataError("all weights of one group are 0", remedy="give weights to both")
    rows = []
    one = np.ones(len(w))
    for name, x in zip(groups.design.names[1:], groups.covariates.T, strict=True):
        sd = float(np.sqrt((x[a].var(ddof=1) + x[~a].var(ddof=1)) / 2))
        row: dict[str, object] = {"covariate": name}
        for suffix, v in (("", one), ("_weighted", w)):
            row |= {f"{k}{suffix}": value for k, value in _row(x, a, v, sd).items()}
        rows.append(row)
    return Balance(pl.DataFrame(rows), (int(a.sum()), int((~a).sum())), (kish(w[a]), kish(w[~a])))


def _row(x: Array, a: NDArray[np.bool_], w: Array, sd: float) -> dict[str, float]:
    means = [float(np.average(x[g], weights=w[g])) for g in (a, ~a)]
    spread = [_variance(x[g], w[g]) for g in (a, ~a)]
    binary = set(np.unique(x)) <= {0.0, 1.0}
    gap = means[0] - means[1]
    return {
        "mean_treated": means[0], "mean_control": means[1],
        "smd": gap / sd if sd > 0 else (0.0 if gap == 0 else np.inf),
        "variance_ratio": np.nan if binary or spread[1] <= 0 else spread[0] / spread[1],
        "ks": _kolmogorov(x, a, w),
    }  # fmt: skip


def _variance(x: Array, w: Array) -> float:
    """Weighted, with the unbiased divisor for weights that say how sure a value is."""
    total = w.sum()
    rest = total - (w @ w) / total
    return float(w @ (x - np.average(x, weights=w)) ** 2 / rest) if rest > 0 else 0.0


def _kolmogorov(x: Array, a: NDArray[np.bool_], w: Array) -> float:
    order = np.argsort(x, kind="stable")
    step = np.where(a, w / w[a].sum(), -w / w[~a].sum())[order]
    total = np.cumsum(step)
    last = np.r_[np.diff(x[order]) > 0, True]  # ties count once
    return float(np.abs(total[last]).max())
