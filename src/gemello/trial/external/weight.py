"""Weighting: inverse probability, overlap and entropy balancing; the weighted difference with its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from gemello.base.errors import ConvergenceError, DataError
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.comparison import Comparison, Propensity, Target
from gemello.trial.external.fits import newton

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Weights:
    """values: (n,) one a subject, not negative. target: whose effect they estimate. slope: (n, q) derivative of each weight's
    logarithm with respect to the q parameters that were estimated for it; moments: (n, q) their estimating functions and bread:
    (q, q) the derivative of these functions' sum (q = 0 where weights are known)."""

    values: Array
    target: Target
    method: str
    slope: Array
    moments: Array
    bread: Array

    def effective(self, which: NDArray[np.bool_]) -> float:
        """Effective sample size of some subjects (Kish): (Σw)² / Σw²."""
        return kish(self.values[which])


def kish(weights: Array) -> float:
    """(Σw)² / Σw², 0 where all weights are 0."""
    square = float(weights @ weights)
    return float(weights.sum() ** 2 / square) if square > 0 else 0.0


def inverse_probability(
    groups: Comparison, score: Propensity, target: Target = "ATT", *, stabilised: bool = False, trim: float | None = None
) -> Weights:
    """Weights of a propensity score e: ATE 1/e and 1/(1−e); ATT 1 and e/(1−e); ATC (1−e)/e and 1; overlap 1−e and e (Li, Morgan &
    Zaslavsky 2018, JASA 113:390).

    stabilised: times the share of each group (a difference of weighted means does not change). trim: weights above this quantile
    of their group are set to it (the estimate is then of another population, and so says `method`).
    """
    a, e = groups.treated, score.score
    log_odds = score.linear
    log_w = {
        "ATE": np.where(a, -np.log(e), -np.log1p(-e)),
        "ATT": np.where(a, 0.0, log_odds),
        "ATC": np.where(a, -log_odds, 0.0),
        "overlap": np.where(a, np.log1p(-e), np.log(e)),
    }[target]
    # d log w / d linear predictor
    slope = {
        "ATE": np.where(a, -(1 - e), e), "ATT": np.where(a, 0.0, 1.0), "ATC": np.where(a, -1.0, 0.0),
        "overlap": np.where(a, -e, 1 - e),
    }[target]  # fmt: skip
    w = np.exp(log_w)
    if stabilised:
        w = w * np.where(a, a.mean(), 1 - a.mean())
    name = "overlap weights" if target == "overlap" else f"inverse probability weights ({target})"
    if trim is not None:
        if not 0.5 < trim < 1:
            raise DataError("not a quantile to trim at", column="trim", value=trim, remedy="give a number between 0.5 and 1")
        for g in (a, ~a):
            top = float(np.quantile(w[g], trim))
            slope = np.where(g & (w > top), 0.0, slope)
            w = np.where(g, np.minimum(w, top), w)
        name += f", trimmed at the {100 * trim:g} % quantile"
    x = groups.design.matrix
    return Weights(w, target, name, slope[:, None] * x, (a - e)[:, None] * x, -(x * (e * (1 - e))[:, None]).T @ x)


def entropy_balance(groups: Comparison, *, moments: int = 1, tolerance: float = 1e-8) -> Weights:
    """Weights of the controls, as even as can be, that give them the treated group's means of all covariates (Hainmueller 2012,
    Polit Anal 20:25); target ATT. moments: 2 also balances the squares, 3 the cubes.

    The dual problem is convex: minimise log Σ exp(−z'λ) over controls, z the covariates less the treated means. Raises DataError
    where no weights can balance (the treated means lie outside of what the controls span).
    """
    a = groups.treated
    c = groups.covariates
    z = (c - c.mean(0)) / np.where((sd := c.std(0)) > 0, sd, 1)
    columns = [z]
    for power in range(2, moments + 1):
        many = np.array([len(np.unique(col)) > 2 for col in z.T])
        columns.append(z[:, many] ** power)
    z = np.column_stack(columns)
    d = z - z[a].mean(0)
    d0 = d[~a]

    def parts(lam: Array) -> tuple[float, Array, Array]:
        s = -d0 @ lam
        p = np.exp(s - logsumexp(s))
        mean = p @ d0
        return -float(logsumexp(s)), mean, (d0 * p[:, None]).T @ d0 - np.outer(mean, mean)

    try:
        lam = newton(parts, np.zeros(z.shape[1]), rounds=200, tolerance=1e-14).values
    except (ConvergenceError, np.linalg.LinAlgError):
        lam = np.full(z.shape[1], np.nan)
    w = np.ones(len(a))
    if np.all(np.isfinite(lam)):
        s = -d0 @ lam
        w[~a] = np.exp(s - logsumexp(s)) * a.sum()
    gap = np.abs(w[~a] @ d0).max() / a.sum() if np.all(np.isfinite(lam)) else np.inf
    if gap > max(tolerance, 1e-6):
        raise DataError(
            "no weights of the controls reach the treated group's means of the covariates",
            remedy="balance fewer covariates or moments, or drop treated subjects that have no like",
        )
    slope = np.where(a[:, None], 0.0, -d)
    estimating = np.where(a[:, None], -d, w[:, None] * d)
    name = f"entropy balancing ({moments} moment{'s' if moments > 1 else ''})"
    return Weights(w, "ATT", name, slope, estimating, -(d0 * w[~a][:, None]).T @ d0)


def weighted_difference(
    groups: Comparison, weights: Weights, *, se: Literal["stacked", "known"] = "stacked", level: float = 0.95
) -> Estimate:
    """Difference of weighted means (Hájek), treated − control.

    se: "stacked" takes into account that the weights were estimated (M-estimation; Lunceford & Davidian 2004, Stat Med 23:2937);
    "known" treats them as given (the robust error of a weighted regression: larger for ATE, not safe in general for ATT).
    Under entropy balancing the treated means that are aimed at are estimates too, and are counted so.
    """
    a, w, y = groups.treated, weights.values, groups.outcome
    influence = np.zeros(len(y))
    means = []
    for g, sign in ((a, 1.0), (~a, -1.0)):
        total = w[g].sum()
        mean = float(w[g] @ y[g] / total)
        means.append(mean)
        influence += sign * np.where(g, w * (y - mean), 0.0) / total
    n = len(y)
    if se == "stacked" and weights.slope.shape[1]:
        # θ's influence: −(dE[ψ]/dγ)(dE[m]/dγ)⁻¹ m, with m the estimating functions of the weights' parameters γ
        pull = influence @ weights.slope
        influence = influence - weights.moments @ np.linalg.lstsq(weights.bread.T, pull, rcond=1e-12)[0]
    error = float(np.sqrt(n / (n - 1) * np.sum(influence**2)))
    said = {
        "target": weights.target, "mean_treated": means[0], "mean_control": means[1],
        "ess_treated": weights.effective(a), "ess_control": weights.effective(~a), "se_kind": se,
    }  # fmt: skip
    measure = "risk difference" if groups.kind == "binary" else "mean difference"
    return Estimate(groups.label, measure, means[0] - means[1], error, f"{weights.method}, {se} SE", n, level=level, extra=said)
