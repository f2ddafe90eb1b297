"""Generalised linear models by iteratively reweighted least squares, with model-based and sandwich covariance.

Nelder and Wedderburn (JRSS A 1972). The negative binomial's theta by maximum likelihood in turn with the coefficients (Lawless,
Canadian Journal of Statistics 1987), its coefficients' covariance with theta as given. HC0–HC4 as in `linear`, with working
residuals and the leverage of the last weighted fit (Zeileis, JSS 2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize, special

from gemello.base.errors import ConvergenceError, DataError
from gemello.trial.analysis import separation
from gemello.trial.analysis.families import Family, check_outcome, family
from gemello.trial.analysis.formula import design
from gemello.trial.analysis.linear import checked, sandwich
from gemello.trial.analysis.result import Coefficients

Array = NDArray[np.float64]
STEPS = 100


class NoExtraVarianceError(ConvergenceError):
    """A negative binomial whose theta goes to infinity: the Poisson model is its limit."""


@dataclass(frozen=True)
class GlmFit:
    """family: with its theta. names, values: (k,). inverse: (k, k) of X'WX. matrix: (n, k). scores: (n, k) contributions to the
    estimating equation. leverage, means: (n,). dispersion: 1 unless gaussian. deviance, loglik: of the fit."""

    family: Family
    names: tuple[str, ...]
    values: Array
    inverse: Array
    matrix: Array
    scores: Array
    leverage: Array
    means: Array
    dispersion: float
    deviance: float
    df: int

    def covariance(self, kind: str = "HC3") -> Array:
        """(k, k) covariance of the coefficients: "model", "HC0" … "HC4"."""
        return self.dispersion * self.inverse if kind == "model" else sandwich(self.inverse, self.scores, self.leverage, kind)

    def coefficients(self, kind: str = "model") -> Coefficients:
        """As coefficients, normal theory (gaussian: t with n − k degrees of freedom)."""
        words = f"{self.words}, {'model-based' if kind == 'model' else kind} covariance"
        df = float(self.df) if self.family.name == "gaussian" else None
        return Coefficients(self.names, self.values, self.covariance(kind), df, len(self.means), words)

    @property
    def words(self) -> str:
        """Family and link."""
        theta = f" (theta {self.family.theta:.6g})" if self.family.theta is not None else ""
        return f"{self.family.name} regression{theta}, {self.family.link.name} link"


def glm(
    formula: str,
    table: pl.DataFrame,
    *,
    family: str = "binomial",
    link: str | None = None,
    exposure: str | None = None,
    covariance: str = "model",
    levels: Mapping[str, Sequence[str]] | None = None,
) -> Coefficients:
    """A generalised linear model of a formula on a table; rows with a missing value are left out.

    family: "gaussian", "binomial" (0 or 1), "poisson", "negative-binomial" (theta estimated). exposure: column of person-time,
    its logarithm an offset. Raises DataError for columns that separate (named), that the others determine, outcomes that the
    family cannot have; ConvergenceError where a negative binomial finds no extra variance.
    """
    return fit_formula(formula, table, family=family, link=link, exposure=exposure, levels=levels).coefficients(covariance)


def fit_formula(
    formula: str,
    table: pl.DataFrame,
    *,
    family: str = "binomial",
    link: str | None = None,
    exposure: str | None = None,
    levels: Mapping[str, Sequence[str]] | None = None,
) -> GlmFit:
    """As `glm`, with all that the fit says: theta (family.theta), dispersion, deviance, leverage."""
    if exposure is not None and exposure not in table.columns:
        raise DataError(f"no column {exposure!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    d = design(formula, table if exposure is None else table.filter(pl.col(exposure).is_not_null()), levels=levels)
    if d.outcome is None or d.formula.outcome is None:
        raise DataError(f"formula {formula!r}: no outcome", remedy="write outcome ~ terms")
    checked(d)
    offset = np.zeros(len(d))
    if exposure is not None:
        offset = log_exposure(d.table, exposure)
    return fit(d.matrix, d.outcome, d.names, family, link, offset, d.formula.outcome.text)


def log_exposure(table: pl.DataFrame, column: str) -> Array:
    """(rows,) logarithm of person-time. Raises DataError for words, and for times that are not above 0 and finite."""
    time = table[column].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    bad = np.flatnonzero(~((time > 0) & np.isfinite(time)))
    if len(bad):
        raise DataError("exposure must be above 0", column=column, value=table[column][int(bad[0])], remedy="give person-time")
    return np.asarray(np.log(time), float)


def fit(
    x: Array,
    y: Array,
    names: tuple[str, ...],
    name: str,
    link: str | None = None,
    offset: Array | None = None,
    column: str = "outcome",
) -> GlmFit:
    """x: (n, k) of full rank, y: (n,), offset: (n,). name: of the family."""
    check_outcome(name, y, column)
    shift = np.zeros(len(y)) if offset is None else offset
    if name == "negative-binomial":
        return _negative_binomial(x, y, names, link, shift, column)
    return _irls(x, y, names, family(name, link), shift, column)


def _irls(x: Array, y: Array, names: tuple[str, ...], f: Family, offset: Array, column: str, beta: Array | None = None) -> GlmFit:
    scale = np.linalg.norm(x, axis=0)
    z = x / scale
    eta = _first_eta(f, y, offset) if beta is None else offset + x @ beta
    value = float("inf") if beta is None else float(np.sum(f.deviance(y, f.link.inverse(eta))))
    b = np.zeros(x.shape[1]) if beta is None else beta * scale
    for step in range(STEPS):
        slope, mean = f.link.slope(eta), f.link.inverse(eta)
        weight = slope**2 / f.variance(mean)
        target = eta - offset + (y - mean) / np.where(slope == 0, 1, slope)
        root = np.sqrt(weight)
        q, r = np.linalg.qr(z * root[:, None])
        if np.min(np.abs(np.diag(r))) < 1e-9:
            _refuse_separation(f, x, y, names, column)
            raise ConvergenceError(f"{f.name} regression of {column}: singular after {step} steps; use fewer terms")
        new = np.linalg.solve(r, q.T @ (root * target))
        new, eta, now = _damped(f, z, y, offset, b if step or beta is not None else None, new, value)
        change = float(np.max(np.abs(new - b)) / (1e-8 + np.max(np.abs(new))))
        b, value = new, now
        if change < 1e-11 or (step > 50 and change < 1e-8):
            break
        if step in (12, 30) or (f.name == "binomial" and step > 5 and np.max(np.abs(eta)) > 25):
            _refuse_separation(f, x, y, names, column)
    else:
        _refuse_separation(f, x, y, names, column)
        raise ConvergenceError(
            f"{f.name} regression of {column} did not converge in {STEPS} steps; use fewer terms or another link"
        )
    return _finished(x, y, names, f, offset, b / scale, column)


def _first_eta(f: Family, y: Array, offset: Array) -> Array:
    """A linear predictor to begin with; for a log link with exposure the crude rate keeps the start near."""
    if f.link.name in ("log", "identity") and f.name == "binomial":
        return np.asarray(f.link.of(np.full(len(y), np.clip(y.mean(), 1e-3, 1 - 1e-3))))
    return np.asarray(f.link.of(f.start(y)))


def _damped(
    f: Family, z: Array, y: Array, offset: Array, old: Array | None, new: Array, value: float
) -> tuple[Array, Array, float]:
    """The step, halved while the deviance grows or a mean leaves the family's range."""
    for _ in range(40):
        eta = offset + z @ new
        mean = f.link.inverse(eta)
        inside = f.name == "gaussian" or bool(np.all(mean > 0) and (f.name != "binomial" or np.all(mean < 1 + 1e-15)))
        now = float(np.sum(f.deviance(y, mean))) if inside and np.isfinite(mean).all() else float("inf")
        if old is None and np.isfinite(now):
            break
        if now <= value * (1 + 1e-12) + 1e-12:
            break
        new = (new + (old if old is not None else np.zeros_like(new))) / 2
    return new, eta, now


