"""One distribution for every variable at every time: linear prediction, shape of its residuals, nets; shares by held-out score.

The shares are those of stacking (Yao et al. 2018, Bayesian Analysis 13:917, eq. 3): they maximise the held-out log likelihood of
the mixture of (normal, one shape for all, nets), with a few counts in favour of the normal one so that small data stay there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from gemello.base.random import child_seed
from gemello.domains.progression.neural import linear, mixture, network
from gemello.domains.progression.neural.mixture import Mixture
from gemello.domains.progression.neural.scales import Scale
from gemello.model.generator import Array

PRIOR = 4.0  # counts in favour of the normal residual


@dataclass(frozen=True)
class Targets:
    """What is to be forecast of each pair: y (n, J) on the learned scales, low and high the edges of discrete values."""

    y: Array
    low: Array
    high: Array


def targets(scales: tuple[Scale, ...], values: Array) -> Targets:
    """values: (n, J)."""
    y, low, high = (np.zeros(values.shape) for _ in range(3))
    for j, s in enumerate(scales):
        y[:, j] = s.forward(values[:, j])
        if s.discrete:
            low[:, j], high[:, j] = s.edges(values[:, j])
    return Targets(y, low, high)


@dataclass(frozen=True)
class Marginals:
    """ridges: one a variable. calibration: (J, 3) intercept, slope and scale between prediction and residual. shape: (J·3K,)
    outputs of the common residual. nets. shares: (J, 3) of normal, shape and nets. core: how many columns are values."""

    core: int
    ridges: tuple[linear.Ridge, ...]
    calibration: Array
    shape: Array
    nets: network.Nets
    shares: Array

    def predict(self, static: Array, clock: Array) -> Mixture:
        """(n, J, components) on the learned scales. static: (n, …), clock: (n, 2)."""
        x, _ = linear.design(static, clock, self.core)
        mean, sd = _normal(self.ridges, self.calibration, x)
        j = len(self.ridges)
        out = self.nets(inputs(static, clock, mean))
        net = _merged(network.mixtures(out, j))
        return _stacked(network.mixtures(np.broadcast_to(self.shape, (len(x), len(self.shape))), j), net, self.shares).moved(
            mean, sd
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {
            "core": self.core, "ridges": [r.to_dict() for r in self.ridges], "calibration": self.calibration.tolist(),
            "shape": self.shape.tolist(), "nets": self.nets.to_dict(), "shares": self.shares.tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Marginals:
        """The marginals of `to_dict`."""
        return cls(
            int(d["core"]), tuple(linear.Ridge.from_dict(r) for r in d["ridges"]), np.array(d["calibration"], float),
            np.array(d["shape"], float), network.Nets.from_dict(d["nets"]), np.array(d["shares"], float),
        )  # fmt: skip


def inputs(static: Array, clock: Array, mean: Array) -> Array:
    """(n, d) of the nets."""
    return np.column_stack([static, np.clip(clock, -4, 4), np.clip(mean, -4, 4)])


def _normal(ridges: tuple[linear.Ridge, ...], calibration: Array, x: Array) -> tuple[Array, Array]:
    mean = np.column_stack([r.mean(x) for r in ridges])
    sd = np.column_stack([r.sd(x, mean[:, j]) for j, r in enumerate(ridges)])
    return calibration[:, 0] + calibration[:, 1] * mean, calibration[:, 2] * sd


def _merged(m: Mixture) -> Mixture:
    """Mixtures (M, n, J, K) of M nets as one (n, J, M·K)."""

    def flat(a: Array) -> Array:
        return np.moveaxis(a, 0, 2).reshape(*a.shape[1:3], -1)

    return Mixture(flat(m.weight) / m.weight.shape[0], flat(m.mean), flat(m.sd))


def _stacked(shape: Mixture, net: Mixture, shares: Array) -> Mixture:
    w = np.broadcast_to(shares, (*net.weight.shape[:2], 3))
    one = np.ones((*net.weight.shape[:2], 1))
    return Mixture(
        np.concatenate([w[..., :1], w[..., 1:2] * shape.weight, w[..., 2:] * net.weight], -1),
        np.concatenate([0 * one, shape.mean, net.mean], -1), np.concatenate([one, shape.sd, net.sd], -1),
    )  # fmt: skip


def fit(
    static: Array, clock: Array, core: int, scales: tuple[Scale, ...], t: Targets, weight: Array, fold: NDArray[np.int64], *,
    seed: int, recipe: network.Recipe,
) -> tuple[Marginals, Array]:  # fmt: skip
    """Marginals, and the held-out normal scores (n, J) of the pairs (NaN where missing). Rows are pairs; fold: (n,) of
    persons."""
    x, penalty = linear.design(static, clock, core)
    j = len(scales)
    seen = ~np.isnan(t.y)
    ridges, mean, sd, calibration = [], np.zeros(t.y.shape), np.ones(t.y.shape), np.tile([0.0, 1.0, 1.0], (j, 1))
    for k in range(j):
        here = seen[:, k]
        ridge, held = linear.fit(x[here], t.y[here, k], weight[here], penalty, fold[here])
        ridges.append(ridge)
        full = ridge.mean(x)
        full[here] = held
        mean[:, k], sd[:, k] = full, ridge.sd(x, full)
        if scales[k].discrete:
            calibration[k] = _calibrate(mean[here, k], sd[here, k], t.low[here, k], t.high[here, k], weight[here])
            mean[:, k], sd[:, k] = calibration[k, 0] + calibration[k, 1] * mean[:, k], calibration[k, 2] * sd[:, k]
    discrete = np.array([s.discrete for s in scales])
    data = {
        "r": np.where(seen, np.clip((np.nan_to_num(t.y) - mean) / sd, -8, 8), 0.0), "seen": seen.astype(float),
        "low": np.clip((np.nan_to_num(t.low, nan=-1.0, neginf=-1e3) - mean) / sd, -40, 40),
        "high": np.clip((np.nan_to_num(t.high, nan=1.0, posinf=1e3) - mean) / sd, -40, 40),
    }  # fmt: skip
    loss = network.mixture_loss(j, discrete)
    folds = int(fold.max()) + 1
    apart = [_shape(data, discrete, weight * (fold != f)) for f in range(folds)]
    shape = network.outputs(_shape(data, discrete, weight))
    v = inputs(static, clock, mean)
    start = np.stack([network.outputs(m) for m in apart])
    nets = network.train(v, data, loss, start, weight, fold, seed=child_seed(seed, "nets"), recipe=recipe)
    common = Mixture(*(np.stack([getattr(m, k) for m in apart])[fold] for k in ("weight", "mean", "sd")))
    shares, score = _shares(common, network.mixtures(_own(nets, v, fold), j), data, discrete, weight)
    spread = np.array([1.0 if d else _spread(score[:, k], weight) for k, d in enumerate(discrete)])
    calibration[:, 2] *= spread
    return Marginals(core, tuple(ridges), calibration, shape, nets, shares), score / spread


def _shape(data: Mapping[str, Array], discrete: NDArray[np.bool_], weight: Array) -> Mixture:
    """One distribution (J, K) of all residuals of each variable; of a discrete one, nearly the standard normal."""
    made = []
    for k, d in enumerate(discrete):
        here = (data["seen"][:, k] > 0) & (weight > 0) & (not d)
        made.append(mixture.fit(data["r"][here, k], weight[here], network.COMPONENTS))
    return Mixture(*(np.stack([getattr(m, k) for m in made]) for k in ("weight", "mean", "sd")))


def _spread(score: Array, weight: Array) -> float:
    """Spread of held-out normal scores: one where the forecasts are neither too wide nor too narrow."""
    ok = ~np.isnan(score)
    return float(np.clip(np.sqrt(np.average(np.clip(score[ok], -4, 4) ** 2, weights=weight[ok])), 0.85, 1.2))


def _own(nets: network.Nets, x: Array, fold: NDArray[np.int64]) -> Array:
    """(n, out): each row by the net that did not learn from its fold."""
    return nets(x)[fold, np.arange(len(x))]


def _shares(
    shape: Mixture, net: Mixture, data: Mapping[str, Array], discrete: NDArray[np.bool_], weight: Array
) -> tuple[Array, Array]:
    """Shares (J, 3), and normal scores (n, J) of the held-out rows under the mixture that they give."""
    normal = Mixture(*(np.full((*data["r"].shape, 1), v) for v in (1.0, 0.0, 1.0)))
    likelihood = np.stack([
        np.where(discrete, m.cdf(data["high"]) - m.cdf(data["low"]), m.density(data["r"])) + 1e-9 for m in (normal, shape, net)
    ], -1)  # fmt: skip
    shares = np.tile([1.0, 0.0, 0.0], (len(discrete), 1))
    for k in range(len(discrete)):
        here = data["seen"][:, k] > 0
        w = weight[here]
        f, s = likelihood[here, k], np.full(3, 1 / 3)
        for _ in range(200):
            r = f * s
            counts = (w[:, None] * r / r.sum(1, keepdims=True)).sum(0) + np.array([PRIOR, 0.0, 0.0])
            s = counts / counts.sum()
        shares[k] = s
    m = _stacked(shape, net, shares)
    middle = np.where(discrete, 0.5 * (m.cdf(data["low"]) + m.cdf(data["high"])), m.cdf(data["r"]))
    return shares, np.where(data["seen"] > 0, special.ndtri(np.clip(middle, 1e-5, 1 - 1e-5)), np.nan)


def _calibrate(mean: Array, sd: Array, low: Array, high: Array, weight: Array) -> Array:
    """Intercept, slope and scale of a linear prediction of levels, by the likelihood of their intervals (an ordered probit)."""

    def loss(p: Array) -> float:
        m, s = p[0] + p[1] * mean, np.exp(p[2]) * sd
        chance = special.ndtr((high - m) / s) - special.ndtr((low - m) / s)
        return float(-np.average(np.log(chance + 1e-9), weights=weight) + 1e-3 * (p[0] ** 2 + (p[1] - 1) ** 2 + p[2] ** 2))

    found = optimize.minimize(loss, np.array([0.0, 1.0, 0.0]), method="Nelder-Mead", options={"maxiter": 400, "xatol": 1e-5})
    return np.array([found.x[0], found.x[1], np.exp(found.x[2])])
