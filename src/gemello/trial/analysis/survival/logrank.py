"""The log-rank test (Mantel 1966; Peto & Peto 1972), for any number of arms, by stratum, with Fleming–Harrington weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError
from gemello.trial.analysis.survival import partial
from gemello.trial.analysis.survival.data import SurvivalData, prepare

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LogRank:
    """arms, n, observed, expected: (k,) by arm, the control first. variance: (k, k) of observed − expected, hypergeometric.
    chisq, df, p: the test of k equal hazards. z: signed statistic of the second arm against the control (k = 2), positive where
    it has more events than expected; NaN for more arms."""

    arms: tuple[str, ...]
    n: tuple[int, ...]
    observed: Array
    expected: Array
    variance: Array
    chisq: float
    df: int
    p: float
    z: float
    dropped: int


def logrank(
    table: pl.DataFrame, *, time: str, event: str, arm: str, control: object = None, strata: Sequence[str] = (),
    entry: str | None = None, rho: float = 0.0, gamma: float = 0.0,
) -> LogRank:  # fmt: skip
    """Test equal hazards in all arms, within strata.

    rho, gamma: Fleming–Harrington weights S(t−)^rho (1 − S(t−))^gamma with the pooled Kaplan–Meier of each stratum; 0, 0 is the
    log-rank test. Raises DataError as `prepare`, and where nothing can be compared (no events while two arms are at risk).
    """
    d = prepare(table, time=time, event=event, arm=arm, control=control, strata=strata, entry=entry)
    return of_data(d, rho, gamma)


def of_data(d: SurvivalData, rho: float = 0.0, gamma: float = 0.0) -> LogRank:
    """The same from checked data."""
    k = len(d.arms)
    member = np.eye(k)[d.arm]
    observed, expected, variance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    for s in partial.risk_sets(d.time, d.event, d.entry, d.stratum, "breslow").strata:
        y, o = partial.at_risk(member[s.who], s), partial.tied(member[s.who], s)
        n, total = y.sum(axis=1), o.sum(axis=1)
        w = _weights(n, total, rho, gamma)
        share = y / n[:, None]
        observed += w @ o
        expected += w @ (share * total[:, None])
        factor = w**2 * total * (n - total) / np.maximum(n - 1, 1)
        variance += np.diag(factor @ share) - (share * factor[:, None]).T @ share
    if np.diag(variance).max() <= 0:
        raise DataError("no event while two arms are under observation", remedy="there is nothing to test")
    u = (observed - expected)[1:]
    chisq = float(u @ np.linalg.lstsq(variance[1:, 1:], u, rcond=None)[0])
    df = int(np.linalg.matrix_rank(variance[1:, 1:]))
    z = float(u[0] / np.sqrt(variance[1, 1])) if k == 2 else float("nan")
    n_arm = tuple(int(v) for v in np.bincount(d.arm, minlength=k))
    return LogRank(d.arms, n_arm, observed, expected, variance, chisq, df, float(stats.chi2.sf(chisq, df)), z, d.dropped)


def _weights(n: Array, events: Array, rho: float, gamma: float) -> Array:
    if rho == 0 and gamma == 0:
        return np.ones(len(n))
    before = np.concatenate([[1.0], np.cumprod(1 - events / n)[:-1]]) if len(n) else np.empty(0)
    return before**rho * (1 - before) ** gamma
