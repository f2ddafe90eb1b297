"""How large a trial with a prognostic score must be, and what power it has.

With correlation ρ of score and outcome, adjustment leaves the variance σ²(1 − ρ²). n = (1 + r)²/r (z_{1−α/2} + z_power)² σ²(1 −
ρ²)/δ² + z²_{1−α/2}/2, r the allocation ratio, n the total, α two-sided (Guenther 1981; Schouten 1999; prognostic form: Schuler
et al. 2022). A correlation found in history may not carry over: to be conservative σ² is inflated and ρ² deflated by factors
that are stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gemello.base.errors import DataError
from gemello.base.random import generator

Array = NDArray[np.float64]
BLOCK = 200_000  # values drawn at a time
Score = Literal["calibrated", "biased", "useless"]


@dataclass(frozen=True)
class PrognosticSize:
    """n: total, not rounded. variance_ratio: of the adjusted to the unadjusted analysis, as planned. sample_size_gain: its
    inverse, what the effective sample size is multiplied by. unadjusted: total without the score. saved: share of it."""

    n: float
    variance_ratio: float
    sample_size_gain: float
    unadjusted: float
    saved: float


@dataclass(frozen=True)
class PowerStatement:
    """power: with the score at the deflated correlation, by the formula of the sample size. power_t: the same by the noncentral t
    of the ANCOVA, which also counts the estimated slope and variance. unadjusted: without it, at the same (inflated) σ.
    as_validated: with the correlation as it was validated. n_unadjusted: total that would have this power without the score.
    text: for the protocol."""

    power: float
    power_t: float
    unadjusted: float
    as_validated: float
    n_unadjusted: float
    correlation: float
    correlation_used: float
    text: str


@dataclass(frozen=True)
class SimulatedTrials:
    """rejection: share of trials with p < α (the power, or the type I error where δ is 0); its Monte Carlo error. variance_ratio:
    of the adjusted estimates to the unadjusted ones, over trials; its Monte Carlo error. bias: mean estimate less δ, and
    error."""

    rejection: float
    rejection_error: float
    variance_ratio: float
    variance_ratio_error: float
    bias: float
    bias_error: float
    trials: int
    n: int


def _plan(
    delta: float, sd: float, rho: float, alpha: float, ratio: float, inflation: float, deflation: float
) -> tuple[float, float, float]:
    """Residual SD with and without the score, as planned, and z of the level. Raises DataError."""
    if not np.isfinite(delta) or delta == 0:
        raise DataError("no effect to be found", column="delta", value=delta, remedy="give an effect other than 0")
    if not (np.isfinite(sd) and sd > 0):
        raise DataError("no standard deviation", column="sd", value=sd, remedy="give a number above 0")
    if not -1 < rho < 1:
        raise DataError("no correlation", column="rho", value=rho, remedy="give the validated correlation, between −1 and 1")
    if not 0 < alpha < 1:
        raise DataError("no level of a test", column="alpha", value=alpha, remedy="give a two-sided level such as 0.05")
    if not (np.isfinite(ratio) and ratio > 0):
        raise DataError("no allocation ratio", column="ratio", value=ratio, remedy="give active over control, above 0")
    if not (np.isfinite(inflation) and inflation >= 1):
        raise DataError("a variance cannot be inflated by this", column="inflation", value=inflation, remedy="give 1 or more")
    if not 0 <= deflation <= 1:
        raise DataError("a correlation cannot be deflated by this", column="deflation", value=deflation, remedy="give 0 to 1")
    whole = sd * np.sqrt(inflation)
    return float(whole * np.sqrt(1 - deflation * rho**2)), float(whole), float(stats.norm.isf(alpha / 2))


def prognostic_sample_size(
    delta: float, sd: float, rho: float, *, power: float = 0.9, alpha: float = 0.05, ratio: float = 1.0, inflation: float = 1.0,
    deflation: float = 1.0,
) -> PrognosticSize:  # fmt: skip
    """Total sample size of an ANCOVA with a score. alpha: two-sided. inflation: factor on sd²; deflation: factor on rho²."""
    left, whole, z = _plan(delta, sd, rho, alpha, ratio, inflation, deflation)
    if not alpha / 2 < power < 1:
        raise DataError("no power", column="power", value=power, remedy=f"give a number between {alpha / 2:g} and 1")
    n, without = (_size(s, delta, z, float(stats.norm.ppf(power)), ratio) for s in (left, whole))
    share = (left / whole) ** 2
    return PrognosticSize(n, share, 1 / share, without, 1 - n / without)


def _size(sd: float, delta: float, z_a: float, z_b: float, ratio: float) -> float:
    return (1 + ratio) ** 2 / ratio * (z_a + z_b) ** 2 * (sd / delta) ** 2 + z_a**2 / 2


def _power(n: float, sd: float, delta: float, z_a: float, ratio: float) -> float:
    """The formula solved for the power."""
    return float(stats.norm.cdf(np.sqrt(max(n - z_a**2 / 2, 0.0) * ratio) / (1 + ratio) * abs(delta) / sd - z_a))


def _power_t(n: float, sd: float, delta: float, alpha: float, ratio: float) -> float:
    """Noncentral t, n − 3 degrees of freedom; the slope of a normal score costs a factor (n − 3)/(n − 4) of variance."""
    shift = abs(delta) / sd * np.sqrt(n * ratio) / (1 + ratio) * np.sqrt((n - 4) / (n - 3))
    return float(stats.nct.sf(stats.t.isf(alpha / 2, n - 3), n - 3, shift))


def prognostic_power(
    n: float, delta: float, sd: float, rho: float, *, deflation: float = 0.9, inflation: float = 1.0, alpha: float = 0.05,
    ratio: float = 1.0,
) -> PowerStatement:  # fmt: skip
    """Power of n subjects (total) with a score whose validated correlation with the outcome is rho, deflated to be conservative.

    deflation: factor on rho²; inflation: factor on sd²; both are said in the text. alpha: two-sided.
    """
    if not (np.isfinite(n) and n > 4):
        raise DataError("no sample size", column="n", value=n, remedy="give a total above 4")
    left, whole, z = _plan(delta, sd, rho, alpha, ratio, inflation, deflation)
    validated = _plan(delta, sd, rho, alpha, ratio, inflation, 1.0)[0]
    power, unadjusted, hoped = (_power(n, s, delta, z, ratio) for s in (left, whole, validated))
    exact = _power_t(n, left, delta, alpha, ratio)
    equal = (n - z**2 / 2) * (whole / left) ** 2 + z**2 / 2
    used = float(np.sign(rho) * np.sqrt(deflation) * abs(rho))
    text = (
        f"With {n:g} subjects ({ratio:.3g}:1), a true difference of {delta:g}, a standard deviation of {sd:g}"
        + (f" (variance × {inflation:g})" if inflation != 1 else "")
        + f" and a two-sided level of {alpha:g}, the power is {100 * power:.1f} %: the validated correlation of score and "
        f"outcome, {rho:.3f}, was deflated to {used:.3f} (its square × {deflation:g}); counting the estimated slope and variance "
        f"it is {100 * exact:.1f} %. Without the score the power would be "
        f"{100 * unadjusted:.1f} %, and {equal:.0f} subjects would be needed for the same power; if the correlation holds as "
        f"validated the power is {100 * hoped:.1f} %."
    )
    return PowerStatement(power, exact, unadjusted, hoped, float(equal), rho, used, text)


def correlation_needed(
    n: float, delta: float, sd: float, *, power: float = 0.9, alpha: float = 0.05, ratio: float = 1.0
) -> float:
    """The smallest correlation with which n subjects have the power; 0 where they have it without a score."""
    _, whole, z = _plan(delta, sd, 0.0, alpha, ratio, 1.0, 1.0)
    if _power(n, whole, delta, z, ratio) >= power:
        return 0.0
    f = lambda r: _power(n, whole * float(np.sqrt(1 - r**2)), delta, z, ratio) - power  # noqa: E731
    if f(1 - 1e-9) < 0:
        raise DataError(f"{n:g} subjects cannot have this power", column="n", value=n, remedy="give more")
    return float(optimize.brentq(f, 0.0, 1 - 1e-9, xtol=1e-10))


def simulate_trials(
    n: int, delta: float, sd: float, rho: float, *, trials: int, seed: int, alpha: float = 0.05, ratio: float = 1.0,
    score: Score = "calibrated",
) -> SimulatedTrials:  # fmt: skip
    """Simulate randomised trials and analyse each by ANCOVA with the score, and without it (t-tests, model-based errors).

    score: "calibrated" (what it says is the mean of the outcome), "biased" (shifted by two SD and halved: the analysis must not
    mind) or "useless" (independent of the outcome, whatever rho). Outcomes are normal. Raises DataError for fewer than 8
    subjects.
    """
    active = round(n * ratio / (1 + ratio))
    if n < 8 or min(active, n - active) < 3 or trials < 2:
        raise DataError(
            "too small to simulate", column="n", value=n, remedy="give 8 subjects, 3 in each arm, and 2 trials or more"
        )
    if score not in ("calibrated", "biased", "useless"):
        raise DataError("unknown score", column="score", value=score, remedy='"calibrated", "biased" or "useless"')
    _plan(1.0, sd, rho, alpha, ratio, 1.0, 1.0)
    rng = generator(seed, "prognostic trials")
    arm = np.arange(n) < active
    found, block = [], max(1, BLOCK // n)
    for start in range(0, trials, block):
        shape = (min(block, trials - start), n)
        known, rest, noise = (rng.standard_normal(shape) for _ in range(3))
        y = delta * arm + sd * (rho * known + np.sqrt(1 - rho**2) * rest)
        x = {"calibrated": sd * rho * known, "biased": 0.5 * sd * rho * known + 2 * sd, "useless": noise}[score]
        x = known if rho == 0 and score == "calibrated" else x
        found.append(np.stack(_ancova(y, x, arm), axis=1))
    return _summary(np.concatenate(found), n, delta, alpha)


def _ancova(y: Array, x: Array, arm: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """(trials,) adjusted estimate, its standard error, and the unadjusted estimate. y, x: (trials, n)."""
    n, n1 = y.shape[1], int(arm.sum())
    dy, dx = (v[:, arm].mean(axis=1) - v[:, ~arm].mean(axis=1) for v in (y, x))
    yc, xc = (v - np.where(arm, v[:, arm].mean(axis=1)[:, None], v[:, ~arm].mean(axis=1)[:, None]) for v in (y, x))
    sxx, sxy, syy = (np.einsum("ij,ij->i", a, b) for a, b in ((xc, xc), (xc, yc), (yc, yc)))
    slope = sxy / sxx
    variance = (syy - slope * sxy) / (n - 3) * (1 / n1 + 1 / (n - n1) + dx**2 / sxx)
    return dy - slope * dx, np.sqrt(variance), dy


def _summary(found: Array, n: int, delta: float, alpha: float) -> SimulatedTrials:
    adjusted, se, plain = found.T
    trials = len(found)
    share = float((np.abs(adjusted / se) > stats.t.isf(alpha / 2, n - 3)).mean())
    v1, v0 = adjusted.var(ddof=1), plain.var(ddof=1)
    r = float(np.corrcoef(adjusted, plain)[0, 1])
    # delta method for the ratio of two variances of correlated normal estimates
    ratio_error = v1 / v0 * np.sqrt(4 * (1 - r**2) / (trials - 1))
    return SimulatedTrials(
        share, float(np.sqrt(share * (1 - share) / trials)), float(v1 / v0), float(ratio_error), float(adjusted.mean() - delta),
        float(np.sqrt(v1 / trials)), trials, n,
    )  # fmt: skip
