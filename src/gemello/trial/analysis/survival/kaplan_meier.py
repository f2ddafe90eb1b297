"""The product-limit estimate (Kaplan & Meier 1958), its intervals, quantiles and restricted mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError
from gemello.trial.analysis.survival import partial
from gemello.trial.analysis.survival.data import prepare

Array = NDArray[np.float64]
Interval = Literal["log-log", "log", "plain"]


@dataclass(frozen=True)
class KaplanMeier:
    """One curve. times: (m,) distinct event times; at_risk, events: (m,); survival: (m,) just after each; greenwood: (m,)
    Σ d/(n(n−d)), the variance of log S (Greenwood 1926). n: subjects. last: end of the longest follow-up."""

    times: Array
    at_risk: Array
    events: Array
    survival: Array
    greenwood: Array
    n: int
    last: float
    label: str = ""

    def at(self, times: Array | float) -> Array:
        """(T,) S(t); NaN beyond the last follow-up, unless the curve has come to 0."""
        t = np.atleast_1d(np.asarray(times, float))
        out = np.concatenate([[1.0], self.survival])[np.searchsorted(self.times, t, side="right")]
        out[(t > self.last) & (out > 0)] = np.nan
        return out

    @property
    def se(self) -> Array:
        """(m,) standard error of S."""
        with np.errstate(invalid="ignore"):
            return np.where(self.survival > 0, self.survival * np.sqrt(self.greenwood), np.nan)

    def interval(self, level: float = 0.95, kind: Interval = "log-log") -> tuple[Array, Array]:
        """(m,) lower and upper pointwise limits, NaN where S is 0 (or 1, for log-log).

        kind: "log-log" on log(−log S) (Kalbfleisch & Prentice 1980), "log" on log S (what R shows unless told), or "plain".
        """
        z, s = float(stats.norm.ppf(0.5 + level / 2)), self.survival
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(self.greenwood)
            if kind == "log-log":
                half = z * root / np.abs(np.log(s))
                low, high = s ** np.exp(half), s ** np.exp(-half)
            elif kind == "log":
                low, high = s * np.exp(-z * root), np.minimum(s * np.exp(z * root), 1.0)
            elif kind == "plain":
                low, high = np.maximum(s - z * s * root, 0.0), np.minimum(s + z * s * root, 1.0)
            else:
                raise DataError("unknown interval", value=kind, remedy='"log-log", "log" or "plain"')
        unknown = (s <= 0) | ~np.isfinite(self.greenwood)
        return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)

    def quantile(self, q: float = 0.5) -> float:
        """The time by which a share q has had the event: the first with S ≤ 1 − q, the middle of the flat part where S is exactly
        that; NaN where the curve does not come down so far."""
        return _crossing(self.times, self.survival, 1 - q)

    def quantile_interval(self, q: float = 0.5, level: float = 0.95, kind: Interval = "log-log") -> tuple[float, float]:
        """Limits of a quantile: the times at which the limits of S cross 1 − q (Brookmeyer & Crowley 1982), else NaN."""
        low, high = self.interval(level, kind)
        # where S is 0 the limits are not known; there they keep their last value, so that they do not cross
        return _crossing(self.times, _hold(low), 1 - q), _crossing(self.times, _hold(high), 1 - q)

    @property
    def median(self) -> float:
        """Median time to the event; NaN where it is not reached."""
        return self.quantile(0.5)

    def rmst(self, tau: float) -> tuple[float, float]:
        """Restricted mean survival time to tau, and its standard error (Greenwood; Klein & Moeschberger 2003, eq. 4.5.3).

        Raises DataError for tau beyond the follow-up: there the curve is not known.
        """
        if (
            not 0 < tau < np.inf
            or (tau > self.last and (self.survival[-1:] > 0).any())
            or (tau > self.last and not len(self.times))
        ):
            words = f"no restricted mean to {tau:g}: follow-up of {self.label or 'the curve'} ends at {self.last:g}"
            raise DataError(words, column="tau", value=tau, remedy=f"give a time from 0 to {self.last:g}")
        area, left = self.areas(tau)
        jump = self.greenwood - np.concatenate([[0.0], self.greenwood[:-1]])
        with np.errstate(invalid="ignore"):
            parts = np.where(left > 0, left**2 * jump, 0.0)
        return area, float(np.sqrt(parts.sum()))

    def areas(self, tau: float) -> tuple[float, Array]:
        """∫S from 0 to tau, and (m,) from each event time to tau (0 for later ones)."""
        inside = self.times < tau
        edges = np.concatenate([[0.0], self.times[inside], [tau]])
        pieces = np.diff(edges) * np.concatenate([[1.0], self.survival[inside]])
        left = np.zeros(len(self.times))
        left[inside] = pieces[1:][::-1].cumsum()[::-1]
        return float(pieces.sum()), left


def _hold(values: Array) -> Array:
    known = np.where(np.isnan(values), -1, np.arange(len(values)))
    latest = np.maximum.accumulate(known)
    return np.where(latest < 0, 1.0, values[np.maximum(latest, 0)])


def _crossing(times: Array, curve: Array, target: float) -> float:
    below = np.flatnonzero(curve <= target + 1e-12)
    if not len(below):
        return float("nan")
    i = int(below[0])
    if abs(curve[i] - target) <= 1e-12:
        later = np.flatnonzero(curve < target - 1e-12)
        if len(later):
            return float((times[i] + times[later[0]]) / 2)
    return float(times[i])


def curve(time: Array, event: Array, entry: Array | None = None, label: str = "") -> KaplanMeier:
    """The curve of checked arrays (n,). Without an event it is 1 throughout."""
    n = len(time)
    start = np.full(n, -np.inf) if entry is None else entry
    (s,) = partial.risk_sets(time, event, start, np.zeros(n, np.int64), "breslow").strata
    ones = np.ones(n)
    y, d = partial.at_risk(ones, s), partial.tied(ones, s)
    with np.errstate(divide="ignore"):
        greenwood = np.cumsum(np.where(y > d, d / (y * np.maximum(y - d, 1e-300)), np.inf))
    return KaplanMeier(s.times, y, d, np.cumprod(1 - d / y).astype(float), greenwood.astype(float), n, float(time.max()), label)


def kaplan_meier(
    table: pl.DataFrame, *, time: str, event: str, arm: str | None = None, entry: str | None = None
) -> dict[str, KaplanMeier]:
    """Curves by arm ("all" without one), in the order of the arms' names. Raises DataError as `prepare`."""
    d = prepare(table, time=time, event=event, arm=arm, entry=entry)
    return {a: curve(d.time[d.arm == i], d.event[d.arm == i], d.entry[d.arm == i], a) for i, a in enumerate(d.arms)}
