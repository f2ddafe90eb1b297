"""Boundaries of group-sequential designs on the scale of Z.

Pocock 1977, O'Brien & Fleming 1979, Wang & Tsiatis 1987, Haybittle 1971 and Peto 1976, and error spending (Lan & DeMets 1983),
with futility bounds by spending of the type II error (Pampallona, Tsiatis & Kim 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gemello.base.errors import ConvergenceError, DataError, UnsupportedError
from gemello.trial.design import recursion
from gemello.trial.design.recursion import Carried
from gemello.trial.design.spending import spending

Array = NDArray[np.float64]
KINDS = ("OF", "P", "WT", "HP", "asOF", "asP", "asHSD", "asKD", "none")
FUTILITY = ("none", "bsOF", "bsP", "bsHSD", "bsKD")
WIDEST, FURTHEST_DRIFT = 40.0, 40.0


@dataclass(frozen=True)
class GroupSequential:
    """A design of K stages.

    kind: as in `group_sequential`. fractions: (K,) information fractions, the last 1. upper: (K,) efficacy bounds of Z
    (two-sided: of |Z|). lower: (K,) futility bounds, −inf where there is none; the last is the efficacy bound. alpha: one-sided
    level, or the two-sided one where sides is 2. beta: type II error of futility spending and of `shift`. binding: whether the
    level counts on stopping for futility.
    """

    kind: str
    fractions: Array
    upper: Array
    lower: Array
    alpha: float
    beta: float
    sides: int
    binding: bool
    futility: str = "none"
    parameter: float = 0.0

    @property
    def stages(self) -> int:
        """K."""
        return len(self.fractions)

    @property
    def p_one_sided(self) -> Array:
        """(K,) one-sided nominal levels: reject at a stage where p is smaller."""
        return stats.norm.sf(self.upper)

    @cached_property
    def alpha_spent(self) -> Array:
        """(K,) cumulative type I error (two-sided where sides is 2); futility counts only where it binds."""
        return np.cumsum(self.crossing(0.0, futility=self.binding)[1])

    def crossing(self, drift: float, futility: bool = True) -> tuple[Array, Array]:
        """(K,) probabilities to stop for futility, and to reject, at each stage. drift: θ √I_max, the mean of Z at the last."""
        if self.sides == 2:
            up_low, up = recursion.crossing(self.fractions, drift, -self.upper, self.upper)
            return np.zeros(self.stages), up + up_low
        low = self.lower if futility else np.full(self.stages, -np.inf)
        lower, upper = recursion.crossing(self.fractions, drift, low, self.upper)
        lower[-1] = 0.0
        return lower, upper

    def power(self, drift: float) -> float:
        """Probability to reject (two-sided: on either side); stopping for futility counts, as planned."""
        return float(self.crossing(drift)[1].sum())

    def drift(self, power: float | None = None) -> float:
        """θ √I_max that gives a power (without: 1 − beta)."""
        target = 1 - self.beta if power is None else power
        if not self.alpha < target < 1:
            raise DataError("no power", column="power", value=target, remedy=f"give a number between {self.alpha:g} and 1")
        try:
            return float(optimize.brentq(lambda d: self.power(d) - target, 0.0, FURTHEST_DRIFT, xtol=1e-12))
        except ValueError as e:
            raise ConvergenceError(f"no drift gives a power of {target:g} with these futility bounds") from e

    @cached_property
    def shift(self) -> float:
        """θ² I_max at power 1 − beta."""
        return self.drift() ** 2

    @cached_property
    def inflation(self) -> float:
        """Maximum information over that of the fixed design of the same power."""
        return self.inflation_at(1 - self.beta)

    def inflation_at(self, power: float) -> float:
        """The same at another power."""
        return float((self.drift(power) / fixed_drift(self.alpha, self.sides, power)) ** 2)

    def expected_fraction(self, drift: float) -> float:
        """Expected information at the end, as a share of the maximum."""
        lower, upper = self.crossing(drift)
        stop = (lower + upper)[:-1]
        return float(stop @ self.fractions[:-1] + (1 - stop.sum()) * self.fractions[-1])


def fixed_drift(alpha: float, sides: int, power: float) -> float:
    """Mean of Z with which one analysis at the level has the power; a two-sided test may reject on either side."""
    z = float(stats.norm.isf(alpha / sides))
    if sides == 1:
        return z + float(stats.norm.ppf(power))
    return float(
        optimize.brentq(lambda d: stats.norm.cdf(d - z) + stats.norm.cdf(-d - z) - power, 0.0, FURTHEST_DRIFT, xtol=1e-13)
    )


def group_sequential(
    stages: int | Sequence[float], kind: str = "asOF", *, alpha: float = 0.025, beta: float = 0.1, sides: int = 1,
    futility: str = "none", binding: bool = False, parameter: float = 0.0, futility_parameter: float = 0.0,
    spending_time: Sequence[float] | None = None,
) -> GroupSequential:  # fmt: skip
    """Boundaries.

    stages: K of equal information, or the information fractions, rising to 1. kind: "OF", "P", "WT" (c t^(parameter − ½)), "HP"
    (`parameter`, or 3, at every interim analysis), "asOF", "asP", "asHSD", "asKD" (spending; `parameter` is γ), "none" (reject
    only at the end). futility: "none", or type II error spending "bsOF", "bsP", "bsHSD", "bsKD" (`futility_parameter` is γ).
    binding: futility bounds that must be obeyed, so that the efficacy bounds may be lower. spending_time: of the spending
    functions where it is not the information. Two-sided designs spend half of the level on each side. Raises DataError for
    fractions that do not rise to 1, levels outside (0, ½), parameters; UnsupportedError for two-sided futility.
    """
    t = _fractions(stages)
    _levels(kind, futility, alpha, beta, sides)
    if sides == 2 and futility != "none":
        raise UnsupportedError("two-sided designs with futility bounds are not offered; use one side, at half the level")
    clock = t if spending_time is None else _fractions(spending_time)
    if len(clock) != len(t):
        raise DataError(f"{len(clock)} spending times for {len(t)} stages", remedy="give one for each stage")
    plain = _efficacy(kind, t, clock, alpha, sides, parameter, np.full(len(t), -np.inf))
    lower = np.full(len(t), -np.inf)
    if futility == "none" or len(t) == 1:
        lower[-1] = plain[-1] if sides == 1 else -np.inf
        return GroupSequential(kind, t, plain, lower, alpha, beta, sides, binding, "none", parameter)
    if not binding:
        lower = _futility(futility, t, clock, plain, beta, futility_parameter)
        return GroupSequential(kind, t, plain, lower, alpha, beta, sides, False, futility, parameter)
    upper, lower = _both(kind, t, clock, alpha, beta, parameter, futility, futility_parameter)
    return GroupSequential(kind, t, upper, lower, alpha, beta, sides, True, futility, parameter)


def _fractions(stages: int | Sequence[float]) -> Array:
    if isinstance(stages, int):
        if not 1 <= stages <= 50:
            raise DataError("no number of stages", column="stages", value=stages, remedy="give 1 to 50")
        return np.arange(1, stages + 1) / stages
    t = np.asarray(stages, float)
    if t.ndim != 1 or not len(t) or not np.isfinite(t).all() or t[0] <= 0 or (np.diff(t) < 1e-3).any() or abs(t[-1] - 1) > 1e-12:
        raise DataError(
            "information fractions do not rise from above 0 to 1 by 0.001 or more",
            column="stages",
            value=list(stages),
            remedy="for example .5, 1",
        )
    return t


def _levels(kind: str, futility: str, alpha: float, beta: float, sides: int) -> None:
    if kind not in KINDS:
        raise DataError("unknown design", column="kind", value=kind, remedy=f"one of {', '.join(KINDS)}")
    if futility not in FUTILITY:
        raise DataError("unknown futility", column="futility", value=futility, remedy=f"one of {', '.join(FUTILITY)}")
    if sides not in (1, 2):
        raise DataError("no number of sides", column="sides", value=sides, remedy="1 or 2")
    if not 1e-8 <= alpha / sides < 0.5:
        raise DataError("no level of a test", column="alpha", value=alpha, remedy="give 1e-8 to 0.5, such as 0.025 one-sided")
    if not 1e-6 <= beta < 1 - alpha:
        raise DataError("no type II error", column="beta", value=beta, remedy="give a number such as 0.1 or 0.2")


def _efficacy(kind: str, t: Array, clock: Array, alpha: float, sides: int, parameter: float, lower: Array) -> Array:
    """(K,) bounds; lower: of continuation, where futility binds (its last value is not used)."""
    if kind.startswith("as"):
        spent = sides * spending(kind[2:], alpha / sides, parameter)(clock)  # each side spends its half
        return _spend(t, np.diff(spent, prepend=0.0), sides, lower)
    if kind == "none":
        return np.append(np.full(len(t) - 1, np.inf), _last(t, np.full(len(t) - 1, np.inf), alpha, sides, lower))
    if kind == "HP":
        interim = np.full(len(t) - 1, parameter if parameter > 0 else 3.0)
        return np.append(interim, _last(t, interim, alpha, sides, lower))
    power = {"OF": 0.0, "P": 0.5, "WT": parameter}[kind]
    if not -0.5 <= power <= 1:
        raise DataError("no Wang–Tsiatis parameter", column="parameter", value=power, remedy="give −0.5 to 1 (0 OF, 0.5 Pocock)")
    shape = t ** (power - 0.5)
    c = optimize.brentq(lambda c: _size(t, c * shape, sides, lower) - alpha, 0.05, WIDEST, xtol=1e-12)
    return np.asarray(c * shape)


def _size(t: Array, upper: Array, sides: int, lower: Array) -> float:
    low = -upper if sides == 2 else np.append(lower[:-1], -np.inf)
    a, b = recursion.crossing(t, 0.0, low, upper)
    return float((a + b).sum() if sides == 2 else b.sum())


def _last(t: Array, before: Array, alpha: float, sides: int, lower: Array) -> float:
    """The last bound, where the others are given."""
    used = _size(t, np.append(before, WIDEST), sides, lower)
    if used >= alpha:
        raise DataError(f"the interim bounds alone spend {used:.4g}", column="alpha", value=alpha, remedy="raise the level")
    return float(optimize.brentq(lambda c: _size(t, np.append(before, c), sides, lower) - alpha, 0.0, WIDEST, xtol=1e-12))


def _spend(t: Array, parts: Array, sides: int, lower: Array) -> Array:
    """Bounds stage by stage, such that each spends its part under the null hypothesis."""
    upper = np.full(len(t), np.inf)
    before: Carried | None = None
    for k, i in enumerate(t):
        if parts[k] > 1e-15:

            def excess(c: float, before: Carried | None = before, k: int = k, i: float = float(i)) -> float:
                both = recursion.above(before, i, 0.0, c) + (recursion.below(before, i, 0.0, -c) if sides == 2 else 0.0)
                return both - float(parts[k])

            upper[k] = optimize.brentq(excess, 0.0 if sides == 2 else -WIDEST, WIDEST, xtol=1e-13)
        if k + 1 < len(t):
            low = -upper[k] if sides == 2 else lower[k]
            before = recursion.carry(before, float(i), 0.0, low, upper[k], float(t[k + 1]))
    return upper


def _futility(kind: str, t: Array, clock: Array, upper: Array, beta: float, parameter: float) -> Array:
    """Futility bounds for given efficacy bounds: at the drift with which the last of them meets the last efficacy bound."""
    parts = np.diff(spending(kind[2:], beta, parameter)(clock), prepend=0.0)

    def gap(drift: float) -> float:
        return _descend(t, parts, upper, drift)[-1] - float(upper[-1])

    # with more drift the bounds rise; below `low` the last one lies under the efficacy bound
    low = high = float(upper[-1])
    while gap(high) < 0 and high < FURTHEST_DRIFT:
        high *= 1.2
    while gap(low) > 0 and low > 1e-3:
        low /= 1.2
    try:
        drift = optimize.brentq(gap, low, high, xtol=1e-12)
    except ValueError as e:
        raise ConvergenceError("no futility bounds spend this type II error") from e
    out = _descend(t, parts, upper, float(drift))
    out[-1] = upper[-1]
    return out


def _descend(t: Array, parts: Array, upper: Array, drift: float) -> Array:
    """Lower bounds stage by stage, such that each spends its part of the type II error under a drift."""
    lower = np.full(len(t), -np.inf)
    before: Carried | None = None
    for k, i in enumerate(t):
        most = recursion.below(before, float(i), drift, WIDEST)
        if parts[k] > 1e-15:
            if most <= parts[k]:
                lower[k:] = WIDEST
                return lower

            def short(c: float, before: Carried | None = before, k: int = k, i: float = float(i)) -> float:
                return recursion.below(before, i, drift, c) - float(parts[k])

            lower[k] = optimize.brentq(short, -WIDEST, WIDEST, xtol=1e-13)
        if k + 1 < len(t):
            lower[k] = min(lower[k], upper[k])
            before = recursion.carry(before, float(i), drift, lower[k], upper[k], float(t[k + 1]))
    return lower


def _both(
    kind: str, t: Array, clock: Array, alpha: float, beta: float, parameter: float, futility: str, futility_parameter: float
) -> tuple[Array, Array]:
    """Efficacy bounds that count on binding futility bounds, and these: in turn, until neither moves."""
    lower = np.full(len(t), -np.inf)
    for _ in range(200):
        upper = _efficacy(kind, t, clock, alpha, 1, parameter, lower)
        new = _futility(futility, t, clock, upper, beta, futility_parameter)
        if np.abs(np.where(np.isfinite(new), new - lower, 0.0)).max() < 1e-10:
            return upper, new
        lower = new
    raise ConvergenceError("binding futility bounds did not settle")
