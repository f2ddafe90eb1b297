"""Drift: how far a trial's population is from the one that a generator learned from, at baseline.

Per covariate: standardised difference of means (Cohen's d with the pooled SD), Kolmogorov–Smirnov distance against the history's
quantiles or χ² of levels, persons outside of the history's range; of all together: Hotelling's T² of the means, and the area
under the ROC curve with which the best linear discriminant tells the two apart (Φ(D/√2), D the Mahalanobis distance with the
bias of its square, k(1/n + 1/m), taken off; Fukunaga 1990, chapter 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from gemello.base.errors import DataError
from gemello.domains.progression.validity import GRID, Covariate, Validity, baseline_values
from gemello.model.generator import Array, History

MARGIN = 0.05  # of a covariate's range in history, beyond which a person is outside
FEWEST = 5


@dataclass(frozen=True)
class Shift:
    """One covariate. difference: standardised, trial − history. distance: Kolmogorov–Smirnov, or half the sum of absolute
    differences of the levels' shares. p: of the means and of the distance, the smaller twice. outside: share of the trial's
    persons beyond the history's range or of levels unknown to it. missing: share without a value, history's and trial's."""

    name: str
    n: int
    mean_history: float
    mean_trial: float
    difference: float
    distance: float
    p: float
    outside: float
    missing_history: float
    missing_trial: float


@dataclass(frozen=True)
class Drift:
    """shifts: of every covariate. auc: with which the populations can be told apart, 0.5 where they cannot. p: of Hotelling's T²,
    NaN where there are too few persons. outside: share of the trial's persons outside in any covariate. absent: covariates of the
    history that the trial does not have."""

    shifts: tuple[Shift, ...]
    auc: float
    distance: float
    p: float
    outside: float
    persons: int
    absent: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return asdict(self)


def drift(validity: Validity, trial: History | Mapping[str, Array]) -> Drift:
    """Drift of a trial's participants. trial: a history, or covariate -> (persons,).

    Raises DataError for fewer than five participants, and where no covariate is shared."""
    values = baseline_values(trial) if isinstance(trial, History) else {k: np.asarray(a, float) for k, a in trial.items()}
    shared = [c for c in validity.covariates if c.name in values and not np.isnan(values[c.name]).all()]
    if not shared:
        names = ", ".join(c.name for c in validity.covariates)
        raise DataError("no covariate is shared with the history", remedy=f"give at least one of {names}")
    n = len(values[shared[0].name])
    if n < FEWEST or any(np.shape(values[c.name]) != (n,) for c in shared):
        raise DataError(f"{n} participants, or columns of different length", remedy=f"give {FEWEST} participants or more")
    out = np.column_stack([_outside(c, values[c.name]) for c in shared])
    shifts = tuple(_shift(c, values[c.name], float(out[:, j].mean())) for j, c in enumerate(shared))
    d2, p = _together(validity, shared, values)
    return Drift(
        shifts, float(special.ndtr(np.sqrt(d2 / 2))), float(np.sqrt(d2)), p, float(out.any(1).mean()), n,
        tuple(c.name for c in validity.covariates if c not in shared),
    )  # fmt: skip


def _outside(c: Covariate, a: Array) -> Array:
    room = MARGIN * (c.high - c.low)
    strange = ~np.isin(a, c.levels) if c.levels else (a < c.low - room) | (a > c.high + room)
    return np.asarray(strange & ~np.isnan(a))


