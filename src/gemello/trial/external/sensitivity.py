"""How strong would bias have to be? E-value, and the bias of external controls at which a conclusion tips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate


@dataclass(frozen=True)
class EValue:
    """point: of the estimate; limit: of the confidence limit nearer to no effect (1 where the interval holds it). risk_ratio:
    what they were computed from, with its interval; approximate: whether the ratio was itself a rule of thumb."""

    point: float
    limit: float
    risk_ratio: tuple[float, float, float]
    approximate: bool


def e_value(ratio: float, true_ratio: float = 1.0) -> float:
    """Least risk ratio by which an unmeasured confounder would have to act on both the group and the outcome to move `ratio` to
    `true_ratio` (VanderWeele & Ding 2017, Ann Intern Med 167:268): R + √(R(R − 1)), R = ratio/true_ratio or its inverse."""
    if not (ratio > 0 and true_ratio > 0 and np.isfinite(ratio) and np.isfinite(true_ratio)):
        raise DataError("not a ratio", column="ratio", value=ratio, remedy="give a number above 0")
    r = max(ratio / true_ratio, true_ratio / ratio)
    return float(r + np.sqrt(r * (r - 1)))


def e_value_of(estimate: Estimate, *, rare: bool = False, outcome_sd: float | None = None, true_ratio: float = 1.0) -> EValue:
    """E-value of an estimate and of its confidence limit.

    On the log scale: a risk ratio is taken as it is; an odds ratio as √OR and a hazard ratio as (1 − ½^√HR)/(1 − ½^√(1/HR))
    unless the outcome is `rare` (below 15 %). A mean difference over `outcome_sd` is d, with risk ratio about exp(0.91 d)
    (VanderWeele & Ding 2017, table 2). Raises DataError for a risk difference (give the risks' ratio) and a mean difference
    without outcome_sd.
    """
    low, high = estimate.interval
    if estimate.scale == "log":
        raw = [float(np.exp(v)) for v in (estimate.estimate, low, high)]
        measure = estimate.measure.lower()
        ratios = raw if rare else [_risk_ratio(v, measure) for v in raw]
        approximate = "risk" not in measure
    elif outcome_sd is not None and "mean" in estimate.measure:
        if outcome_sd <= 0:
            raise DataError("not above 0", column="outcome_sd", value=outcome_sd, remedy="give the outcome's SD")
        d, se = estimate.estimate / outcome_sd, estimate.se / outcome_sd
        # 0.91 d ± 1.78 se: the source's own rounding of 1.96 · 0.91
        ratios, approximate = [float(np.exp(v)) for v in (0.91 * d, 0.91 * d - 1.78 * se, 0.91 * d + 1.78 * se)], True
    else:
        raise DataError(
            f"no E-value of a {estimate.measure}",
            column=estimate.label,
            remedy="give a ratio, or a mean difference with outcome_sd",
        )
    rr, lo, hi = ratios
    near = lo if rr > true_ratio else hi
    crossed = lo <= true_ratio <= hi
    return EValue(e_value(rr, true_ratio), 1.0 if crossed else e_value(near, true_ratio), (rr, lo, hi), approximate)


def _risk_ratio(ratio: float, measure: str) -> float:
    """The risk ratio that an odds or hazard ratio of a common outcome stands for, about."""
    if "odds" in measure:
        return float(np.sqrt(ratio))
    if "hazard" in measure:
        return float((1 - 0.5 ** np.sqrt(ratio)) / (1 - 0.5 ** np.sqrt(1 / ratio)))
    return ratio


@dataclass(frozen=True)
class Tipping:
    """bias: smallest shift of the external controls' outcomes (on the outcome's scale, or the log scale for ratios) at which the
    conclusion is lost; None where it is not lost within the range tried. bounds: that range. p_without: p value at no shift.
    in_sd: bias over the outcome's SD, where it was given."""

    bias: float | None
    bounds: tuple[float, float]
    p_without: float
    alpha: float
    in_sd: float | None
    words: str


def tipping_point(
    analysis: Callable[[float], Estimate], bounds: tuple[float, float], *, alpha: float = 0.05, outcome_sd: float | None = None
) -> Tipping:
    """Bias at which significance is lost.

    analysis: bias -> estimate, with the external controls' outcomes moved by bias (for a bias b they are believed to be b too
    low: b is added). bounds: range to look in, one end of it 0 or on either side; both directions are tried. Raises DataError
    where the conclusion does not hold at 0.
    """
    at_zero = analysis(0.0)
    if at_zero.p >= alpha:
        raise DataError(f"p = {at_zero.p:.3g} without any bias", remedy="there is no conclusion that bias could overturn")
    sign = np.sign(at_zero.estimate - at_zero.null)

    def margin(b: float) -> float:
        e = analysis(b)
        low, high = e.at(1 - alpha).interval
        return float(low - e.null if sign > 0 else e.null - high)

    found = []
    for end in bounds:
        if end == 0:
            continue
        grid = np.linspace(0, end, 21)
        before = margin(0.0)
        for left, right in pairwise(grid):
            after = margin(float(right))
            if before > 0 >= after:
                found.append(float(brentq(margin, float(left), float(right), xtol=1e-8 * abs(end))))
                break
            before = after
    bias = min(found, key=abs) if found else None
    where = f"from {bounds[0]:g} to {bounds[1]:g}"
    words = f"no bias {where} overturns it" if bias is None else f"lost at a bias of {bias:.4g}"
    return Tipping(bias, bounds, at_zero.p, alpha, None if bias is None or not outcome_sd else bias / outcome_sd, words)
