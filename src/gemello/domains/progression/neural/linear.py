"""The linear part of the neural generator: a ridge regression with a variance that moves with time and prediction.

Everything that the nets add is added to this, by a share that held-out scores decide: small data end here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.model.generator import Array

PENALTIES = np.geomspace(1e-4, 3.0, 16)  # per unit of weight
FLOOR, CEILING = np.log(0.04), np.log(25.0)  # of the variance, beside the pooled one


def design(static: Array, clock: Array, core: int) -> tuple[Array, Array]:
    """Columns (n, k), intercept first, and their relative penalties (k,): values, times, values × log gap, and
    values × time of the origin (a value seen late says other things than one at baseline).

    static: (n, …) its first `core` columns are values, its last one the time of the origin; clock: (n, 2)."""
    values = static[:, :core]
    x = np.column_stack([np.ones(len(static)), clock, static, values * clock[:, :1], values * static[:, -1:]])
    penalty = np.ones(x.shape[1])
    penalty[0], penalty[1:3] = 0.0, 0.1
    return x, penalty


@dataclass(frozen=True)
class Ridge:
    """beta: (k,). gamma: (4,) of the log variance on 1, the two time terms and the prediction. pooled: mean square residual."""

    beta: Array
    gamma: Array
    pooled: float
    penalty: float

    def mean(self, x: Array) -> Array:
        """(n,) prediction. x: (n, k)."""
        return x @ self.beta

    def sd(self, x: Array, mean: Array) -> Array:
        """(n,) standard deviation about it."""
        return np.sqrt(np.exp(np.clip(_spread(x, mean) @ self.gamma, FLOOR, CEILING)) * self.pooled)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {"beta": self.beta.tolist(), "gamma": self.gamma.tolist(), "pooled": self.pooled, "penalty": self.penalty}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Ridge:
        """The ridge of `to_dict`."""
        return cls(np.array(d["beta"], float), np.array(d["gamma"], float), float(d["pooled"]), float(d["penalty"]))


def _spread(x: Array, mean: Array) -> Array:
    return np.column_stack([np.ones(len(x)), x[:, 1:3], np.clip(mean, -4, 4)])


def fit(x: Array, y: Array, weight: Array, penalty: Array, fold: NDArray[np.int64]) -> tuple[Ridge, Array]:
    """A ridge and the predictions (n,) of each row by the ridge that did not see its fold. Two rounds: the second weighs by the
    first's variances. x: (n, k), y: (n,), weight: (n,), fold: (n,) of persons, so that no person is on both sides."""
    w = weight
    ridge, held = _one(x, y, w, penalty, fold, None)
    for _ in range(1):
        w = weight * ridge.pooled / ridge.sd(x, held) ** 2
        ridge, held = _one(x, y, w, penalty, fold, weight)
    return ridge, held


def _one(x: Array, y: Array, w: Array, penalty: Array, fold: NDArray[np.int64], plain: Array | None) -> tuple[Ridge, Array]:
    folds = np.unique(fold)
    gram = [x[fold == f].T @ (w[fold == f, None] * x[fold == f]) for f in folds]
    right = [x[fold == f].T @ (w[fold == f] * y[fold == f]) for f in folds]
    all_gram, all_right = sum(gram[1:], gram[0]), sum(right[1:], right[0])
    loss, held = [], []
    for lam in PENALTIES:
        out = np.empty(len(y))
        for f, g, r in zip(folds, gram, right, strict=True):
            here = fold == f
            out[here] = x[here] @ _solve(all_gram - g, all_right - r, lam * (w.sum() - w[here].sum()), penalty)
        loss.append(float(np.sum(w * (y - out) ** 2)))
        held.append(out)
    best = int(np.argmin(loss))
    beta = _solve(all_gram, all_right, PENALTIES[best] * w.sum(), penalty)
    plain_weight = w if plain is None else plain
    gamma, pooled = _variance(x, held[best], (y - held[best]) ** 2, plain_weight)
    return Ridge(beta, gamma, pooled, float(PENALTIES[best])), held[best]


def _solve(gram: Array, right: Array, lam: float, penalty: Array) -> Array:
    return np.asarray(np.linalg.solve(gram + np.diag(lam * penalty + 1e-8 * (1 + np.diag(gram))), right), float)


def _variance(x: Array, mean: Array, square: Array, weight: Array, rounds: int = 15) -> tuple[Array, float]:
    """Log-linear variance by gamma regression (Newton), its slopes shrunk to none with the weight of twenty rows."""
    pooled = max(float(np.average(square, weights=weight)), 1e-6)
    z = _spread(x, mean)
    target = np.minimum(square / pooled, 12.0)  # one far value does not tell the variance of a region
    shrink = np.diag([1e-6, 20.0, 20.0, 20.0])
    gamma = np.array([np.log(np.average(target, weights=weight) + 1e-9), 0.0, 0.0, 0.0])
    for _ in range(rounds):
        ratio = target * np.exp(-np.clip(z @ gamma, FLOOR, CEILING))
        score = z.T @ (weight * (ratio - 1)) - 2 * shrink @ gamma
        information = z.T @ ((weight * np.maximum(ratio, 0.2))[:, None] * z) + 2 * shrink
        step = np.linalg.solve(information, score)
        gamma = gamma + step * min(1.0, 1.0 / (np.abs(step).max() + 1e-12))
    mean_ratio = np.average(square / np.exp(np.clip(z @ gamma, FLOOR, CEILING)), weights=weight)
    return gamma, float(max(mean_ratio, 1e-6))
