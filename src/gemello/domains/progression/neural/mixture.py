"""Mixtures of normal distributions, the last axis running over components: density, distribution, moments, quantiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from gemello.model.generator import Array

GRID = np.sinh(np.linspace(-3.2, 3.2, 161))  # −12.2 … 12.2 standard deviations, dense in the middle


@dataclass(frozen=True)
class Mixture:
    """weight, mean, sd: (..., K); weights add up to one."""

    weight: Array
    mean: Array
    sd: Array

    def density(self, x: Array) -> Array:
        """(...)."""
        z = (x[..., None] - self.mean) / self.sd
        return np.sum(self.weight * np.exp(-0.5 * z * z) / (self.sd * np.sqrt(2 * np.pi)), -1)

    def cdf(self, x: Array) -> Array:
        """(...); takes ±inf."""
        return np.sum(self.weight * special.ndtr((x[..., None] - self.mean) / self.sd), -1)

    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation (...)."""
        m = np.sum(self.weight * self.mean, -1)
        v = np.sum(self.weight * (self.sd**2 + (self.mean - m[..., None]) ** 2), -1)
        return m, np.sqrt(v)

    def quantile(self, u: Array) -> Array:
        """u: (..., D) probabilities -> (..., D), read off the distribution function on a grid about the mean."""
        m, s = self.moments()
        grid = m[..., None] + s[..., None] * GRID
        shape = m.shape
        out = np.empty(u.shape)
        f = np.zeros(grid.shape)
        for k in range(self.weight.shape[-1]):  # component by component: an array of grid × components would be large
            f += self.weight[..., k, None] * special.ndtr((grid - self.mean[..., k, None]) / self.sd[..., k, None])
        for where in np.ndindex(shape):
            out[where] = np.interp(u[where], f[where], grid[where])
        return out

    def joined(self, other: Mixture, share: Array | float) -> Mixture:
        """share × other + (1 − share) × self."""
        w = np.asarray(share)[..., None]
        return Mixture(
            np.concatenate([self.weight * (1 - w), other.weight * w], -1), np.concatenate([self.mean, other.mean], -1),
            np.concatenate([self.sd, other.sd], -1),
        )  # fmt: skip

    def moved(self, shift: Array, scale: Array) -> Mixture:
        """The mixture of shift + scale·x."""
        return Mixture(self.weight, shift[..., None] + scale[..., None] * self.mean, scale[..., None] * self.sd)


def fit(x: Array, weight: Array, components: int, counts: float = 5.0, rounds: int = 60) -> Mixture:
    """A mixture (K,) of standardised residuals x (n,) by EM; `counts` of each component's prior are of the standard normal."""
    m = Mixture(np.full(components, 1 / components), np.linspace(-0.5, 0.5, components), np.full(components, 0.9))
    for _ in range(rounds):
        z = (x[:, None] - m.mean) / m.sd
        r = m.weight * np.exp(-0.5 * z * z) / m.sd + 1e-300
        r = weight[:, None] * r / r.sum(1, keepdims=True)
        n = r.sum(0) + counts
        mean = (r.T @ x) / n
        var = ((r * (x[:, None] - mean) ** 2).sum(0) + counts) / n
        m = Mixture(n / n.sum(), np.clip(mean, -3, 3), np.clip(np.sqrt(var), 0.1, 3))
    return m
