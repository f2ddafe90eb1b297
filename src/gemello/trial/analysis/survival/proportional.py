"""Do hazards stay proportional? The score test on Schoenfeld residuals (Grambsch & Therneau 1994; Therneau & Grambsch 2000)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError
from gemello.trial.analysis.survival import partial
from gemello.trial.analysis.survival.cox import Cox, event_means

Array = NDArray[np.float64]
Transform = Literal["km", "rank", "identity", "log"]


@dataclass(frozen=True)
class Proportionality:
    """Tests of β(t) = β + θ g(t), θ = 0. chisq, p: by coefficient, one degree of freedom each. overall: chi-square, df, p.

    residuals: (events, p) scaled Schoenfeld residuals plus β, whose smooth against g shows β(t); time, transformed: (events,).
    """

    transform: Transform
    chisq: Mapping[str, float]
    p: Mapping[str, float]
    overall: tuple[float, int, float]
    time: Array
    transformed: Array
    residuals: Array


def proportional_hazards(model: Cox, transform: Transform = "km") -> Proportionality:
    """The exact score test for a time-varying coefficient. transform: g(t) is 1 − Kaplan–Meier just before t ("km"), the rank of
    t among all ends of follow-up, t itself or its logarithm. Raises DataError for an unknown transform, or log with an event at
    time 0. NaN where there are too few event times for a test."""
    beta, p = model.values, len(model.values)
    g = _transform(model, transform)
    centre = float(np.concatenate([g[i][s.row_time] for i, s in enumerate(model.sets.strata)]).mean())
    blocks = []
    for power in (0, 1, 2):

        def weight(s: partial.Stratum, k: int = power) -> Array:
            i = next(j for j, q in enumerate(model.sets.strata) if q is s)
            return (g[i][s.row_time] - centre) ** k

        blocks.append(partial.evaluate(model.x, beta, model.sets, weight))
    score = blocks[1][1]
    i0, i1, i2 = (b[2] for b in blocks)
    solved = np.linalg.solve(i0, i1)
    v = i2 - i1.T @ solved
    scale = np.sqrt(np.maximum(np.diag(i2), 0))
    if (np.diag(v) > 1e-12 * scale**2).all() and np.linalg.cond(v / np.outer(scale, scale)) < 1e12:
        chisq = {n: float(score[k] ** 2 / v[k, k]) for k, n in enumerate(model.names)}
        whole = float(score @ np.linalg.solve(v, score))
    else:  # too few event times to see a change in time
        chisq, whole = dict.fromkeys(model.names, float("nan")), float("nan")
    time, transformed, residuals = _residuals(model, g)
    scaled = beta + len(time) * residuals @ model.model_covariance
    return Proportionality(
        transform, chisq, {n: float(stats.chi2.sf(c, 1)) for n, c in chisq.items()}, (whole, p, float(stats.chi2.sf(whole, p))),
        time, transformed, scaled,
    )  # fmt: skip


def schoenfeld_residuals(model: Cox) -> tuple[Array, Array]:
    """Times (events,) and covariates of each event less their mean in the risk set (events, p)."""
    time, _, r = _residuals(model, [np.zeros(len(s.times)) for s in model.sets.strata])
    return time, r


def _residuals(model: Cox, g: list[Array]) -> tuple[Array, Array, Array]:
    parts: list[tuple[Array, Array, Array]] = []
    for i, s in enumerate(model.sets.strata):
        r = partial.rows(model.x, model.x @ model.values, s)
        seen = s.event_time >= 0
        j = s.event_time[seen]
        parts.append((s.times[j], g[i][j], model.x[s.who][seen] - event_means(r.mean, s)[j]))
    time, transformed, residuals = (np.concatenate(q) for q in zip(*parts, strict=True))
    order = np.argsort(time, kind="stable")
    return time[order], transformed[order], residuals[order]


def _transform(model: Cox, transform: Transform) -> list[Array]:
    """g at the event times of each stratum."""
    strata = model.sets.strata
    if transform == "identity":
        return [s.times for s in strata]
    if transform == "log":
        if any((s.times <= 0).any() for s in strata):
            raise DataError("an event at time 0 has no logarithm", remedy='use transform="km"')
        return [np.log(s.times) for s in strata]
    if transform == "rank":
        ordered = np.sort(model.sets.time)
        rank = stats.rankdata(ordered)  # among all ends of follow-up, censored ones too
        return [rank[np.searchsorted(ordered, s.times)] for s in strata]
    if transform == "km":
        pooled = partial.risk_sets(
            model.sets.time, model.sets.event, _entry(model), np.zeros(len(model.x), np.int64), "breslow"
        ).strata[0]
        ones = np.ones(len(model.x))
        left = np.concatenate([[1.0], np.cumprod(1 - partial.tied(ones, pooled) / partial.at_risk(ones, pooled))[:-1]])
        return [1 - left[np.searchsorted(pooled.times, s.times)] for s in strata]
    raise DataError("unknown transform of time", value=transform, remedy='"km", "rank", "identity" or "log"')


def _entry(model: Cox) -> Array:
    """(n,) entry times as far as the risk sets tell: the event time before each subject's first risk set."""
    out = np.full(len(model.x), -np.inf)
    for s in model.sets.strata:
        out[s.who] = np.where(s.since > 0, s.times[np.maximum(s.since - 1, 0)], -np.inf) if len(s.times) else -np.inf
    return out
