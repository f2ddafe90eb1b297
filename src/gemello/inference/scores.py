"""How good a probabilistic forecast was: proper scores, coverage and calibration of weighted draws.

Draws lie on the first axis, (draws, ...); observations have the rest of the shape. Weights are (draws,), or as the draws, not
negative, and need not sum to 1. The lower a score the better, except the log score's argument, a density.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from gemello.base.errors import DataError

Floats = NDArray[np.float64]


def weights_like(weights: ArrayLike | None, draws: Floats) -> Floats:
    """Weights of the shape of `draws`, summing to 1 over the first axis. Raises DataError."""
    w = np.ones(draws.shape[0]) if weights is None else np.asarray(weights, float)
    if w.shape[:1] != draws.shape[:1] or w.ndim not in (1, draws.ndim):
        raise DataError("weights do not fit the draws", column="weights", value=w.shape, remedy=f"give {draws.shape[0]} weights")
    if not (np.all(w >= 0) and np.all(np.isfinite(w)) and np.all(np.sum(w, axis=0) > 0)):
        raise DataError("impossible weights", column="weights", remedy="give finite numbers, 0 or more, not all 0")
    w = w.reshape(w.shape + (1,) * (draws.ndim - w.ndim))
    return np.broadcast_to(w / np.sum(w, axis=0), draws.shape)


def _sorted(draws: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    x = np.asarray(draws, float)
    w = weights_like(weights, x)
    x = np.where(w > 0, x, np.inf)  # a draw without weight says nothing, whatever its value
    order = np.argsort(x, axis=0, kind="stable")
    return np.take_along_axis(x, order, axis=0), np.take_along_axis(w, order, axis=0)


def quantiles(draws: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Weighted quantiles, (levels, ...): linear between draws placed at the middle of their weight (Hazen's rule)."""
    return _quantiles(*_sorted(draws, weights), np.atleast_1d(np.asarray(levels, float)))


def _quantiles(x: Floats, w: Floats, levels: Floats) -> Floats:
    _check_levels(levels)
    flat, place = x.reshape(len(x), -1), (np.cumsum(w, axis=0) - 0.5 * w).reshape(len(w), -1)
    keep = w.reshape(len(w), -1) > 0
    columns = [np.interp(levels, place[k, i], flat[k, i]) for i, k in enumerate(keep.T)]
    return np.stack(columns, axis=1).reshape(len(levels), *x.shape[1:]) if columns else np.zeros((len(levels), *x.shape[1:]))


def _check_levels(levels: Floats) -> None:
    if not np.all((levels >= 0) & (levels <= 1)):
        raise DataError("a level outside 0 to 1", column="levels", value=levels, remedy="give probabilities")


