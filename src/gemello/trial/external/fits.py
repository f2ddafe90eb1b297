"""Small regressions that methods for external controls and missing data share: least squares and maximum likelihood with
weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gemello.base.errors import ConvergenceError, DataError

Array = NDArray[np.float64]
SEPARATED = 30.0  # |linear predictor| at which a fitted probability is 0 or 1 in single precision


@dataclass(frozen=True)
class Fit:
    """values: (k,). information: (k, k) negative second derivative at the maximum. value: log-likelihood there."""

    values: Array
    information: Array
    value: float

    @property
    def covariance(self) -> Array:
        """(k, k) inverse of the information."""
        return np.asarray(np.linalg.inv(self.information), float)


def least_squares(x: Array, y: Array, weights: Array | None = None) -> Array:
    """(k,) coefficients. x: (n, k). Raises DataError where x has not full rank."""
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)
    values, _, rank, _ = np.linalg.lstsq(x * root[:, None], y * root, rcond=1e-10)
    if rank < x.shape[1]:
        raise DataError(f"{x.shape[1]} columns of rank {rank}", remedy="leave out columns that the others determine")
    return np.asarray(values, float)


def logistic(x: Array, y: Array, weights: Array | None = None, what: str = "the outcome") -> Fit:
    """Logistic regression by Newton's method. x: (n, k), y: (n,) 0 or 1. Raises DataError under perfect separation."""
    w = np.ones(len(y)) if weights is None else weights
    if len(np.unique(y[w > 0])) < 2:
        raise DataError(f"{what} has one value only", remedy="both values must occur")

    def parts(b: Array) -> tuple[float, Array, Array]:
        eta = x @ b
        p = expit(eta)
        value = float(w @ (y * eta - np.logaddexp(0, eta)))
        return value, x.T @ (w * (y - p)), (x * (w * p * (1 - p))[:, None]).T @ x

    start = np.zeros(x.shape[1])
    try:
        fit = newton(parts, start)
    except (ConvergenceError, np.linalg.LinAlgError) as e:
        raise DataError(f"{what} is separated perfectly by the covariates", remedy="leave out or join covariates") from e
    if np.abs(x @ fit.values)[w > 0].max() > SEPARATED:
        raise DataError(f"{what} is separated perfectly by the covariates", remedy="leave out or join covariates")
    return fit


def newton(
    parts: Callable[[Array], tuple[float, Array, Array]], start: Array, rounds: int = 100, tolerance: float = 1e-14
) -> Fit:
    """Maximum of a function of (value, gradient (k,), negative Hessian (k, k)), by Newton steps halved until it rises.

    Raises ConvergenceError after `rounds` steps.
    """
    b = start.astype(float)
    value, g, h = parts(b)
    for _ in range(rounds):
        ridge = 0.0
        scale = float(np.abs(np.diag(h)).max()) or 1.0
        while True:
            try:
                step = np.linalg.solve(h + ridge * scale * np.eye(len(b)), g)
                if g @ step >= 0:
                    break
            except np.linalg.LinAlgError:
                pass
            ridge = max(10 * ridge, 1e-8)
            if ridge > 1e6:
                raise ConvergenceError("the likelihood has no direction of ascent; leave out covariates")
        if float(g @ step) < tolerance * (1e-3 + 1e-3 * abs(value)) and ridge == 0.0:
            return Fit(b, h, value)
        size = 1.0
        while size > 1e-10:
            new = parts(b + size * step)
            if np.isfinite(new[0]) and new[0] >= value - 1e-12 * abs(value):
                break
            size /= 2
        else:
            return Fit(b, h, value) if ridge == 0.0 and float(g @ step) < 1e-6 else _stuck()
        b = b + size * step
        value, g, h = new
    return _stuck()


def _stuck() -> Fit:
    raise ConvergenceError("Newton's method did not converge; give fewer covariates or more subjects")
