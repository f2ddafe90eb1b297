"""Difference of restricted mean survival times, without and with covariates.

The restricted mean of an arm is the area under its Kaplan–Meier curve to tau (Royston & Parmar 2013). It is asymptotically the
mean of influence values, which baseline covariates may adjust as they adjust any mean of a randomised trial: a slope for each
arm, covariates centred over both (Tsiatis et al. 2008; Ye, Shao, Yi & Zhao 2023). The estimand stays the marginal difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.survival import partial
from gemello.trial.analysis.survival.data import SurvivalData, listed, no_entry
from gemello.trial.analysis.survival.kaplan_meier import curve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RestrictedMeans:
    """Control and active arm: means and standard errors (2,), their difference and its standard error, all to tau."""

    tau: float
    mean: tuple[float, float]
    se: tuple[float, float]
    difference: float
    difference_se: float


def common_tau(d: SurvivalData) -> float:
    """The longest time to which every arm's curve is known: the earliest of the arms' last follow-ups."""
    return float(min(d.time[d.arm == i].max() for i in range(len(d.arms))))


def restricted_means(d: SurvivalData, tau: float | None = None) -> RestrictedMeans:
    """Means of two arms (the control is arm 0) to tau (without: `common_tau`), adjusted for the covariates of `d` if it has any.

    Raises DataError for tau beyond an arm's follow-up, more than two arms, no event at all, covariates constant in an arm.
    """
    if len(d.arms) != 2:
        raise DataError(f"{len(d.arms)} arms", remedy="compare two at a time, with .pair()")
    no_entry(d, "a restricted mean")
    if not d.event.any():
        raise DataError("no event in either arm", column="event", remedy="there is nothing to compare")
    end = common_tau(d) if tau is None else float(tau)
    centre = d.x.mean(axis=0)
    means, variances, slopes = [], [], []
    for arm in (0, 1):
        here = d.arm == arm
        mean, values = influence(d.time[here], d.event[here], end, d.arms[arm])
        x = d.x[here]
        beta, rest = _regress(x - x.mean(axis=0), values, d.names, d.arms[arm])
        n = len(values)
        means.append(mean - float((x.mean(axis=0) - centre) @ beta))
        variances.append(float(rest @ rest) / n**2 * (n - 1) / (n - 1 - len(beta)))
        slopes.append(beta)
    spread = 0.0
    if d.x.shape[1]:
        change = slopes[1] - slopes[0]
        spread = float(change @ np.cov(d.x, rowvar=False, ddof=1).reshape(len(change), -1) @ change) / len(d)
    if not sum(variances) > 0:
        raise DataError(f"no variation before {end:g} in either arm", column="time", remedy="give a later time, or the Cox model")
    se0, se1 = (float(np.sqrt(v)) for v in variances)
    return RestrictedMeans(end, (means[0], means[1]), (se0, se1), means[1] - means[0], float(np.sqrt(sum(variances) + spread)))


def influence(time: Array, event: Array, tau: float, label: str = "") -> tuple[float, Array]:
    """The restricted mean of one arm, and (n,) its influence values; their sum is 0, the sum of their squares / n² is Greenwood's
    variance."""
    k = curve(time, event, label=label)
    mean, _ = k.rmst(tau)
    _, left = k.areas(tau)
    n = len(time)
    (s,) = partial.risk_sets(time, event, np.full(n, -np.inf), np.zeros(n, np.int64), "breslow").strata
    gone = k.at_risk - k.events
    weight = np.where(gone > 0, left * n / np.maximum(gone, 1), 0.0)
    total = np.concatenate([[0.0], np.cumsum(weight * k.events / k.at_risk)])
    values = total[s.until]
    seen = s.event_time >= 0
    values[seen] -= weight[s.event_time[seen]]
    return mean, values


def _regress(x: Array, y: Array, names: tuple[str, ...], arm: str) -> tuple[Array, Array]:
    """Slopes of y on centred x, and residuals."""
    if not x.shape[1]:
        return np.empty(0), y
    size = np.sqrt((x**2).sum(axis=0))
    z = x / np.where(size > 0, size, 1.0)
    if len(y) < x.shape[1] + 2 or np.abs(np.diag(np.linalg.qr(z, mode="r"))).min() < 1e-7:
        raise DataError(
            f"{listed(names)}: constant or determined by others within arm {arm}", remedy="adjust for fewer covariates"
        )
    beta = np.linalg.lstsq(z, y, rcond=None)[0]
    return beta / np.where(size > 0, size, 1.0), y - z @ beta