def _shift(c: Covariate, a: Array, outside: float) -> Shift:
    seen = a[~np.isnan(a)]
    mean, sd, m = float(seen.mean()), float(seen.std(ddof=1)) if len(seen) > 1 else 0.0, len(seen)
    pooled = float(np.sqrt((max(c.n - 1, 0) * c.sd**2 + (m - 1) * sd**2) / max(c.n + m - 2, 1)))
    apart = mean - c.mean
    difference = apart / pooled if pooled > 0 else 0.0 if apart == 0 else float(np.copysign(np.inf, apart))
    error = np.sqrt(c.sd**2 / max(c.n, 1) + sd**2 / m)
    p_mean = float(2 * stats.norm.sf(abs(apart) / error)) if error > 0 else float(apart == 0)
    distance, p_shape = _levels(c, seen) if c.levels else _smirnov(c, seen)
    return Shift(
        c.name, m, c.mean, mean, difference, distance, min(1.0, 2 * min(p_mean, p_shape)), outside,
        c.missing / max(c.n + c.missing, 1),
        float(np.isnan(a).mean()),
    )  # fmt: skip


def _levels(c: Covariate, seen: Array) -> tuple[float, float]:
    """Total variation distance of the levels' shares, and the p value of Pearson's χ² (levels that nobody has left out)."""
    levels = np.union1d(c.levels, seen)
    history = np.array([dict(zip(c.levels, c.counts, strict=True)).get(v, 0) for v in levels.tolist()], float)
    trial = np.array([(seen == v).sum() for v in levels], float)
    distance = 0.5 * float(np.abs(history / history.sum() - trial / trial.sum()).sum())
    if len(levels) < 2:
        return distance, 1.0
    return distance, float(stats.chi2_contingency(np.vstack([history, trial]), correction=False).pvalue)


def _smirnov(c: Covariate, seen: Array) -> tuple[float, float]:
    """Distance between the trial's distribution and the history's quantiles at these (so that tied values count as one), and its
    asymptotic p value with both sample sizes."""
    q = np.array(c.quantiles)
    value = np.unique(q)
    below = np.interp(np.searchsorted(q, value, side="right") - 1, np.arange(len(q)), GRID)
    ahead = np.interp(np.searchsorted(q, value, side="left"), np.arange(len(q)), GRID)
    trial = np.sort(seen)
    up = np.searchsorted(trial, value, side="right") / len(trial)
    down = np.searchsorted(trial, value, side="left") / len(trial)
    coarse = GRID[1] * (len(value) > 1)  # a percent of slack: the quantiles are known at whole percents
    distance = float(max(np.max(np.abs(up - below)), np.max(np.abs(down - ahead))))
    slack = max(distance - coarse, 0.0)
    n = c.n * len(seen) / (c.n + len(seen))
    return distance, float(special.kolmogorov((np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n)) * slack))


def _together(validity: Validity, shared: list[Covariate], values: Mapping[str, Array]) -> tuple[float, float]:
    """Squared Mahalanobis distance of the means with its bias taken off, and p of Hotelling's T²."""
    at = [validity.covariates.index(c) for c in shared]
    x = np.column_stack([np.where(np.isnan(values[c.name]), np.nanmean(values[c.name]), values[c.name]) for c in shared])
    n, m = validity.persons, len(x)
    between = np.atleast_2d(np.cov(x, rowvar=False, ddof=1))
    pooled = ((n - 1) * validity.covariance[np.ix_(at, at)] + (m - 1) * between) / (n + m - 2)
    moving = np.diag(pooled) > 1e-12
    if not moving.any():
        return 0.0, float("nan")
    s = np.sqrt(np.diag(pooled)[moving])
    correlation = pooled[np.ix_(moving, moving)] / np.outer(s, s)
    apart = (x.mean(0) - validity.mean[at])[moving] / s
    value, vector = np.linalg.eigh(correlation)
    real = value > 1e-8  # covariates that others determine say nothing more
    k = int(real.sum())
    raw = float(np.sum((vector[:, real].T @ apart) ** 2 / value[real]))
    d2 = max(raw * (n + m - 3 - k) / (n + m - 2) - k * (1 / n + 1 / m), 0.0)
    free = n + m - k - 1
    if free < 1:
        return d2, float("nan")
    f = raw * n * m / (n + m) * free / (k * (n + m - 2))
    return d2, float(stats.f.sf(f, k, free))
