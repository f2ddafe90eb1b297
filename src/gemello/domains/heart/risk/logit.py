"""Proportional-odds regression of an ordered class on one score, and its leave-one-drug-out form.

The model (McCullagh 1980, J R Stat Soc B 42:109, Section 2; for torsade risk Li et al. 2019, Clin Pharmacol Ther 105:466):
logit P(class ≥ j | x) = α_j + β x for j = 1 … K−1, with α_1 > α_2 > … The likelihood is log-concave, so Newton's method with
halving finds its maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from gemello.base.errors import ConvergenceError, DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ITERATIONS = 60
SEPARATED = 1e-3  # mean −log likelihood of a row under which the scores are taken to separate the classes


@dataclass(frozen=True, eq=False)
class OrdinalLogit:
    """logit P(class ≥ j | x) = intercepts[j − 1] + slope · x.

    intercepts: (classes − 1,), falling. slope: per unit of the score. covariance: (classes, classes) of (intercepts, slope), the
    inverse of the observed information of the rows as they were given; rows that are samples of one drug are not independent, so
    it then says too little (None where unknown).
    """

    intercepts: tuple[float, ...]
    slope: float
    covariance: Floats | None = None
    log_likelihood: float = float("nan")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.intercepts) + 1

    def probabilities(self, score: ArrayLike) -> Floats:
        """P(class | score), (..., classes), of scores (...)."""
        x = np.asarray(score, float)[..., None]
        at_least = expit(np.asarray(self.intercepts) + self.slope * x)
        one, none = np.ones_like(x), np.zeros_like(x)
        return np.asarray(-np.diff(np.concatenate([one, at_least, none], axis=-1), axis=-1))

    def thresholds(self) -> tuple[float, ...]:
        """Scores where neighbouring classes are equally probable, from the lowest class up; NaN where a class is never modal.

        The published thresholds of a vintage are these (Li 2019, Methods): for three classes the scores where P(0) = P(1) and
        where P(1) = P(2). They lie beside −α_j/β, where P(class ≥ j) is a half.
        """
        return tuple(self._equal(j) for j in range(1, self.classes))

    def _equal(self, j: int) -> float:
        """Score where classes j − 1 and j are equally probable."""
        if self.slope == 0:
            return float("nan")
        a = np.array([np.inf, *self.intercepts, -np.inf])
        low, high = -a[1] - 50.0, -a[-2] + 50.0  # of β x; P(j)/P(j − 1) rises with it

        def log_odds(z: float) -> float:
            return float(_log_between(a[j] + z, a[j + 1] + z) - _log_between(a[j - 1] + z, a[j] + z))

        if log_odds(low) > 0 or log_odds(high) < 0:
            return float("nan")
        for _ in range(200):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if log_odds(middle) < 0 else (low, middle)
        return float(0.5 * (low + high) / self.slope)

    def classify(self, score: ArrayLike) -> Ints:
        """Most probable class (...) of scores (...)."""
        return np.asarray(np.argmax(self.probabilities(score), axis=-1), dtype=np.int64)


def _log_between(u: Any, v: Any) -> Any:
    """log(σ(u) − σ(v)) for u > v, either infinite, as log σ(u) + log σ(−v) + log(1 − exp(v − u)): no digit lost in the tails."""
    return log_expit(u) + log_expit(-v) + np.log1p(-np.exp(v - u))


def fit(score: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None, *, classes: int | None = None) -> OrdinalLogit:
    """Maximum likelihood of the proportional-odds model.

    score: (rows,), any unit. label: (rows,), whole numbers 0 … classes − 1, each of which occurs. weight: (rows,), counts.
    Raises DataError, and ConvergenceError where the scores separate the classes, so that no finite slope is best.
    """
    x, y, w = _rows(score, label, weight)
    k = int(y.max()) + 1 if classes is None else classes
    if k < 2 or any(not np.any(w[y == j] > 0) for j in range(k)):
        raise DataError("a class without a row", column="label", value=k, remedy="give at least one score of every class")
    centre, scale = float(np.average(x, weights=w)), float(np.sqrt(np.average((x - np.average(x, weights=w)) ** 2, weights=w)))
    if scale == 0:
        raise DataError("all scores are equal", column="score", value=centre, remedy="give scores that differ")
    z = (x - centre) / scale
    above = np.array([w[y >= j].sum() for j in range(1, k)]) / w.sum()
    theta = np.append(np.log(above / (1.0 - above)), 0.0)
    value, gradient, hessian = _likelihood(theta, z, y, w, k)
    for _ in range(ITERATIONS):
        step = np.linalg.solve(hessian - 1e-12 * np.eye(k) * w.sum(), gradient)
        theta, value, gradient, hessian, moved = _halved(theta, value, gradient, hessian, step, (z, y, w, k))
        if value > -SEPARATED * w.sum():
            break
        if not moved or float(np.max(np.abs(step))) < 1e-10 * (1.0 + float(np.max(np.abs(theta)))):
            break
    if value > -SEPARATED * w.sum() or float(np.max(np.abs(gradient))) > 1e-5 * w.sum():
        raise ConvergenceError(
            "ordinal regression: the scores separate the classes, so no finite slope is best; give scores that overlap"
        )
    turn = np.eye(k)  # back to the score's own scale: β = b/scale, α = a − b centre/scale
    turn[:-1, -1], turn[-1, -1] = -centre / scale, 1.0 / scale
    natural = turn @ theta
    covariance = turn @ np.linalg.inv(-hessian) @ turn.T
    return OrdinalLogit(tuple(float(a) for a in natural[:-1]), float(natural[-1]), covariance, value)


def _rows(score: ArrayLike, label: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Ints, Floats]:
    x, y = np.asarray(score, float), np.asarray(label)
    w = np.ones(x.shape) if weight is None else np.asarray(weight, float)
    if x.ndim != 1 or x.shape != y.shape or w.shape != x.shape or not len(x):
        raise DataError(
            "rows do not fit together", column="score, label, weight", value=(x.shape, y.shape, w.shape),
            remedy="give one score, one class and one weight for each row",
        )  # fmt: skip
    if not np.all(np.isfinite(x)):
        raise DataError("a score that is not finite", column="score", value=x[~np.isfinite(x)][0], remedy="leave the row out")
    if not (np.all(np.isfinite(w)) and np.all(w >= 0) and w.sum() > 0):
        raise DataError("impossible weights", column="weight", remedy="give finite numbers, 0 or more, not all 0")
    if not np.array_equal(y, np.round(y)) or np.any(y < 0):
        raise DataError("a class that is no whole number from 0", column="label", value=y[:1], remedy="number classes 0, 1, 2")
    return x, y.astype(np.int64), w


def _likelihood(theta: Floats, z: Floats, y: Ints, w: Floats, k: int) -> tuple[float, Floats, Floats]:
    """Log-likelihood, its gradient (k,) and Hessian (k, k) in (intercepts, slope).

    Of a row of class c: log(σ(u) − σ(v)) with u = α_c + β z (infinite for c = 0) and v = α_{c+1} + β z (−∞ for the highest).
    """
    a = np.concatenate([[np.inf], theta[:-1], [-np.inf]])
    if np.any(np.diff(theta[:-1]) >= 0):
        return -np.inf, np.zeros(k), np.eye(k)
    u, v = a[y] + theta[-1] * z, a[y + 1] + theta[-1] * z
    first, last = y == 0, y == k - 1
    p = _log_between(u, v)
    pu, pv = expit(u), expit(v)
    du = np.where(first, 0.0, np.exp(log_expit(u) + log_expit(-u) - p))
    dv = np.where(last, 0.0, -np.exp(log_expit(v) + log_expit(-v) - p))
    uu, vv, uv = du * (1 - 2 * pu) - du**2, dv * (1 - 2 * pv) - dv**2, -du * dv
    gradient, hessian = np.zeros(k), np.zeros((k, k))
    for c in range(k):
        here = y == c
        columns = np.zeros((2, k))  # of u and of v: which intercept each row has
        columns[0, c - 1] = 1.0 if c > 0 else 0.0
        columns[1, c] = 1.0 if c < k - 1 else 0.0
        g = np.array([np.sum(w[here] * du[here]), np.sum(w[here] * dv[here])])
        gradient += columns.T @ g
        gradient[-1] += np.sum(w[here] * (du + dv)[here] * z[here])
        second = [[np.sum((w * h)[here]) for h in pair] for pair in ((uu, uv), (uv, vv))]
        hessian += columns.T @ np.array(second) @ columns
        cross = np.array([np.sum((w * (uu + uv) * z)[here]), np.sum((w * (uv + vv) * z)[here])])
        hessian[:, -1] += columns.T @ cross
        hessian[-1, :] += columns.T @ cross
        hessian[-1, -1] += np.sum((w * (uu + 2 * uv + vv) * z**2)[here])
    return float(np.sum(w * p)), gradient, hessian


def _halved(theta: Floats, value: float, gradient: Floats, hessian: Floats, step: Floats, rows: Any) -> Any:
    """Newton's step, halved until the likelihood does not fall."""
    share = 1.0
    for _ in range(40):
        new = theta - share * step
        found = _likelihood(new, *rows)
        if found[0] >= value - 1e-13 * abs(value):
            return new, *found, True
        share *= 0.5
    return theta, value, gradient, hessian, False