def quantiles_with_error(draws: ArrayLike, levels: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Quantiles and their Monte Carlo standard errors, both (levels, ...).

    The error is half the distance between the quantiles at p ± sqrt(p (1 − p)/ESS) (Woodruff 1952, JASA 47:635), as for
    independent draws; quasi-random draws do better.
    """
    x, w = _sorted(draws, weights)
    p = np.atleast_1d(np.asarray(levels, float))
    _check_levels(p)
    delta = np.sqrt(p * (1.0 - p) * np.max(np.sum(w**2, axis=0), initial=0.0))
    low, high = np.clip(p - delta, 0.0, 1.0), np.clip(p + delta, 0.0, 1.0)
    q = _quantiles(x, w, np.concatenate([p, low, high]))
    n = len(p)
    return q[:n], 0.5 * (q[2 * n :] - q[n : 2 * n])


def effective_size(weights: ArrayLike, axis: int = -1) -> Any:
    """Effective number of draws, (Σw)²/Σw² (Kish 1965)."""
    w = np.asarray(weights, float)
    square = np.sum(w**2, axis=axis)
    return np.where(square > 0, np.sum(w, axis=axis) ** 2 / np.where(square > 0, square, 1.0), 0.0)


def crps(draws: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Continuous ranked probability score E|X − y| − ½ E|X − X'| of weighted draws, in the unit of y.

    Gneiting & Raftery 2007 (JASA 102:359), equation 21.
    """
    x, w = _sorted(draws, weights)
    x = np.where(w > 0, x, 0.0)
    y = np.asarray(observed, float)
    before = np.cumsum(w, axis=0) - w  # weight of smaller draws
    spread = np.sum(w * x * (2.0 * before + w - 1.0), axis=0)  # = ½ E|X − X'|
    return np.asarray(np.sum(w * np.abs(x - y), axis=0) - spread)


def log_score(f: ArrayLike, sd: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """−ln of the density of `observed` under the mixture of normals with means f and standard deviations sd, (draws, ...)."""
    f, sd = np.asarray(f, float), np.asarray(sd, float)
    w = weights_like(weights, f)
    live = w > 0
    z = (np.asarray(observed, float) - f) / sd
    with np.errstate(divide="ignore"):
        terms = np.where(live, np.log(w) - 0.5 * z**2 - np.log(sd) - 0.5 * np.log(2 * np.pi), -np.inf)
    top = np.max(terms, axis=0)
    return np.asarray(-(top + np.log(np.sum(np.exp(terms - top), axis=0))))


def mixture_pit(f: ArrayLike, sd: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Probability of a value below `observed` under the same mixture: uniform on 0 to 1 if the forecast is calibrated."""
    f = np.asarray(f, float)
    w = weights_like(weights, f)
    return np.asarray(np.sum(np.where(w > 0, w * ndtr((np.asarray(observed, float) - f) / np.asarray(sd, float)), 0.0), axis=0))


def pit(draws: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Probability integral transform of `observed`: weight of the smaller draws and half that of equal ones."""
    x, y = np.asarray(draws, float), np.asarray(observed, float)
    w = weights_like(weights, x)
    return np.asarray(np.sum(w * ((x < y) + 0.5 * (x == y)), axis=0))


def interval_score(low: ArrayLike, high: ArrayLike, observed: ArrayLike, level: float) -> Floats:
    """Score of a central interval of probability `level`: width plus 2/(1 − level) times the miss.

    Gneiting & Raftery 2007 (JASA 102:359), equation 43.
    """
    a, b, y = np.asarray(low, float), np.asarray(high, float), np.asarray(observed, float)
    return np.asarray(b - a + 2.0 / (1.0 - level) * (np.maximum(a - y, 0.0) + np.maximum(y - b, 0.0)))


class Coverage(NamedTuple):
    """Share of observations inside their intervals, its standard error, and how many there were."""

    share: float
    error: float
    number: int


def coverage(low: ArrayLike, high: ArrayLike, observed: ArrayLike, cluster: ArrayLike | None = None) -> Coverage:
    """Coverage of intervals. cluster: subject of each observation; the error then allows for likeness within a subject.

    NaN among the observations: nothing was seen there. Raises DataError where nothing was seen at all.
    """
    y = np.asarray(observed, float)
    inside = (y >= np.asarray(low, float)) & (y <= np.asarray(high, float))
    return share(inside, ~np.isnan(y), cluster)


def share(inside: ArrayLike, seen: ArrayLike | None = None, cluster: ArrayLike | None = None) -> Coverage:
    """Share of True among the `seen`, with the error of a ratio of sums over clusters (Cochran 1977, ch. 2)."""
    hit = np.asarray(inside, bool)
    there = np.ones(hit.shape, bool) if seen is None else np.asarray(seen, bool)
    groups = np.arange(hit.size) if cluster is None else np.broadcast_to(np.asarray(cluster), hit.shape).ravel()
    _, groups = np.unique(groups, return_inverse=True)
    number = int(there.sum())
    if not number:
        raise DataError("nothing was observed", column="observed", remedy="give at least one observation")
    part = hit & there
    p = float(part.sum() / number)
    excess = np.bincount(groups, (part - p * there).ravel())
    k = int(np.count_nonzero(np.bincount(groups, there.ravel())))
    scale = k / (k - 1) if k > 1 else 1.0
    return Coverage(p, float(np.sqrt(scale * np.sum(excess**2)) / number), number)
