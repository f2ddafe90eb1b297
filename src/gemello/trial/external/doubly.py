"""Outcome regression (standardisation, g-formula) and doubly robust estimation, with influence-function standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gemello.base.errors import DataError, UnsupportedError
from gemello.base.random import generator
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.comparison import Comparison, Target, propensity
from gemello.trial.external.fits import least_squares, logistic

Array = NDArray[np.float64]


def standardised(
    groups: Comparison, target: Target = "ATE", *, interactions: Sequence[str] | None = None, level: float = 0.95
) -> Estimate:
    """Effect by outcome regression, averaged over the target's subjects (standardisation, g-formula; Robins 1986).

    The model is linear, or logistic for a binary outcome. interactions: columns of the design whose effect differs between the
    groups; None: all of them (two separate models), (): none. SE by influence functions: the fit and the distribution of
    covariates are both counted, whether or not the model is right.
    """
    x, a = groups.design.matrix, groups.treated.astype(float)
    names = groups.design.names
    for name in interactions or ():
        if name not in names:
            raise DataError(f"no column {name!r} in the design", remedy=f"one of {', '.join(names)}")
    chosen = [i for i, n in enumerate(names) if i > 0 and (interactions is None or n in interactions)]

    def at(arm: Array) -> Array:
        return np.column_stack([x, arm, x[:, chosen] * arm[:, None]])

    d, y = at(a), groups.outcome
    if groups.kind == "continuous":
        values, inverse = least_squares(d, y), np.linalg.inv(d.T @ d)
    else:
        fit = logistic(d, y)
        values, inverse = fit.values, fit.covariance
    h = _of_target(groups, target)
    residual = y - _mean(groups, d @ values)[0]
    means, influence = [], np.zeros(len(y))
    for arm, sign in ((np.ones(len(y)), 1.0), (np.zeros(len(y)), -1.0)):
        grid = at(arm)
        mean, slope = _mean(groups, grid @ values)
        value = float(h @ mean / h.sum())
        pull = (h * slope) @ grid / h.sum()
        influence += sign * (h * (mean - value) / h.sum() + residual * (d @ (inverse @ pull)))
        means.append(value)
    return _estimate(groups, means, influence, f"outcome regression, standardised ({target})", target, level)


def doubly_robust(
    groups: Comparison, target: Literal["ATE", "ATT"] = "ATE", *, folds: int = 0, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Augmented inverse probability weighting (Robins, Rotnitzky & Zhao 1994, JASA 89:846): right where the propensity model or
    the outcome model is; SE from its influence function (efficient where both are).

    folds: 0 fits both models to all subjects; K ≥ 2 fits them to the other folds each time (cross-fitting; Chernozhukov et al.
    2018, Econom J 21:C1), folds drawn with `seed` within each group.
    """
    a = groups.treated.astype(float)
    e, m1, m0 = (np.empty(len(groups)) for _ in range(3))
    for train, test in _folds(groups, folds, seed):
        part = groups.take(train)
        score = propensity(part)
        x = groups.design.matrix[test]
        e[test] = expit(x @ score.fit.values)
        m1[test] = _predicted(part, part.treated, x)
        m0[test] = _predicted(part, ~part.treated, x)
    y = groups.outcome
    if target == "ATE":
        one, zero = m1 + a * (y - m1) / e, m0 + (1 - a) * (y - m0) / (1 - e)
        means = [float(one.mean()), float(zero.mean())]
        influence = (one - zero - (means[0] - means[1])) / len(y)
    elif target == "ATT":
        share = a.mean()
        w = (1 - a) * e / (1 - e)
        one, zero = a * y / share, (a * m0 + w * (y - m0)) / share
        means = [float(one.mean()), float(zero.mean())]
        influence = (one - zero - a * (means[0] - means[1]) / share) / len(y)
    else:
        raise UnsupportedError(f"doubly robust estimation of {target}; use ATE or ATT")
    words = f"doubly robust AIPW ({target})" + (f", {folds} folds" if folds else "")
    return _estimate(groups, means, influence, words, target, level)


def _folds(groups: Comparison, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    every = np.arange(len(groups))
    if folds == 0:
        return [(every, every)]
    if folds < 2 or min(groups.treated.sum(), (~groups.treated).sum()) < 2 * folds:
        raise DataError("not a number of folds for these groups", column="folds", value=folds, remedy="give 0, or 2 to 10")
    number = np.empty(len(groups), int)
    rng = generator(seed, "folds")
    for g in (groups.treated, ~groups.treated):
        rows = rng.permutation(np.flatnonzero(g))
        number[rows] = np.arange(len(rows)) % folds
    return [(every[number != k], every[number == k]) for k in range(folds)]


def _of_target(groups: Comparison, target: Target) -> Array:
    if target == "overlap":
        raise UnsupportedError("standardisation to the overlap population; use overlap weights")
    a = groups.treated
    return {"ATE": np.ones(len(a)), "ATT": a.astype(float), "ATC": (~a).astype(float)}[target]


def _mean(groups: Comparison, linear: Array) -> tuple[Array, Array]:
    """Mean outcome of a linear predictor, and its derivative."""
    if groups.kind == "continuous":
        return linear, np.ones(len(linear))
    p = expit(linear)
    return p, p * (1 - p)


def _predicted(groups: Comparison, g: NDArray[np.bool_], at: Array) -> Array:
    """Mean outcome at rows `at` by the model of subjects g."""
    x, y = groups.design.matrix[g], groups.outcome[g]
    linear = least_squares(x, y) if groups.kind == "continuous" else logistic(x, y, what="the outcome of one group").values
    return _mean(groups, at @ linear)[0]


def _estimate(groups: Comparison, means: list[float], influence: Array, method: str, target: Target, level: float) -> Estimate:
    n = len(influence)
    se = float(np.sqrt(n / (n - 1) * np.sum(influence**2)))
    said = {"target": target, "mean_treated": means[0], "mean_control": means[1]}
    measure = "risk difference" if groups.kind == "binary" else "mean difference"
    return Estimate(
        groups.label, measure, means[0] - means[1], se, f"{method}, influence-function SE", n, level=level, extra=said
    )