# ---- samples of drugs ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Each drug predicted by the model of all the others.

    drugs: names. classes: (drugs,) true. scores: (drugs, samples). fits: model without each drug. probabilities: (drugs, samples,
    3) under them. training: the model of all drugs.
    """

    drugs: tuple[str, ...]
    classes: Ints
    scores: Floats
    fits: tuple[OrdinalLogit, ...]
    probabilities: Floats
    training: OrdinalLogit

    @property
    def predicted(self) -> Ints:
        """(drugs, samples) most probable class, each drug by the model without it."""
        return np.asarray(np.argmax(self.probabilities, axis=-1), dtype=np.int64)

    @property
    def errors(self) -> Floats:
        """(drugs,) mean over samples of |predicted − true class|: two classes off count twice, as in FDA's tables."""
        return np.asarray(np.mean(np.abs(self.predicted - self.classes[:, None]), axis=1))


def pooled(scores: Mapping[str, ArrayLike], classes: Mapping[str, int], leave_out: Sequence[str] = ()) -> OrdinalLogit:
    """The model of all samples of all drugs but `leave_out`, each drug weighing the same.

    scores: drug -> (samples,). Where all drugs have as many samples this is the regression on all rows (Li 2019).
    """
    names = [d for d in scores if d not in leave_out]
    each = [np.asarray(scores[d], float) for d in names]
    x = np.concatenate(each)
    y = np.concatenate([np.full(len(v), classes[d]) for d, v in zip(names, each, strict=True)])
    w = np.concatenate([np.full(len(v), 1.0 / len(v)) for v in each])
    return fit(x, y, w * len(x) / w.sum())


def leave_one_out(scores: Mapping[str, ArrayLike], classes: Mapping[str, int]) -> LeaveOneOut:
    """Leave-one-drug-out prediction: all samples of one drug are left out at once. scores: drug -> (samples,), as many for each.

    Raises DataError and ConvergenceError (`fit`).
    """
    drugs = tuple(scores)
    lengths = {len(np.asarray(scores[d])) for d in drugs}
    if len(lengths) != 1:
        raise DataError(
            "drugs with different numbers of samples", column="samples", value=sorted(lengths), remedy="use as many of each"
        )
    table = np.array([np.asarray(scores[d], float) for d in drugs])
    fits = tuple(pooled(scores, classes, (d,)) for d in drugs)
    probabilities = np.array([f.probabilities(row) for f, row in zip(fits, table, strict=True)])
    truth = np.array([classes[d] for d in drugs], dtype=np.int64)
    return LeaveOneOut(drugs, truth, table, fits, probabilities, pooled(scores, classes))
