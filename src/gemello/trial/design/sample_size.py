"""Sample sizes and power for means, rates and times to an event, with a fixed design or a group-sequential one.

Sizes are not rounded: round them up yourself, and say so. α is one-sided unless sides = 2. ratio is n of the active arm over n of
control. With a `GroupSequential` its α, sides and boundaries hold, and the fixed size is multiplied by its inflation at the
power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gemello.base.errors import DataError
from gemello.trial.design.boundaries import GroupSequential, group_sequential

Array = NDArray[np.float64]
LARGEST = 1e9


@dataclass(frozen=True)
class SampleSize:
    """n: total at most; active, control: of it. by_stage: (K,) cumulative. power: at the effect, as asked. reject: (K,)
    probability to reject at each stage under the effect. expected, expected_null: mean total under the effect and without one.
    effect_bounds: (K,) effect at which a stage rejects (means only). method: words."""

    n: float
    active: float
    control: float
    by_stage: Array
    power: float
    reject: Array
    expected: float
    expected_null: float
    method: str
    effect_bounds: Array | None = None


@dataclass(frozen=True)
class EventSize:
    """events: needed at most; by_stage: (K,). n: subjects, as accrued to the end. analysis_time: (K,) since the first subject.
    event_share: of all subjects by the end of the study, mean of the arms. expected: mean events at the end under the effect."""

    events: float
    by_stage: Array
    n: float
    analysis_time: Array
    event_share: float
    power: float
    reject: Array
    expected: float
    method: str


def _design(alpha: float, sides: int, design: GroupSequential | None) -> GroupSequential:
    return group_sequential(1, "none", alpha=alpha, sides=sides) if design is None else design


def _same_error(d: GroupSequential, power: float) -> None:
    """DataError where futility bounds were made for another power: they would spend another type II error than said."""
    if d.futility != "none" and abs(1 - d.beta - power) > 1e-9:
        words = f"the futility bounds of the design are for power {1 - d.beta:g}"
        raise DataError(words, column="power", value=power, remedy=f"make the design with beta={1 - power:g}")


def _checked(power: float, ratio: float, sd: float = 1.0) -> None:
    if not 0 < power < 1:
        raise DataError("no power", column="power", value=power, remedy="give a number between 0 and 1")
    if not (np.isfinite(ratio) and ratio > 0):
        raise DataError("no allocation ratio", column="ratio", value=ratio, remedy="give active over control, above 0")
    if not (np.isfinite(sd) and sd > 0):
        raise DataError("no standard deviation", column="sd", value=sd, remedy="give a number above 0")


def _effect(value: float, name: str) -> None:
    if not np.isfinite(value) or value == 0:
        raise DataError("no effect to be found", column=name, value=value, remedy="give an effect other than none")


def t_power(n: float, effect: float, alpha: float, ratio: float = 1.0, sides: int = 1) -> float:
    """Power of the two-sample t-test. n: total, need not be whole. effect: difference over SD, in the direction of the
    alternative."""
    df = n - 2
    if df <= 0:
        return 0.0
    at = stats.t.isf(alpha / sides, df)
    shift = effect * np.sqrt(n * ratio) / (1 + ratio)
    out = float(stats.nct.sf(at, df, shift))
    return out + float(stats.nct.cdf(-at, df, shift)) if sides == 2 else out


def sample_size_means(
    delta: float, sd: float, *, power: float = 0.9, alpha: float = 0.025, sides: int = 1, ratio: float = 1.0, normal: bool =
    False, design: GroupSequential | None = None,
) -> SampleSize:  # fmt: skip
    """Two means with a common SD. normal: known variance, instead of the t-test (noncentral t).

    Raises DataError for an effect of 0, an SD that is not positive, a power outside (α, 1).
    """
    _effect(delta, "delta")
    _checked(power, ratio, sd)
    d, effect = _design(alpha, sides, design), abs(delta) / sd
    z = stats.norm.isf(d.alpha / d.sides) + stats.norm.ppf(power)
    fixed = (1 + ratio) ** 2 / ratio * (z / effect) ** 2
    if not normal:

        def short(n: float) -> float:
            return t_power(n, effect, d.alpha, ratio, d.sides) - power

        if short(2.5) > 0:  # the noncentral t of fewer degrees of freedom means nothing
            raise DataError(
                "an effect so large that three subjects show it", column="delta", value=delta, remedy="check its unit"
            )
        fixed = float(optimize.brentq(short, 2.5, max(10.0, 4 * fixed) + 20, xtol=1e-9))
    out = _sized(d, float(fixed), power, ratio, "normal approximation" if normal else "t-test, noncentral t")
    p = d.p_one_sided
    quantile = d.upper if normal else stats.t.isf(p, np.maximum(out.by_stage - 2, 1e-9))
    bounds = quantile * sd * (1 + ratio) / np.sqrt(ratio * out.by_stage)
    return SampleSize(**{**out.__dict__, "effect_bounds": np.sign(delta) * bounds})


def sample_size_rates(
    active: float, control: float, *, power: float = 0.9, alpha: float = 0.025, sides: int = 1, ratio: float = 1.0,
    design: GroupSequential | None = None,
) -> SampleSize:  # fmt: skip
    """Two probabilities, difference tested with the variance pooled under the null hypothesis, normal approximation
    (Fleiss, Levin & Paik 2003, without continuity correction)."""
    for name, p in (("active", active), ("control", control)):
        if not 0 < p < 1:
            raise DataError("no probability", column=name, value=p, remedy="give a number between 0 and 1")
    _effect(active - control, "active")
    _checked(power, ratio)
    d = _design(alpha, sides, design)
    pooled = (ratio * active + control) / (1 + ratio)
    null = np.sqrt(pooled * (1 - pooled) * (1 + ratio) ** 2 / ratio)
    alternative = np.sqrt((1 + ratio) * (active * (1 - active) / ratio + control * (1 - control)))
    z_a, z_b = stats.norm.isf(d.alpha / d.sides), stats.norm.ppf(power)
    fixed = ((z_a * null + z_b * alternative) / (active - control)) ** 2
    return _sized(d, float(fixed), power, ratio, "difference of two probabilities, variance pooled under the null hypothesis")


def _sized(d: GroupSequential, fixed: float, power: float, ratio: float, words: str) -> SampleSize:
    _same_error(d, power)
    n = fixed * d.inflation_at(power)
    drift = d.drift(power)
    return SampleSize(
        n, n * ratio / (1 + ratio), n / (1 + ratio), n * d.fractions, power, d.crossing(drift)[1], n * d.expected_fraction(drift),
        n * d.expected_fraction(0.0), f"{words}; {_words(d)}",
    )  # fmt: skip


def _words(d: GroupSequential) -> str:
    if d.stages == 1:
        return "one analysis"
    return f"{d.stages} stages, {d.kind}" + ("" if d.futility == "none" else f" with futility {d.futility}")


@dataclass(frozen=True)
class MeansPower:
    """power: probability to reject. early: of it, before the last stage. expected: mean total at the end."""

    power: float
    early: float
    expected: float


def power_means(
    n: float, delta: float, sd: float, *, alpha: float = 0.025, sides: int = 1, ratio: float = 1.0, normal: bool = False,
    design: GroupSequential | None = None,
) -> MeansPower:  # fmt: skip
    """Power of at most n subjects. With a t-test the drift is that at which the normal test has the power of the fixed t-test.

    delta may be 0 or negative (then the power is below α, one-sided).
    """
    _checked(0.5, ratio, sd)
    if not 2 < n <= LARGEST:
        raise DataError("no sample size", column="n", value=n, remedy="give a total above 2")
    d, effect = _design(alpha, sides, design), delta / sd
    if normal:
        drift = effect * np.sqrt(n * ratio) / (1 + ratio)
    else:
        # the t power on one side, as a shift of the normal quantile; with no effect the drift is 0
        drift = stats.norm.isf(d.alpha / d.sides) + stats.norm.ppf(t_power(n, effect, d.alpha / d.sides, ratio))
    lower, upper = d.crossing(float(drift))
    return MeansPower(float(upper.sum()), float((lower + upper)[:-1].sum()), float(n * d.expected_fraction(float(drift))))


def events_needed(
    hazard_ratio: float, *, power: float = 0.9, alpha: float = 0.025, sides: int = 1, ratio: float = 1.0,
    method: Literal["schoenfeld", "freedman"] = "schoenfeld",
) -> float:  # fmt: skip
    """Events of a log-rank test: (z_α + z_β)² (1 + r)²/r / ln²HR (Schoenfeld 1981), or (1 + r·HR)²/r / (1 − HR)² (Freedman
    1982)."""
    if not (np.isfinite(hazard_ratio) and hazard_ratio > 0):
        raise DataError("no hazard ratio", column="hazard_ratio", value=hazard_ratio, remedy="give a number above 0")
    _effect(float(np.log(hazard_ratio)), "hazard_ratio")
    _checked(power, ratio)
    z = float(stats.norm.isf(alpha / sides) + stats.norm.ppf(power))
    if method == "schoenfeld":
        return z**2 * (1 + ratio) ** 2 / ratio / float(np.log(hazard_ratio)) ** 2
    if method == "freedman":
        return z**2 * (1 + ratio * hazard_ratio) ** 2 / ratio / (1 - hazard_ratio) ** 2
    raise DataError("unknown method", column="method", value=method, remedy='"schoenfeld" or "freedman"')


def event_share(hazard: float, time: float, accrual: float, dropout: float = 0.0) -> float:
    """Share of all subjects whose event has been seen by a time since the first of them came in; uniform accrual, exponential
    times to event and to dropout. hazard, dropout: per unit of time."""
    total = hazard + dropout
    came = min(time, accrual)
    if came <= 0:
        return 0.0
    # ∫ over entry times u in [0, came] of 1 − exp(−total (time − u)), over the accrual
    free = (np.exp(-total * (time - came)) - np.exp(-total * time)) / total
    return float((came - free) / accrual * hazard / total)


def sample_size_survival(
    hazard_ratio: float, control_median: float, *, accrual: float, follow_up: float, power: float = 0.9, alpha: float = 0.025,
    sides: int = 1, ratio: float = 1.0, dropout: float = 0.0, method: Literal["schoenfeld", "freedman"] = "schoenfeld",
    design: GroupSequential | None = None,
) -> EventSize:  # fmt: skip
    """Events, subjects and times of analysis for a log-rank test, exponential times to event.

    control_median, accrual (length of uniform accrual), follow_up (after it): in one unit of time. dropout: hazard per unit of
    time.
    """
    for name, v in (("control_median", control_median), ("accrual", accrual)):
        if not (np.isfinite(v) and v > 0):
            raise DataError("no length of time", column=name, value=v, remedy="give a number above 0")
    for name, v in (("follow_up", follow_up), ("dropout", dropout)):
        if not (np.isfinite(v) and v >= 0):
            raise DataError("below 0, or no number", column=name, value=v, remedy="give a number from 0 up")
    d = _design(alpha, sides, design)
    fixed = events_needed(hazard_ratio, power=power, alpha=d.alpha, sides=d.sides, ratio=ratio, method=method)
    _same_error(d, power)
    events = fixed * d.inflation_at(power)
    hazard = float(np.log(2)) / control_median
    end = accrual + follow_up

    def share(time: float) -> float:
        seen = [event_share(h, time, accrual, dropout) for h in (hazard * hazard_ratio, hazard)]
        return (ratio * seen[0] + seen[1]) / (1 + ratio)

    n = events / share(end)
    times = [float(optimize.brentq(lambda t, f=f: share(t) - f * share(end), 0.0, end, xtol=1e-10)) for f in d.fractions[:-1]]
    drift = d.drift(power)
    return EventSize(
        events, events * d.fractions, n, np.array([*times, end]), share(end), power, d.crossing(drift)[1],
        events * d.expected_fraction(drift), f"log-rank, {method.capitalize()}; {_words(d)}",
    )  # fmt: skip