def _refuse_separation(f: Family, x: Array, y: Array, names: tuple[str, ...], column: str) -> None:
    """SeparatedError where a combination of columns tells the outcomes apart."""
    found = None
    if f.name == "binomial" and f.link.name in ("logit", "probit", "cloglog"):
        found = separation.of_binary(x, y, names)
    elif f.name in ("poisson", "negative-binomial") and f.link.name == "log":
        found = separation.of_counts(x, y, names)
    if found is not None:
        raise separation.SeparatedError(found, names, f"the outcomes of {column}")


def _finished(x: Array, y: Array, names: tuple[str, ...], f: Family, offset: Array, beta: Array, column: str) -> GlmFit:
    eta = offset + x @ beta
    mean, slope = f.link.inverse(eta), f.link.slope(eta)
    weight = slope**2 / f.variance(mean)
    root, scale = np.sqrt(weight), np.linalg.norm(x, axis=0)
    q, r = np.linalg.qr(x / scale * root[:, None])
    if f.name != "gaussian" and np.max(np.abs(beta * np.ptp(x, axis=0))) > 8:
        _refuse_separation(f, x, y, names, column)
    half = np.linalg.solve(r, np.eye(len(beta))) / scale[:, None]
    scores = x * (slope * (y - mean) / f.variance(mean))[:, None]
    df = len(y) - len(beta)
    dispersion = float(np.sum((y - mean) ** 2 / f.variance(mean)) / df) if f.dispersion is None else f.dispersion
    with np.errstate(over="ignore", invalid="ignore"):
        left = float(np.sum((half.T @ scores.sum(axis=0)) ** 2))
    if not left <= 1e-10 * dispersion:  # steps halved to nothing at the edge of the means' range
        raise ConvergenceError(
            f"{f.name} regression of {column}: no maximum within the range of the {f.link.name} link; use another"
        )
    deviance = float(np.sum(f.deviance(y, mean)))
    return GlmFit(f, names, beta, half @ half.T, x, scores, np.sum(q**2, axis=1), mean, dispersion, deviance, df)


def _negative_binomial(x: Array, y: Array, names: tuple[str, ...], link: str | None, offset: Array, column: str) -> GlmFit:
    model = _irls(x, y, names, family("poisson", link), offset, column)
    theta = float("nan")
    for _ in range(200):
        before, theta = theta, _theta(y, model.means, column)
        beta = model.values
        model = _irls(x, y, names, family("negative-binomial", link, theta), offset, column, beta)
        if abs(theta - before) <= 1e-12 * theta and np.max(np.abs(model.values - beta)) < 1e-10:
            break
    return replace(model, family=family("negative-binomial", link, theta))


def _theta(y: Array, m: Array, column: str) -> float:
    """Maximum-likelihood theta at given means, by its score's root in log theta."""

    def score(log_theta: float) -> float:
        t = np.exp(log_theta)
        return float(np.sum(special.digamma(y + t) - special.digamma(t) + np.log(t / (t + m)) + 1 - (y + t) / (t + m)))

    low, high = np.log(1e-6), np.log(1e7)
    if score(high) >= 0:
        raise NoExtraVarianceError(
            f"negative binomial regression of {column}: no variance beyond Poisson's; use family 'poisson'"
        )
    if score(low) <= 0:
        raise ConvergenceError(f"negative binomial regression of {column}: theta goes to 0; use another model")
    return float(np.exp(optimize.brentq(score, low, high, xtol=1e-14, rtol=1e-14, maxiter=300)))
