"""Combination of stage-wise p values: a trial whose later stages may be changed in the light of the earlier ones.

Inverse normal method (Lehmacher & Wassmer 1999), conditional power and conditional rejection probability (Müller & Schäfer 2001),
repeated confidence intervals and p values (Jennison & Turnbull 1999, chapter 9), and Fisher's product (Bauer & Köhne 1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from scipy import optimize, stats

from gemello.base.errors import DataError, UnsupportedError
from gemello.trial.design import recursion
from gemello.trial.design.boundaries import GroupSequential, group_sequential

Array = NDArray[np.float64]
SMALLEST_P, LARGEST_P = 1e-7, 0.4999


@dataclass(frozen=True)
class StageMeans:
    """What k stages have seen, of each stage alone: subjects, means and standard deviations of the active and control arm,
    (k,)."""

    active_n: Array
    control_n: Array
    active_mean: Array
    control_mean: Array
    active_sd: Array
    control_sd: Array

    def __post_init__(self) -> None:
        for name in ("active_n", "control_n", "active_mean", "control_mean", "active_sd", "control_sd"):
            v = np.atleast_1d(np.asarray(getattr(self, name), float))
            object.__setattr__(self, name, v)
            if v.shape != np.atleast_1d(np.asarray(self.active_n)).shape or not np.isfinite(v).all():
                raise DataError("not one finite number a stage", column=name, value=v.tolist(), remedy="give k numbers")
        if (self.active_n < 2).any() or (self.control_n < 2).any():
            raise DataError("an arm of fewer than two subjects in a stage", remedy="join the stage to another")
        if (self.active_sd <= 0).any() or (self.control_sd <= 0).any():
            raise DataError("a standard deviation that is not positive", remedy="give the SD of each arm and stage")

    @property
    def difference(self) -> Array:
        """(k,) active less control, of each stage."""
        return self.active_mean - self.control_mean

    @property
    def df(self) -> Array:
        """(k,) degrees of freedom."""
        return self.active_n + self.control_n - 2

    @property
    def se(self) -> Array:
        """(k,) standard error of the difference, variance pooled over the arms."""
        pooled = ((self.active_n - 1) * self.active_sd**2 + (self.control_n - 1) * self.control_sd**2) / self.df
        return np.sqrt(pooled * (1 / self.active_n + 1 / self.control_n))

    def p(self, null: float = 0.0, larger: bool = True) -> Array:
        """(k,) one-sided p values of the t-tests of each stage, against a difference larger (or smaller) than `null`."""
        t = (self.difference - null) / self.se
        return np.asarray(stats.t.sf(t if larger else -t, self.df))


def stage_weights(design: GroupSequential) -> Array:
    """(K,) weights of the stages, √ of the planned share of information."""
    return np.sqrt(np.diff(design.fractions, prepend=0.0))


def inverse_normal(p: Array | Sequence[float], design: GroupSequential) -> Array:
    """(k,) combined statistics Σ w Φ⁻¹(1 − p) / √Σ w² after each stage. p: (k,) one-sided, k ≤ K."""
    values = np.asarray(p, float)
    if values.ndim != 1 or not 1 <= len(values) <= design.stages or not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            "not p values of the stages", value=values.tolist(), remedy=f"give 1 to {design.stages} numbers from 0 to 1"
        )
    w = stage_weights(design)[: len(values)]
    return np.cumsum(w * stats.norm.isf(np.clip(values, 1e-300, 1 - 1e-16))) / np.sqrt(np.cumsum(w**2))


def conditional_rejection_probability(z: float, stage: int, design: GroupSequential) -> float:
    """P(reject at a later stage | Z = z at this one, no effect). stage: 1 … K − 1. Futility bounds count only where they bind."""
    return _conditional(z, stage, design, np.zeros(design.stages - stage), design.binding)


def conditional_power(
    z: float, stage: int, design: GroupSequential, planned: float | Sequence[float], effect: float, sd: float, ratio: float = 1.0
) -> float:
    """P(reject at a later stage | Z = z at this one, effect).

    planned: total subjects of each later stage (one number: of all of them, split as the weights were planned). effect:
    difference of the means, positive in the direction of the alternative.
    """
    later = design.stages - stage
    n = np.atleast_1d(np.asarray(planned, float))
    if len(n) == 1 and later > 1:
        w2 = stage_weights(design)[stage:] ** 2
        n = n[0] * w2 / w2.sum()
    if len(n) != later or not (n > 0).all() or not sd > 0:
        raise DataError(
            f"{later} stages are to come", column="planned", value=planned, remedy="give their sizes, and an SD above 0"
        )
    means = effect / sd * np.sqrt(n * ratio) / (1 + ratio)
    return _conditional(z, stage, design, means, True)


def _conditional(z: float, stage: int, design: GroupSequential, means: Array, futility: bool) -> float:
    """means: (K − stage,) expected standardised statistics of the later stages alone."""
    if not 1 <= stage < design.stages:
        raise DataError("no later stage", column="stage", value=stage, remedy=f"give 1 to {design.stages - 1}")
    if design.sides == 2:
        raise UnsupportedError("combination tests with two-sided designs are not offered; use one side at half the level")
    t, here = design.fractions[stage:], design.fractions[stage - 1]
    gained = np.cumsum(stage_weights(design)[stage:] * means)
    start = z * np.sqrt(here) + gained
    upper = (design.upper[stage:] * np.sqrt(t) - start) / np.sqrt(t - here)
    lower = (design.lower[stage:] * np.sqrt(t) - start) / np.sqrt(t - here)
    lower = lower if futility else np.full(len(t), -np.inf)
    lower[-1] = -np.inf
    return float(recursion.crossing(t - here, 0.0, lower, upper)[1].sum())


def repeated_interval(data: StageMeans, design: GroupSequential) -> tuple[float, float]:
    """Confidence interval for the difference that holds at whatever stage the trial stops; level 1 − 2α, after the last of the
    stages in `data`: the differences that the combination test would not reject, in either direction."""
    k = len(data.difference)
    bound = float(design.upper[k - 1])
    if not np.isfinite(bound):
        return float("-inf"), float("inf")
    spread = float(data.se.max()) * 10
    low, high = float(data.difference.min()) - spread, float(data.difference.max()) + spread

    def combined(delta: float, larger: bool) -> float:
        return float(inverse_normal(data.p(delta, larger), design)[-1]) - bound

    while combined(low, True) < 0:
        low -= spread
        spread *= 2
    while combined(high, False) < 0:
        high += spread
        spread *= 2
    lower = optimize.brentq(lambda v: combined(v, True), low, high, xtol=1e-10)
    return float(lower), float(optimize.brentq(lambda v: combined(v, False), low, high, xtol=1e-10))


def repeated_p(z: float, stage: int, design: GroupSequential) -> float:
    """The smallest level at which the design would have rejected at this stage; 0.5 where no level below does, 1e-7 where that
    does.

    Raises UnsupportedError for designs whose interim bounds do not depend on the level ("HP", "none" before the last stage).
    """
    if design.kind in ("HP", "none") and stage < design.stages:
        raise UnsupportedError(
            f"a repeated p value before the last stage of {design.kind!r}: its bounds do not depend on the level"
        )
    if design.sides == 2 or (design.futility != "none" and design.binding):
        raise UnsupportedError("repeated p values of two-sided designs, or with binding futility, are not offered")

    def gap(log_level: float) -> float:
        d = group_sequential(
            design.fractions.tolist(), design.kind, alpha=float(np.exp(log_level)), parameter=design.parameter, beta=1e-3
        )
        return z - min(float(d.upper[stage - 1]), 40.0)

    low, high = np.log(SMALLEST_P), np.log(LARGEST_P)
    if gap(high) < 0:
        return 0.5
    if gap(low) > 0:
        return SMALLEST_P
    return float(np.exp(optimize.brentq(gap, low, high, xtol=1e-9)))


# ---- Fisher's product ------------------------------------------------------------------------------------------------------
def fisher_bounds(stages: int, alpha: float = 0.025) -> Array:
    """(K,) critical values c: reject at stage k where p1 · … · pk ≤ c_k; every stage alone has the same level, no futility stop.

    The sums S_k = −Σ ln p are of unit exponentials under the null hypothesis, and f_k(s) = e^{−s} q_k(s) their sub-density
    without a rejection before, with q_k a piecewise polynomial, so that P(reject at k) = e^{−a_k} ∫ q_{k−1}, a = −ln c.
    """
    if not 1 <= stages <= 10:
        raise DataError("no number of stages", column="stages", value=stages, remedy="give 1 to 10")
    if not 0 < alpha < 0.5:
        raise DataError("no level of a test", column="alpha", value=alpha, remedy="give a number such as 0.025")

    def bounds(local: float) -> Array:
        return stats.gamma.isf(local, np.arange(1, stages + 1))

    level = optimize.brentq(lambda p: sum(_fisher_rejections(bounds(p))) - alpha, alpha / stages / 2, alpha, xtol=1e-15)
    return np.exp(-bounds(float(level)))


def _fisher_rejections(a: Array) -> list[float]:
    """(K,) probabilities to reject first at each stage, for bounds a that rise."""
    pieces: list[tuple[float, float, Polynomial]] = [(0.0, float(a[0]), Polynomial([1.0]))]
    out = [float(np.exp(-a[0]))]
    for k in range(1, len(a)):
        grown: list[tuple[float, float, Polynomial]] = []
        total = 0.0
        for low, high, q in pieces:  # the next q is the integral of this one up to s, constant beyond
            integral = q.integ()
            grown.append((low, high, integral - integral(low) + total))
            total += float(integral(high) - integral(low))
        out.append(float(np.exp(-a[k])) * total)
        pieces = [*grown, (float(a[k - 1]), float(a[k]), Polynomial([total]))]
    return out
