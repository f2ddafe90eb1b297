"""The covariate-adjusted log-rank test and the score-based log hazard ratio of Ye, Shao & Yi 2024 (Biometrika 111:691).

The log-rank score of arm 1 at log hazard ratio θ is U(θ) = n⁻¹ Σ over events of (A − Y1 e^θ / (Y1 e^θ + Y0)). Each subject has a
derived outcome O: its arm's share of the linearised score. O is regressed on the centred covariates within each arm (slopes β1,
β0, pooled over strata within which covariates are centred), and n⁻¹ (Σ over arm 1 (X − X̄)'β1 − Σ over arm 0 (X − X̄)'β0), whose
mean under randomisation is 0, is taken off the score. Variance: σ² − π(1 − π)(β1 + β0)'Σx(β1 + β0). The hazard ratio remains
marginal (within strata, where there are any): covariates add precision only, and the model of O need not be right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gemello.base.errors import ConvergenceError, DataError
from gemello.trial.analysis.survival import partial
from gemello.trial.analysis.survival.data import SurvivalData, listed, no_entry, require_events

Array = NDArray[np.float64]
FURTHEST = 30.0


@dataclass(frozen=True)
class Score:
    """The score at one θ. u: score of arm 1; variance: σ² with the adjustment; information: σ² without (−dU/dθ). n subjects."""

    u: float
    variance: float
    information: float
    n: int

    @property
    def z(self) -> float:
        """√n u/σ, the test statistic where θ is the null value."""
        return float(np.sqrt(self.n) * self.u / np.sqrt(self.variance))

    @property
    def se(self) -> float:
        """Standard error of θ where it solves u = 0: σ_adjusted / (σ² √n)."""
        return float(np.sqrt(self.variance / self.n) / self.information)


@dataclass(frozen=True)
class AdjustedLogRank:
    """log_hazard_ratio, se: the root of the adjusted score. z, p: the test at θ = 0 (hypergeometric variance with ties).
    at_null, at_root: the scores. unadjusted: the log hazard ratio without covariates, at which O is derived for the root."""

    log_hazard_ratio: float
    se: float
    z: float
    p: float
    at_null: Score
    at_root: Score
    unadjusted: float
    n: int


def adjusted_logrank(d: SurvivalData, *, self_consistent: bool = False) -> AdjustedLogRank:
    """Test and estimate for two arms (the control is arm 0), with the covariates of `d`, within its strata.

    self_consistent: derive O at the θ of the score rather than at the unadjusted estimate. Raises DataError for more than two
    arms, an arm without events, covariates that are constant within arms and strata, and where covariates leave no variance.
    """
    if len(d.arms) != 2:
        raise DataError(f"{len(d.arms)} arms", remedy="compare two at a time, with .pair()")
    no_entry(d, "the log-rank score")
    require_events(d, None)
    sets = partial.risk_sets(d.time, d.event, np.full(len(d), -np.inf), d.stratum, "breslow")
    at_null = score(d, sets, 0.0, 0.0, ties=True)
    unadjusted = _root(lambda th: plain(d, sets, th)[0])
    if not d.x.shape[1]:
        root = unadjusted
    elif self_consistent:
        root = _root(lambda th: score(d, sets, th, th).u)
    else:
        shift = adjustment(d, sets, unadjusted)[0]
        root = _root(lambda th: plain(d, sets, th)[0] - shift)
    at_root = score(d, sets, root, root if self_consistent else unadjusted)
    p = float(2 * stats.norm.sf(abs(at_null.z)))
    return AdjustedLogRank(root, at_root.se, at_null.z, p, at_null, at_root, unadjusted, len(d))


def score(d: SurvivalData, sets: partial.RiskSets, theta: float, derived_at: float, *, ties: bool = False) -> Score:
    """The adjusted score. derived_at: θ of the derived outcomes. ties: hypergeometric factor in σ² (the test), else not."""
    u, information = plain(d, sets, theta, ties=ties)
    if not d.x.shape[1]:
        return Score(u, information, information, len(d))
    shift, less = adjustment(d, sets, derived_at)
    if not information - less > 1e-10 * information:
        raise DataError(f"{d.x.shape[1]} covariates leave no variance for {len(d)} subjects", remedy="adjust for fewer")
    return Score(u - shift, information - less, information, len(d))


def plain(d: SurvivalData, sets: partial.RiskSets, theta: float, *, ties: bool = False) -> tuple[float, float]:
    """The score and its variance, without covariates."""
    u = v = 0.0
    hazard = float(np.exp(theta))
    for s in sets.strata:
        a = d.arm[s.who].astype(float)
        y1, y0 = partial.at_risk(a, s) * hazard, partial.at_risk(1 - a, s)
        seen, seen1 = partial.tied(np.ones(len(a)), s), partial.tied(a, s)
        total = y1 + y0
        factor = np.ones(len(total))
        if ties:
            many = seen > 1
            factor[many] = (total[many] - seen[many]) / (total[many] - 1)
        u += float((seen1 - seen * y1 / total).sum())
        v += float((seen * factor * y1 * y0 / total**2).sum())
    return u / len(d), v / len(d)


def derived_outcomes(d: SurvivalData, sets: partial.RiskSets, theta: float) -> Array:
    """(n,) O: the sum over event times of the other arm's share of the risk set times the subject's martingale increment."""
    out = np.zeros(len(d))
    hazard = float(np.exp(theta))
    for s in sets.strata:
        a = d.arm[s.who].astype(float)
        y1, y0 = partial.at_risk(a, s) * hazard, partial.at_risk(1 - a, s)
        rate = partial.tied(np.ones(len(a)), s) / (y1 + y0)
        for arm, share, w in ((1, y0 / (y1 + y0), hazard), (0, y1 / (y1 + y0), 1.0)):
            total = np.concatenate([[0.0], np.cumsum(share * rate)])
            o = -w * total[s.until]
            seen = s.event_time >= 0
            o[seen] += share[s.event_time[seen]]
            out[s.who[a == arm]] = o[a == arm]
    return out


def adjustment(d: SurvivalData, sets: partial.RiskSets, theta: float) -> tuple[float, float]:
    """What covariates take off the score, and off its variance."""
    o = derived_outcomes(d, sets, theta)
    share = d.arm.mean()
    x = centred(d.x, d.stratum)
    scale = d.x.std(axis=0)
    beta = []
    for arm in (0, 1):
        here = d.arm == arm
        own = centred(d.x[here], d.stratum[here])
        size = np.sqrt((own**2).sum(axis=0))
        flat = (size <= 1e-9 * np.maximum(scale, 1e-300) * np.sqrt(here.sum())) | (scale == 0)
        z = own / np.where(flat, 1.0, size)
        if flat.any() or np.abs(np.diag(np.linalg.qr(z, mode="r"))).min(initial=1.0) < 1e-7 or len(z) <= z.shape[1]:
            lost = [n for n, f in zip(d.names, flat, strict=True) if f] or list(d.names)
            within = f"within arm {d.arms[arm]}" + (" and strata" if len(d.strata) > 1 else "")
            words = f"{listed(lost)}: constant {within}, or determined by the other covariates there"
            raise DataError(words, column="covariates", remedy="leave it out of the adjustment")
        beta.append(np.linalg.lstsq(z, o[here], rcond=None)[0] / size)
    shift = float((x[d.arm == 1] @ beta[1]).sum() - (x[d.arm == 0] @ beta[0]).sum()) / len(d)
    both = beta[0] + beta[1]
    return shift, float(share * (1 - share) * both @ _covariance(d.x, d.stratum) @ both)


def centred(x: Array, stratum: NDArray[np.int64]) -> Array:
    """(n, p) less the mean of the stratum."""
    count = np.maximum(np.bincount(stratum), 1)
    means = np.stack([np.bincount(stratum, weights=c) for c in x.T], axis=1) / count[:, None]
    return x - means[stratum]


def _covariance(x: Array, stratum: NDArray[np.int64]) -> Array:
    """(p, p) covariance within strata, weighted by their subjects; strata of one subject have none."""
    out, total = np.zeros((x.shape[1], x.shape[1])), 0
    for s in np.unique(stratum):
        here = x[stratum == s]
        if len(here) > 1:
            out += np.cov(here, rowvar=False, ddof=1).reshape(out.shape) * len(here)
            total += len(here)
    return out / total


def _root(f: Callable[[float], float]) -> float:
    """The zero of a falling score."""
    low, high = -1.0, 1.0
    while f(low) < 0:
        low *= 2
        if -low > FURTHEST:
            raise ConvergenceError("the score has no zero: the hazard ratio is 0")
    while f(high) > 0:
        high *= 2
        if high > FURTHEST:
            raise ConvergenceError("the score has no zero: the hazard ratio is infinite")
    return float(optimize.brentq(f, low, high, xtol=1e-13, rtol=1e-14))
