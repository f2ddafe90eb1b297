"""A mixture of normal distributions: prior and posterior of a control mean (or logit, or log rate) under borrowing.

Every borrowing rule for an estimate that is normal with known standard error is one of these: its components are the values of
what says how far history is to be trusted (a power, a precision, a heterogeneity), and the new data move their weights. The
conjugate update is exact; no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import logsumexp

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate, Scale

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NormalMixture:
    """weights, means, sds: (k,), weights sum to 1. labels: (k,) where components have names ("history", "vague")."""

    weights: Array
    means: Array
    sds: Array
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.weights) == 0 or not (self.weights.shape == self.means.shape == self.sds.shape):
            raise DataError("weights, means and sds of different lengths", remedy="give as many of each, one at least")
        if np.any(self.weights < 0) or abs(self.weights.sum() - 1) > 1e-6 or not np.all(self.sds > 0):
            raise DataError("weights do not sum to 1, or an SD is not above 0", remedy="give weights of sum 1 and SDs above 0")

    @property
    def mean(self) -> float:
        """Mean."""
        return float(self.weights @ self.means)

    @property
    def sd(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.weights @ (self.sds**2 + self.means**2) - self.mean**2))

    def pdf(self, x: Array) -> Array:
        """Density at x, any shape."""
        return np.asarray(stats.norm.pdf(np.asarray(x)[..., None], self.means, self.sds) @ self.weights)

    def cdf(self, x: Array | float) -> Array:
        """Probability of at most x, any shape."""
        return np.asarray(stats.norm.cdf(np.asarray(x)[..., None], self.means, self.sds) @ self.weights)

    def quantile(self, q: float) -> float:
        """Value below which the probability is q."""
        z = stats.norm.ppf(q)
        ends = self.means + z * self.sds
        low, high = float(ends.min()), float(ends.max())
        if high - low < 1e-12 * (1 + abs(low)):
            return low
        return float(brentq(lambda x: float(self.cdf(x)) - q, low, high, xtol=1e-12 * (1 + abs(low) + abs(high))))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Equal-tailed credible interval."""
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def update(self, estimate: float, se: float) -> NormalMixture:
        """Posterior after a normal estimate with known standard error; weights move by each component's marginal likelihood."""
        total = self.sds**2 + se**2
        log_w = np.log(np.maximum(self.weights, 1e-300)) - 0.5 * np.log(total) - 0.5 * (estimate - self.means) ** 2 / total
        precision = 1 / self.sds**2 + 1 / se**2
        means = (self.means / self.sds**2 + estimate / se**2) / precision
        return NormalMixture(np.exp(log_w - logsumexp(log_w)), means, 1 / np.sqrt(precision), self.labels)

    def less(self, other: NormalMixture) -> NormalMixture:
        """The difference self − other of two independent quantities."""
        weights = np.outer(self.weights, other.weights).ravel()
        means = np.subtract.outer(self.means, other.means).ravel()
        return NormalMixture(weights, means, np.sqrt(np.add.outer(self.sds**2, other.sds**2)).ravel())

    def with_component(self, weight: float, mean: float, sd: float, label: str) -> NormalMixture:
        """Self with probability 1 − weight, else normal(mean, sd)."""
        labels = self.labels or ("history",) * len(self.weights)
        return NormalMixture(
            np.append(self.weights * (1 - weight), weight), np.append(self.means, mean), np.append(self.sds, sd), (*labels, label)
        )

    def share(self, label: str) -> float:
        """Probability of the components of one label."""
        return float(sum(w for w, name in zip(self.weights, self.labels, strict=True) if name == label))

    def information(self, x: Array) -> Array:
        """−d² log density / dx² at x, any shape."""
        z = (np.asarray(x)[..., None] - self.means) / self.sds
        log_p = np.log(np.maximum(self.weights, 1e-300)) - np.log(self.sds) - 0.5 * z**2
        part = np.exp(log_p - logsumexp(log_p, axis=-1, keepdims=True))
        slope = (part * (-z / self.sds)).sum(-1)
        return np.asarray(slope**2 - (part * (z**2 - 1) / self.sds**2).sum(-1))

    def effective_sample_size(self, unit_sd: float) -> float:
        """Subjects that the prior is worth, where one subject's information is 1/unit_sd²: expected local information ratio
        (ELIR; Neuenschwander et al. 2020, Biometrics 76:578), its mean over the prior."""
        nodes, w = np.polynomial.hermite_e.hermegauss(60)
        x = self.means[:, None] + self.sds[:, None] * nodes
        inner = self.information(x) @ w / np.sqrt(2 * np.pi)
        return float(unit_sd**2 * (self.weights @ inner))

    def moment_sample_size(self, unit_sd: float) -> float:
        """The same by moments: unit_sd² / variance of the prior."""
        return float((unit_sd / self.sd) ** 2)

    def as_estimate(
        self, label: str, measure: str, method: str, n: int, *, scale: Scale = "identity", level: float = 0.95, **extra: object
    ) -> Estimate:
        """Posterior mean and SD as an Estimate; the credible interval and the probability of a value above 0 are in `extra`
        (a mixture is not normal: prefer them to `interval` and `p`)."""
        low, high = self.interval(level)
        said = {"credible_lower": low, "credible_upper": high, "probability_above_null": float(1 - self.cdf(0.0))}
        return Estimate(label, measure, self.mean, self.sd, method, n, None, scale, level, 0.0, said | extra)


def normal(mean: float, sd: float, label: str = "history") -> NormalMixture:
    """One normal distribution."""
    return NormalMixture(np.array([1.0]), np.array([float(mean)]), np.array([float(sd)]), (label,))


def mixture(weights: Sequence[float], means: Sequence[float], sds: Sequence[float], label: str = "history") -> NormalMixture:
    """Of lists; weights are scaled to sum 1."""
    w = np.asarray(weights, float)
    return NormalMixture(w / w.sum(), np.asarray(means, float), np.asarray(sds, float), (label,) * len(w))
