"""Likelihoods of patient-level outcomes for borrowing: normal, binary, exponential and Weibull proportional hazards.

All have a linear predictor η = Xβ of the same columns; `parts` gives the log-likelihood with its gradient and negative second
derivative in (β, shape), every subject's term multiplied by its weight, so that a power prior is a matter of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gemello.trial.external.fits import Fit, newton

Array = NDArray[np.float64]
Family = Literal["normal", "binary", "exponential", "weibull"]
FAMILIES: tuple[Family, ...] = ("normal", "binary", "exponential", "weibull")
SURVIVAL = ("exponential", "weibull")


@dataclass(frozen=True, eq=False)
class Data:
    """x: (n, k) columns. y: (n,) outcome, or time for survival. event: (n,) 1 seen, 0 censored (survival only)."""

    family: Family
    x: Array
    y: Array
    event: Array

    @property
    def size(self) -> int:
        """Number of parameters: columns, and log SD (normal) or log shape (Weibull)."""
        return self.x.shape[1] + (self.family in ("normal", "weibull"))


@dataclass(frozen=True)
class Gaussian:
    """Independent normal priors of the parameters: mean and precision (p,), precision 0 for a flat one."""

    mean: Array
    precision: Array

    def parts(self, b: Array) -> tuple[float, Array, Array]:
        """Log density up to constants, gradient, negative Hessian."""
        d = b - self.mean
        return -0.5 * float(self.precision @ d**2), -self.precision * d, np.diag(self.precision)


def parts(data: Data, b: Array, w: Array, offset: Array | float = 0.0) -> tuple[float, Array, Array]:
    """Weighted log-likelihood, gradient (p,), negative Hessian (p, p)."""
    k = data.x.shape[1]
    eta = data.x @ b[:k] + offset
    if data.family == "binary":
        p = expit(eta)
        value = float(w @ (data.y * eta - np.logaddexp(0, eta)))
        return value, data.x.T @ (w * (data.y - p)), (data.x * (w * p * (1 - p))[:, None]).T @ data.x
    if data.family == "exponential":
        with np.errstate(over="ignore"):
            hazard = data.y * np.exp(eta)
        value = float(w @ (data.event * eta - hazard))
        return value, data.x.T @ (w * (data.event - hazard)), (data.x * (w * hazard)[:, None]).T @ data.x
    if data.family == "normal":
        s = b[k]
        inv = np.exp(-2 * s)
        r = data.y - eta
        value = float(w @ (-s - 0.5 * r**2 * inv - 0.5 * np.log(2 * np.pi)))
        gradient = np.append(data.x.T @ (w * r) * inv, float(w @ (r**2 * inv - 1)))
        cross = 2 * inv * (data.x.T @ (w * r))
        top = inv * (data.x * w[:, None]).T @ data.x
        return value, gradient, np.block([[top, cross[:, None]], [cross[None, :], np.array([[2 * inv * float(w @ r**2)]])]])
    shape = np.exp(b[k])  # Weibull: hazard shape · t^(shape−1) · exp(η)
    log_t = np.log(data.y)
    with np.errstate(over="ignore"):
        hazard = np.exp(eta + shape * log_t)
    value = float(w @ (data.event * (eta + b[k] + (shape - 1) * log_t) - hazard))
    a = shape * log_t
    gradient = np.append(data.x.T @ (w * (data.event - hazard)), float(w @ (data.event * (1 + a) - hazard * a)))
    cross = data.x.T @ (w * hazard * a)
    top = (data.x * (w * hazard)[:, None]).T @ data.x
    last = float(w @ (hazard * (a**2 + a) - data.event * a))
    return value, gradient, np.block([[top, cross[:, None]], [cross[None, :], np.array([[last]])]])


def start(data: Data, w: Array) -> Array:
    """(p,) where Newton's method starts: the outcome's overall level in the first column, no effects."""
    b = np.zeros(data.size)
    total = w.sum()
    mean = float(w @ data.y / total)
    if data.family == "binary":
        p = float(np.clip(mean, 0.01, 0.99))
        b[0] = np.log(p / (1 - p))
    elif data.family == "normal":
        b[0] = mean
        b[-1] = 0.5 * np.log(max(float(w @ (data.y - mean) ** 2 / total), 1e-12))
    else:
        b[0] = np.log(max(float(w @ data.event), 0.5) / float(w @ data.y))
    return b


def posterior_mode(data: Data, prior: Gaussian, w: Array, offset: Array | float = 0.0, at: Array | None = None) -> Fit:
    """Mode of the posterior and its curvature; `value` is the log of likelihood · prior (without the prior's constant) there."""

    def both(b: Array) -> tuple[float, Array, Array]:
        one, two = parts(data, b, w, offset), prior.parts(b)
        return one[0] + two[0], one[1] + two[1], one[2] + two[2]

    return newton(both, start(data, w) if at is None else at)


def laplace(fit: Fit) -> float:
    """Log of the integral of exp(value) over the parameters, by Laplace's approximation."""
    sign, log_det = np.linalg.slogdet(fit.information)
    return fit.value - 0.5 * float(log_det) + 0.5 * len(fit.values) * float(np.log(2 * np.pi)) if sign > 0 else -np.inf


def posterior_mean(data: Data, prior: Gaussian, w: Array, fit: Fit, offset: Array | float = 0.0) -> Array:
    """(p,) mean of the posterior to second order: mode − ½ H⁻¹ ∇ log det H (Tierney & Kadane 1986, JASA 81:82), H the curvature
    at the mode; the gradient by central differences."""
    if data.family == "normal":
        return fit.values  # the regression's part is symmetric
    inverse = np.linalg.inv(fit.information)
    step = 1e-3 * np.sqrt(np.diag(inverse))
    gradient = np.empty(len(step))
    for j, h in enumerate(step):
        ends = []
        for sign in (1.0, -1.0):
            b = fit.values.copy()
            b[j] += sign * h
            ends.append(np.linalg.slogdet(parts(data, b, w, offset)[2] + np.diag(prior.precision))[1])
        gradient[j] = (ends[0] - ends[1]) / (2 * h)
    return np.asarray(fit.values - 0.5 * inverse @ gradient)
