"""Families and links of generalised linear models (McCullagh and Nelder, Generalized Linear Models, 1989, chapter 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from gemello.base.errors import DataError, UnsupportedError

Array = NDArray[np.float64]
TINY = 1e-300


@dataclass(frozen=True)
class Link:
    """of: link of the mean. inverse: mean of the linear predictor η. slope: dμ/dη by η. slope2: d²μ/dη²."""

    name: str
    of: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    slope: Callable[[Array], Array]


@dataclass(frozen=True)
class Family:
    """variance: of the mean. deviance: (n,) unit deviances of outcome and mean. start: means to begin with. dispersion: None
    where it is estimated. canonical: the canonical link's name. theta: of the negative binomial, variance μ + μ²/θ."""

    name: str
    link: Link
    variance: Callable[[Array], Array]
    deviance: Callable[[Array, Array], Array]
    start: Callable[[Array], Array]
    canonical: str
    dispersion: float | None = 1.0
    theta: float | None = None


def _logistic_slope(eta: Array) -> Array:
    p = special.expit(eta)
    return np.asarray(p * special.expit(-eta))


def _cloglog_inverse(eta: Array) -> Array:
    return np.asarray(-np.expm1(-np.exp(np.minimum(eta, 30))))


LINKS = {
    "identity": Link("identity", lambda m: m, lambda e: e, np.ones_like),
    "log": Link("log", np.log, lambda e: np.exp(np.minimum(e, 700)), lambda e: np.exp(np.minimum(e, 700))),
    "logit": Link("logit", special.logit, special.expit, _logistic_slope),
    "probit": Link("probit", special.ndtri, special.ndtr, stats.norm.pdf),
    "cloglog": Link(
        "cloglog", lambda m: np.log(-np.log1p(-m)), _cloglog_inverse, lambda e: np.exp(e - np.exp(np.minimum(e, 30)))
    ),
}


def _count_deviance(y: Array, m: Array) -> Array:
    return np.asarray(2 * (special.xlogy(y, y / np.maximum(m, TINY)) - (y - m)))


def _binary_deviance(y: Array, m: Array) -> Array:
    return np.asarray(-2 * (special.xlogy(y, np.maximum(m, TINY)) + special.xlog1py(1 - y, -np.minimum(m, 1 - 1e-16))))


def family(name: str, link: str | None = None, theta: float | None = None) -> Family:
    """gaussian, binomial, poisson or negative-binomial (with its theta). link: None takes identity, logit, log, log."""
    usual = {"gaussian": "identity", "binomial": "logit", "poisson": "log", "negative-binomial": "log"}
    if name not in usual:
        raise UnsupportedError(f"family {name!r} is not one of {', '.join(usual)}")
    allowed = {"gaussian": ("identity", "log"), "binomial": ("logit", "probit", "cloglog", "log", "identity")}
    chosen = link or usual[name]
    if chosen not in allowed.get(name, ("log", "identity")):
        raise UnsupportedError(f"{name} with link {chosen!r}; use {', '.join(allowed.get(name, ('log', 'identity')))}")
    g = LINKS[chosen]
    if name == "gaussian":
        return Family(name, g, np.ones_like, lambda y, m: (y - m) ** 2, lambda y: _positive(y, chosen), "identity", None)
    if name == "binomial":
        return Family(name, g, lambda m: np.maximum(m * (1 - m), TINY), _binary_deviance, lambda y: (y + 0.5) / 2, "logit")
    if name == "poisson":
        return Family(name, g, lambda m: np.maximum(m, TINY), _count_deviance, lambda y: y + 0.1, "log")
    t = 1.0 if theta is None else theta

    def deviance(y: Array, m: Array) -> Array:
        return np.asarray(2 * (special.xlogy(y, y / np.maximum(m, TINY)) - (y + t) * np.log((y + t) / (m + t))))

    return Family(name, g, lambda m: np.maximum(m + m * m / t, TINY), deviance, lambda y: y + 1 / 6, "none", 1.0, t)


def _positive(y: Array, link: str) -> Array:
    return y if link == "identity" else np.maximum(y, np.mean(np.abs(y)) / 10)


def check_outcome(name: str, y: Array, column: str) -> None:
    """DataError for an outcome that the family cannot have."""
    if name == "binomial":
        bad, words = (y != 0) & (y != 1), "a binary outcome is 0 or 1"
    elif name in ("poisson", "negative-binomial"):
        bad, words = (y < 0) | (y != np.round(y)), "a count is 0, 1, 2 …"
    else:
        return
    if (not bad.any() and name == "binomial" and np.ptp(y) == 0) or (name != "binomial" and not y.any()):
        raise DataError(f"the outcome is {y[0]:g} for every subject", column=column, remedy="there is no effect to estimate")
    if bad.any():
        raise DataError(words, column=column, value=f"{y[bad][0]:g}", remedy="recode the outcome or choose another family")
