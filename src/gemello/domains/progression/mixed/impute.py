"""Missing baseline values: their conditional normal distribution given the others of the same person.

Mean and covariance of scaled baseline values by EM under missing at random (Little & Rubin 2002, Statistical Analysis with
Missing Data, section 11.2), the covariance shrunk to its diagonal by p/(n + p).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROUNDS, CLOSE = 100, 1e-5


def fit(x: Array) -> tuple[Array, Array]:
    """Mean (p,) and covariance (p, p) of x (n, p) with NaN where missing; every column has a value seen."""
    n, p = x.shape
    mean = np.nanmean(x, axis=0) if p else np.zeros(0)
    covariance = np.diag(np.nanvar(x, axis=0) + 1e-6) if p else np.zeros((0, 0))
    for _ in range(ROUNDS):
        full, spread = conditional(x, mean, covariance)
        new = full.mean(axis=0)
        total = (full - new).T @ (full - new) / n + spread.mean(axis=0)
        shrink = p / (n + p)
        total = (1 - shrink) * total + shrink * np.diag(np.diag(total)) + 1e-6 * np.eye(p)
        step = np.max(np.abs(total - covariance), initial=0.0)
        mean, covariance = new, total
        if step < CLOSE:
            break
    return mean, covariance


def conditional(x: Array, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """x (n, p) with missing values replaced by their conditional mean, and the conditional covariance (n, p, p), 0 where seen.

    One regression for each pattern of missing values.
    """
    n, p = x.shape
    full, spread = np.where(np.isnan(x), 0.0, x), np.zeros((n, p, p))
    patterns, which = np.unique(np.isnan(x), axis=0, return_inverse=True)
    for k, gone in enumerate(patterns):
        if not gone.any():
            continue
        rows, seen = np.flatnonzero(which.ravel() == k), ~gone
        weight = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, gone)])
        full[np.ix_(rows, gone)] = mean[gone] + (x[np.ix_(rows, seen)] - mean[seen]) @ weight
        left = covariance[np.ix_(gone, gone)] - covariance[np.ix_(gone, seen)] @ weight
        spread[np.ix_(rows, gone, gone)] = 0.5 * (left + left.T)
    return full, spread
