"""Priors of a control parameter from history, for estimates that are normal with a known standard error.

A mean, a logit, a log rate: `history` is a list of (estimate, standard error), one a study. Each function gives the prior of the
new trial's control parameter as a `NormalMixture`; `update` with the trial's own control estimate is the posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import roots_jacobi

from gemello.base.errors import DataError
from gemello.trial.external.mixture import NormalMixture, mixture, normal

Array = NDArray[np.float64]
Study = tuple[float, float]
Density = Callable[[Array], Array]


def _history(history: Sequence[Study]) -> tuple[Array, Array]:
    values = np.array([h[0] for h in history], float)
    errors = np.array([h[1] for h in history], float)
    if not len(values) or not np.all(np.isfinite(values)) or not np.all(errors > 0) or not np.all(np.isfinite(errors)):
        raise DataError(
            "history without finite estimates and standard errors above 0", remedy="give (estimate, se) of each study"
        )
    return values, errors


def pooled(history: Sequence[Study]) -> Study:
    """Inverse-variance mean of the studies and its standard error."""
    values, errors = _history(history)
    w = 1 / errors**2
    return float(w @ values / w.sum()), float(1 / np.sqrt(w.sum()))


def power_prior(history: Sequence[Study], a0: float) -> NormalMixture:
    """Likelihood of history to the power a0 in (0, 1], with a flat initial prior: its variance is divided by a0 (Ibrahim & Chen
    2000, Stat Sci 15:46). Raises DataError for other a0; a0 = 0 is no prior: leave history out."""
    if not 0 < a0 <= 1:
        raise DataError("not a power", column="a0", value=a0, remedy="give a0 above 0 and up to 1; leave history out for 0")
    mean, se = pooled(history)
    return normal(mean, se / np.sqrt(a0))


def power_nodes(a: float, b: float, count: int = 40) -> tuple[Array, Array]:
    """(count,) values of a0 and their weights under Beta(a, b): Gauss–Jacobi, exact for polynomials of degree 2·count − 1."""
    if a <= 0 or b <= 0:
        raise DataError("not a beta distribution", column="a0", value=(a, b), remedy="give two numbers above 0")
    x, w = roots_jacobi(count, b - 1, a - 1)
    return (x + 1) / 2, w / w.sum()


def normalised_power_prior(history: Sequence[Study], a: float = 1.0, b: float = 1.0) -> NormalMixture:
    """Power a0 ~ Beta(a, b), the prior normalised for each a0 (Duan, Ye & Smith 2006, Environmetrics 17:95; Neuenschwander,
    Branson & Spiegelhalter 2009, Stat Med 28:3562). The trial's data move a0 too."""
    mean, se = pooled(history)
    a0, w = power_nodes(a, b)
    return mixture(w.tolist(), [mean] * len(w), (se / np.sqrt(a0)).tolist())


def commensurate_prior(
    history: Sequence[Study], *, sd_scale: float | None = None, gamma: tuple[float, float] | None = None
) -> NormalMixture:
    """Control parameter ~ normal(history's, 1/τ) (Hobbs et al. 2011, Biometrics 67:1047). The commensurability is unknown:
    either its SD τ^−½ ~ half-normal(sd_scale), or τ ~ gamma(shape, rate). Raises DataError unless one of the two is given."""
    mean, se = pooled(history)
    sd, w = drift_nodes(sd_scale, gamma)
    return mixture(w.tolist(), [mean] * len(w), np.sqrt(se**2 + sd**2).tolist())


def drift_nodes(sd_scale: float | None, gamma: tuple[float, float] | None, count: int = 160) -> tuple[Array, Array]:
    """(count,) values of the SD between trial and history and their probabilities: a trapezium rule even in log SD over all but
    10⁻⁷ of the distribution at either end (a precision below e⁻⁶⁰ is left out: no data would ever choose it)."""
    if (sd_scale is None) == (gamma is None):
        raise DataError("commensurability needs one distribution", remedy="give sd_scale or gamma=(shape, rate)")
    if sd_scale is not None:
        _positive("sd_scale", sd_scale)
        log_sd = np.linspace(np.log(sd_scale * 1e-7), np.log(sd_scale * 5.5), count)
        weight = np.exp(log_sd - 0.5 * (np.exp(log_sd) / sd_scale) ** 2)
        return np.exp(log_sd), weight / weight.sum()
    assert gamma is not None
    shape, rate = gamma
    _positive("gamma", min(shape, rate))
    with np.errstate(divide="ignore"):
        low = max(float(np.log(stats.gamma.ppf(1e-7, shape, scale=1 / rate))), -60.0)
    high = float(np.log(stats.gamma.isf(1e-7, shape, scale=1 / rate)))
    log_tau = np.linspace(low, max(high, low + 1e-6), count)
    log_w = shape * log_tau - rate * np.exp(log_tau)
    weight = np.exp(log_w - log_w.max())
    return np.exp(-log_tau / 2), weight / weight.sum()


def map_prior(
    history: Sequence[Study], tau_scale: float, *, mean: float = 0.0, mean_sd: float | None = None, tau: Density | None = None
) -> NormalMixture:
    """Meta-analytic predictive prior: study parameters ~ normal(μ, τ²), τ ~ half-normal(tau_scale), μ ~ normal(mean, mean_sd)
    or flat (Neuenschwander et al. 2010, Clin Trials 7:5; Schmidli et al. 2014, Biometrics 70:1023).

    τ by quadrature, μ exactly: each τ is a component. tau: another density of τ instead (any constant). With one study and a
    flat μ the heterogeneity is what its prior says.
    """
    values, errors = _history(history)
    _positive("tau_scale", tau_scale)
    x, w = np.polynomial.legendre.leggauss(200)
    t = 8 * tau_scale * (0.5 * (x + 1)) ** 2  # denser near 0
    w = w * (x + 1)
    log_prior = -0.5 * (t / tau_scale) ** 2 if tau is None else np.log(np.maximum(tau(t), 1e-300))
    precision = 1 / (errors**2 + t[:, None] ** 2)  # (T, studies)
    prior_precision = 0.0 if mean_sd is None else 1 / mean_sd**2
    total = precision.sum(1) + prior_precision
    centre = (precision @ values + prior_precision * mean) / total
    log_like = 0.5 * np.log(precision).sum(1) - 0.5 * (precision * (values - centre[:, None]) ** 2).sum(1)
    log_like += -0.5 * np.log(total) - 0.5 * prior_precision * (centre - mean) ** 2
    log_w = log_like + log_prior + np.log(w)
    weights = np.exp(log_w - log_w.max())
    return mixture(weights.tolist(), centre.tolist(), np.sqrt(1 / total + t**2).tolist())


def robust(prior: NormalMixture, weight: float, *, mean: float | None = None, sd: float) -> NormalMixture:
    """Prior with a vague part of probability `weight` (Schmidli et al. 2014): normal(mean, sd), sd for example that of one
    subject (unit information). mean: the prior's own where None."""
    if not 0 <= weight <= 1:
        raise DataError("not a probability", column="weight", value=weight, remedy="give a number from 0 to 1")
    _positive("sd", sd)
    return prior.with_component(weight, prior.mean if mean is None else mean, sd, "vague")


def _positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise DataError("not above 0", column=name, value=value, remedy="give a positive number")
