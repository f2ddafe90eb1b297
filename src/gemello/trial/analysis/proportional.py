"""The proportional-odds model P(Y ≤ k) = 1 / (1 + exp(−(θ_k − xβ))) by maximum likelihood (McCullagh, JRSS B 1980)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gemello.base.errors import ConvergenceError, DataError
from gemello.trial.analysis import separation

Array = NDArray[np.float64]
STEPS = 100


@dataclass(frozen=True)
class OddsFit:
    """names: (K − 1 + p,) thresholds first. values: θ then β. inverse: of the observed information. scores: (n, K − 1 + p)."""

    names: tuple[str, ...]
    values: Array
    inverse: Array
    scores: Array
    thresholds: int
    loglik: float

    def covariance(self, kind: str = "model") -> Array:
        """Inverse of the observed information ("model"), or sandwich ("HC0")."""
        if kind == "model":
            return self.inverse
        if kind != "HC0":
            raise DataError(f"covariance {kind!r} is not defined for proportional odds", remedy="use model, HC0 or influence")
        return np.asarray(self.inverse @ (self.scores.T @ self.scores) @ self.inverse)

    def cumulative(self, x: Array) -> Array:
        """(n, K − 1) P(Y ≤ k) for rows x (n, p)."""
        k = self.thresholds
        return np.asarray(special.expit(self.values[:k] - (x @ self.values[k:])[:, None]))

    def gradient(self, x: Array) -> Array:
        """(K − 1, K − 1 + p) of the mean of P(Y ≤ k) over rows x by the parameters."""
        p = self.cumulative(x)
        slope = p * (1 - p)
        return np.hstack([np.diag(slope.mean(axis=0)), -(slope.T @ x) / len(x)])


def fit(x: Array, y: NDArray[np.int64], names: tuple[str, ...], categories: tuple[str, ...]) -> OddsFit:
    """x: (n, p) without an intercept, y: (n,) category number from 0; every category must occur.

    Raises SeparatedError (a DataError) where a column separates the categories, ConvergenceError where Newton's method fails.
    """
    k, n = len(categories) - 1, len(y)
    upper, lower = np.zeros((n, k + x.shape[1])), np.zeros((n, k + x.shape[1]))
    has_upper, has_lower = y < k, y > 0
    upper[has_upper, y[has_upper]] = 1
    lower[has_lower, y[has_lower] - 1] = 1
    upper[:, k:], lower[:, k:] = -x * has_upper[:, None], -x * has_lower[:, None]
    all_names = tuple(f"{c}|{d}" for c, d in pairwise(categories)) + names
    value = np.concatenate([special.logit(np.cumsum(np.bincount(y, minlength=k + 1))[:-1] / n), np.zeros(x.shape[1])])
    now, scores, information = _likelihood(value, upper, lower, has_upper, has_lower)
    for step in range(STEPS):
        try:
            move = np.linalg.solve(information, scores.sum(axis=0))
        except np.linalg.LinAlgError:
            break
        before = now
        for _ in range(40):
            now, scores, information = _likelihood(value + move, upper, lower, has_upper, has_lower)
            if now >= before - 1e-12 * abs(before):
                break
            move = move / 2
        value = value + move
        if np.max(np.abs(move)) < 1e-10 * (1 + np.max(np.abs(value))):
            if np.max(np.abs(value[k:] * np.ptp(x, axis=0)), initial=0) > 8:
                _refuse(upper, lower, has_upper, has_lower, all_names)
            return OddsFit(all_names, value, np.asarray(np.linalg.inv(information), float), scores, k, now)
        if step in (15, 40):
            _refuse(upper, lower, has_upper, has_lower, all_names)
    _refuse(upper, lower, has_upper, has_lower, all_names)
    raise ConvergenceError("proportional odds: Newton's method did not converge; use fewer terms or merge rare categories")


def _likelihood(
    value: Array, upper: Array, lower: Array, has_upper: NDArray[np.bool_], has_lower: NDArray[np.bool_]
) -> tuple[float, Array, Array]:
    """Log likelihood, (n, q) scores, (q, q) observed information."""
    u, v = upper @ value, lower @ value
    fu, fv = np.where(has_upper, special.expit(u), 1), np.where(has_lower, special.expit(v), 0)
    p = fu - fv
    if not (p > 0).all():
        return -np.inf, upper, np.eye(len(value))
    du, dv = fu * (1 - fu) * has_upper, fv * (1 - fv)
    scores = (du[:, None] * upper - dv[:, None] * lower) / p[:, None]
    curve = (upper.T * (du * (1 - 2 * fu) / p)) @ upper - (lower.T * (dv * (1 - 2 * fv) / p)) @ lower
    return float(np.log(p).sum()), scores, scores.T @ scores - curve


def _refuse(
    upper: Array, lower: Array, has_upper: NDArray[np.bool_], has_lower: NDArray[np.bool_], names: tuple[str, ...]
) -> None:
    found = separation.separating(np.vstack([upper[has_upper], -lower[has_lower]]), names)
    if found is not None:
        raise separation.SeparatedError(found, names, "the categories of the outcome")
