"""The latent course of several variables in time: a regression on baseline and a person's deviations, jointly normal.

At the knots θ_i = B'x_i + r_i, r_i ~ N(0, G) over all variables and knots; between them linear; an observation of variable j is
h(t)'θ_ij + ε, ε ~ N(0, σ_j²) (Laird & Ware 1982, Biometrics 38:963, with the mean penalised). A variable with few levels is a
latent normal one cut at thresholds, σ = 1 (Albert & Chib 1993, J Am Stat Assoc 88:669), its latent values replaced by their
conditional means: the variational form of the data augmentation (Girolami & Rogers 2006, Neural Comput 18:1790). Estimation by
EM; G is shrunk by an inverse-Wishart prior of weight JK + 2 towards equicorrelated deviations of each variable by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from gemello.domains.progression.mixed.knots import hats

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
ROUNDS, CLOSE = 100, 5e-4


@dataclass(frozen=True)
class Points:
    """Observations after time 0 (N,): person, variable, time, z (scaled value, or number of the level)."""

    person: Numbers
    variable: Numbers
    time: Array
    z: Array

    def __len__(self) -> int:
        return len(self.person)

    def of(self, persons: NDArray[np.bool_]) -> Points:
        """Observations of some persons (mask), who are numbered anew."""
        keep, number = persons[self.person], np.cumsum(persons) - 1
        return Points(number[self.person[keep]], self.variable[keep], self.time[keep], self.z[keep])


@dataclass(frozen=True)
class Course:
    """What was learnt. knots (K,); coefficients B (1 + p, J, K); deviations G (JK, JK); noise σ² (J,); pins (J,): column of x
    with the variable's own baseline value, −1 without; cuts: thresholds of each variable cut from a latent one, else empty."""

    knots: Array
    coefficients: Array
    deviations: Array
    noise: Array
    pins: Numbers
    cuts: tuple[Array, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(J, K)."""
        return len(self.noise), len(self.knots)

    def weights(self, time: Array, variable: Numbers) -> tuple[Array, Array]:
        """(n, K) weights of the knots, (n,) weight of the own baseline; without a baseline the first knot holds from time 0."""
        h = hats(time, self.knots)
        pinned = self.pins[variable] >= 0
        h[:, 1] += np.where(pinned, 0.0, h[:, 0])
        return h[:, 1:], np.where(pinned, h[:, 0], 0.0)

    def start(self, x: Array, variable: Numbers, person: Numbers) -> Array:
        """(n,) own baseline value of each observation's variable, 0 without one. x: (persons, p)."""
        pin = self.pins[variable]
        if not x.shape[1]:
            return np.zeros(len(pin))
        return np.where(pin >= 0, x[person, np.maximum(pin, 0)], 0.0)

    def mean(self, x: Array) -> Array:
        """(persons, J, K) mean at the knots."""
        return np.einsum("nq,qjk->njk", with_intercept(x), self.coefficients)

    def variance(self) -> Array:
        """(J, K) variance of an observation at each knot about its mean."""
        j, k = self.shape
        return np.diag(self.deviations).reshape(j, k) + self.noise[:, None]


@dataclass(frozen=True)
class Posterior:
    """Of persons' values at the knots: mean (n, JK), covariance (n, JK, JK)."""

    mean: Array
    covariance: Array


def with_intercept(x: Array) -> Array:
    """x with a first column of ones."""
    return np.column_stack([np.ones(len(x)), x])


def condition(c: Course, points: Points, z: Array, offset: Array, prior: Array, spread: Array | None = None) -> Posterior:
    """Posterior of the values at the knots. z, offset (N,): latent values and the part of the own baseline. prior: (n, JK) means.
    spread: (n, JK, JK) added to G (missing baseline values)."""
    j, k = c.shape
    n, size = len(prior), j * k
    h, _ = c.weights(points.time, points.variable)
    weight = 1.0 / c.noise[points.variable]
    cell = points.person * j + points.variable
    block, pull = np.zeros((n * j, k, k)), np.zeros((n * j, k))
    np.add.at(block, cell, (h * weight[:, None])[:, :, None] * h[:, None, :])
    np.add.at(pull, cell, h * (weight * (z - offset))[:, None])
    information = np.zeros((n, j, k, j, k))
    every = np.arange(j)
    information[:, every, :, every, :] = np.moveaxis(block.reshape(n, j, k, k), 1, 0)
    g = c.deviations if spread is None else c.deviations + spread
    inverse = np.linalg.inv(g + 1e-9 * np.eye(size))
    covariance = np.linalg.inv(inverse + information.reshape(n, size, size))
    covariance = 0.5 * (covariance + np.swapaxes(covariance, 1, 2))
    start = np.matmul(inverse, prior[:, :, None])[:, :, 0] + pull.reshape(n, size)
    return Posterior(np.matmul(covariance, start[:, :, None])[:, :, 0], np.asarray(covariance, float))


def latent(c: Course, points: Points, centre: Array) -> Array:
    """Latent values (N,): the scaled values, and for cut variables the mean of a normal (centre, 1) within its level."""
    out = points.z.copy()
    for j, cuts in enumerate(c.cuts):
        if not len(cuts):
            continue
        here = points.variable == j
        edges = np.concatenate([[-np.inf], cuts, [np.inf]])
        level = points.z[here].astype(int)
        m = centre[here]
        out[here] = m + _mills(edges[level] - m, edges[level + 1] - m)
    return out


def _mills(a: Array, b: Array) -> Array:
    """Mean of a standard normal between a and b."""
    flip = a > 0
    low, high = np.where(flip, -b, a), np.where(flip, -a, b)
    mass = np.maximum(ndtr(high) - ndtr(low), 1e-300)
    density = lambda x: np.where(np.isfinite(x), np.exp(-0.5 * np.where(np.isfinite(x), x, 0.0) ** 2), 0.0)  # noqa: E731
    mean = (density(low) - density(high)) / np.sqrt(2 * np.pi) / mass
    tail = -np.where(np.isfinite(high), high, 0.0)  # far in a tail the mean is the near edge
    mean = np.where(log_ndtr(high) < -500, -tail, mean)
    return np.where(flip, -mean, mean)


def fit(first: Course, points: Points, x: Array, penalty: Array, rounds: int = ROUNDS) -> Course:
    """EM from `first`. x: (n, p) complete; penalty: (J, 1 + p) ridge penalties of each variable's coefficients at a knot."""
    c, (j, k) = first, first.shape
    n = len(x)
    x1 = with_intercept(x)
    h, own = c.weights(points.time, points.variable)
    offset = own * c.start(x, points.variable, points.person)
    gram = x1.T @ x1
    used = np.array([np.trace(np.linalg.solve(gram + np.diag(p + 1e-6), gram)) for p in penalty])
    lost = np.sqrt(np.maximum(1 - used / n, 0.2))
    for _ in range(rounds):
        prior = c.mean(x).reshape(n, j * k)
        centre = offset + np.sum(h * prior.reshape(n, j, k)[points.person, points.variable], axis=1)
        z = latent(c, points, centre) if any(map(len, c.cuts)) else points.z
        p = condition(c, points, z, offset, prior)
        if any(map(len, c.cuts)):  # once more with the person's own mean
            centre = offset + np.sum(h * p.mean.reshape(n, j, k)[points.person, points.variable], axis=1)
            z = latent(c, points, centre)
            p = condition(c, points, z, offset, prior)
        new = _maximise(c, points, p, x1, gram, penalty, lost, h, z - offset)
        step = max(np.max(np.abs(new.coefficients - c.coefficients)), np.max(np.abs(new.deviations - c.deviations)))
        c = new
        if step < CLOSE:
            break
    return c


def _maximise(
    c: Course, points: Points, p: Posterior, x1: Array, gram: Array, penalty: Array, lost: Array, h: Array, z: Array
) -> Course:
    j, k = c.shape
    n = len(x1)
    theta = p.mean.reshape(n, j, k)
    b = np.stack([np.linalg.solve(gram + np.diag(q + 1e-6), x1.T @ theta[:, i]) for i, q in enumerate(penalty)], axis=1)
    r = (theta - np.einsum("nq,qjk->njk", x1, b)) / lost[None, :, None]  # what the regression used up
    r = r.reshape(n, j * k)
    s = r.T @ r + p.covariance.sum(axis=0)
    weight = j * k + 2.0
    g = (s + weight * _target(s / n, j, k)) / (n + weight)
    own = np.einsum("njkjl->njkl", p.covariance.reshape(n, j, k, j, k))[points.person, points.variable]
    left = (z - np.sum(h * theta[points.person, points.variable], axis=1)) ** 2 + np.einsum("nk,nkl,nl->n", h, own, h)
    count = np.bincount(points.variable, minlength=j)
    noise = (np.bincount(points.variable, left, minlength=j) + 0.02) / (count + 2.0)
    noise = np.where([len(q) > 0 for q in c.cuts], 1.0, np.maximum(noise, 1e-4))
    return replace(c, coefficients=b, deviations=g, noise=noise)


def _target(s: Array, j: int, k: int) -> Array:
    """Covariance to shrink to: variables apart, knots of a variable equally correlated."""
    out = np.zeros((j * k, j * k))
    for i in range(j):
        block = s[i * k : (i + 1) * k, i * k : (i + 1) * k]
        sd = np.sqrt(np.maximum(np.diag(block), 1e-8))
        common = float(np.clip(np.mean((block / np.outer(sd, sd))[~np.eye(k, dtype=bool)]), 0.0, 0.95)) if k > 1 else 0.0
        out[i * k : (i + 1) * k, i * k : (i + 1) * k] = np.outer(sd, sd) * (common + (1 - common) * np.eye(k))
    return out
