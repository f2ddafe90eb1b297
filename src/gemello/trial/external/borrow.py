"""Bayesian borrowing from external controls with patient-level data, covariates in the model.

    η = α + β·treatment + δ·external + γ'covariates

δ, the drift, is what external controls differ by from the trial's own. Borrowing says how much of it is believed:

    none         external subjects are left out
    full         δ = 0
    power        δ = 0, every external subject counts a0 (Ibrahim & Chen 2000)
    normalised_power  the same with a0 ~ Beta, the prior normalised (Duan, Ye & Smith 2006)
    commensurate δ ~ normal(0, 1/τ), τ unknown (Hobbs et al. 2011, Biometrics 67:1047; Hobbs, Sargent & Carlin 2012)
    robust_map   δ ~ normal(0, 2τ²), τ half-normal (two exchangeable studies with unknown mean), or with probability `weight`
    vague
                 (Schmidli et al. 2014): the vague part stands on the drift here

Integrals over δ and a0 are by quadrature, those over the regression's parameters by Laplace's approximation (exact for the normal
family at a known SD); the posterior of β is a mixture of normals. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp
from scipy.stats import norm

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.result import Estimate, Scale
from gemello.trial.external.fits import Fit
from gemello.trial.external.mixture import NormalMixture, mixture, normal
from gemello.trial.external.models import FAMILIES, SURVIVAL, Data, Family, Gaussian, laplace, posterior_mean, posterior_mode
from gemello.trial.external.priors import drift_nodes, power_nodes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A borrowing method. kind: as at the head of this file. options: a0; a, b of its distribution; sd_scale or gamma of the
    drift's SD or precision; weight and vague_sd of the vague part."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Method and options, for a report."""
        said = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.options.items())
        name = {"none": "no", "robust_map": "robust MAP"}.get(self.kind, self.kind.replace("_", " "))
        return f"{name} borrowing" + (f" ({said})" if said else "")


NONE, FULL = Method("none"), Method("full")


def power(a0: float) -> Method:
    """Power prior with a fixed power."""
    if not 0 < a0 <= 1:
        raise DataError("not a power", column="a0", value=a0, remedy="give a0 above 0 and up to 1; or borrow none")
    return Method("power", {"a0": a0})


def normalised_power(a: float = 1.0, b: float = 1.0) -> Method:
    """Normalised power prior, a0 ~ Beta(a, b)."""
    return Method("normalised_power", {"a": a, "b": b})


def commensurate(*, sd_scale: float | None = None, gamma: tuple[float, float] | None = None) -> Method:
    """Drift SD ~ half-normal(sd_scale), or its precision ~ gamma(shape, rate)."""
    drift_nodes(sd_scale, gamma)
    return Method("commensurate", {"sd_scale": sd_scale} if gamma is None else {"gamma": gamma})


def robust_map(tau_scale: float, weight: float = 0.2, vague_sd: float | None = None) -> Method:
    """Robust meta-analytic predictive prior. vague_sd: of the drift in the vague part; None: one subject's information."""
    if not 0 <= weight < 1 or tau_scale <= 0 or (vague_sd is not None and vague_sd <= 0):
        raise DataError("no robust MAP prior", value=(tau_scale, weight, vague_sd), remedy="give weight in [0, 1), SDs above 0")
    return Method("robust_map", {"tau_scale": tau_scale, "weight": weight} | ({"vague_sd": vague_sd} if vague_sd else {}))


@dataclass(frozen=True, eq=False)
class Borrowed:
    """effect: posterior of the treatment's coefficient. drift: posterior of δ, None where it is fixed. history_share: posterior
    probability that history is not drifted (robust MAP), a0's posterior mean (normalised power), else None. ess: trial controls
    (events, for survival) that the external ones are worth for the effect's precision; negative where conflict costs
    precision."""

    effect: NormalMixture
    estimate: Estimate
    drift: NormalMixture | None
    history_share: float | None
    ess: float
    method: Method


@dataclass(frozen=True, eq=False)
class _Setting:
    data: Data  # columns: intercept, treatment, covariates
    external: Array
    prior: Gaussian
    treated: Array

    def rows(self, keep: NDArray[np.bool_]) -> _Setting:
        d = Data(self.data.family, self.data.x[keep], self.data.y[keep], self.data.event[keep])
        return _Setting(d, self.external[keep], self.prior, self.treated[keep])


def borrow(
    table: pl.DataFrame,
    formula: str,
    treatment: str,
    external: str,
    method: Method,
    *,
    family: Family = "normal",
    event: str | None = None,
    prior_sd: float | None = None,
    level: float = 0.95,
    label: str = "",
) -> Borrowed:
    """Treatment effect with external controls borrowed.

    formula: outcome ~ covariates, or ~ 1 for none; for survival the outcome is the time and `event` the column of 1 (seen) or 0.
    treatment, external: columns of 0 and 1; external subjects must be untreated. prior_sd: of all regression coefficients, normal
    around 0; None: vague, 10⁴ subjects' worth of ignorance in scale (flat, but the normalised power prior, which needs a proper
    one, has it with 100). Effects: mean difference, log odds ratio, log hazard ratio.

    Raises DataError for treated external subjects, an arm without subjects or (survival, binary) without events, times not above
    0, perfect separation.
    """
    s = _setting(table, formula, treatment, external, family, event, prior_sd)
    if method.kind not in _KINDS:
        raise DataError("no such borrowing method", column="method", value=method.kind, remedy=f"one of {', '.join(_KINDS)}")
    effect, drift, share = _KINDS[method.kind](s, method.options)
    # beside a drift that is free, not beside `none`: external subjects then inform covariates and spread in both
    alone = effect.sd if method.kind == "none" else float(np.sqrt(np.linalg.inv(_free(s).information)[1, 1]))
    measure, scale = _MEASURE[family]
    trial = s.external == 0
    n_c, n_t = (_size(s, trial & (s.treated == v)) for v in (0, 1))
    ess = _worth(effect.sd, alone, n_t, n_c)
    said: dict[str, Any] = {"ess_borrowed": ess, "trial_controls": n_c, "external": _size(s, s.external == 1)}
    if drift is not None:
        said |= {"drift": drift.mean, "drift_sd": drift.sd}
    if share is not None:
        said["history_share"] = share
    n = int(trial.sum() if method.kind == "none" else len(trial))
    name = label or f"{treatment} 1 − 0"
    estimate = effect.as_estimate(name, measure, f"{method.words}, {family} model", n, scale=scale, level=level, **said)
    return Borrowed(effect, estimate, drift, share, ess, method)


_MEASURE: dict[Family, tuple[str, Scale]] = {
    "normal": ("mean difference", "identity"), "binary": ("log odds ratio", "log"),
    "exponential": ("log hazard ratio", "log"), "weibull": ("log hazard ratio", "log"),
}  # fmt: skip


def _size(s: _Setting, mask: NDArray[np.bool_]) -> float:
    return float(s.data.event[mask].sum()) if s.data.family in SURVIVAL else float(mask.sum())


def _worth(sd: float, alone: float, n_t: float, n_c: float) -> float:
    """More controls that would bring the variance of a difference from alone² to sd²; inf where no number of controls would."""
    left = (sd / alone) ** 2 * (1 / n_t + 1 / n_c) - 1 / n_t
    return float(1 / left - n_c) if left > 0 else np.inf


def _setting(
    table: pl.DataFrame, formula: str, treatment: str, external: str, family: Family, event: str | None, prior_sd: float | None
) -> _Setting:
    if family not in FAMILIES:
        raise DataError("no such family", column="family", value=family, remedy=f"one of {', '.join(FAMILIES)}")
    needed = [treatment, external] + ([event] if event else [])
    if missing := [c for c in needed if c not in table.columns]:
        raise DataError("no such column", column=missing[0], remedy=f"the table has {', '.join(table.columns[:30])}")
    if (family in SURVIVAL) != (event is not None):
        raise DataError(f"family {family} and event column {event}", remedy="name the event column for survival, and only then")
    f = Formula.parse(formula)
    if f.outcome is None or not f.intercept:
        raise DataError(f"formula {formula!r} has no outcome or no intercept", remedy="write outcome ~ covariates")
    d = design(f, table.drop_nulls(needed))
    assert d.outcome is not None
    codes = {}
    for c in needed:
        codes[c] = d.table[c].cast(pl.Float64).to_numpy()
        if not set(np.unique(codes[c])) <= {0.0, 1.0}:
            raise DataError("not 0 or 1", column=c, remedy="code it 0 and 1")
    a, e = codes[treatment], codes[external]
    if np.any((a == 1) & (e == 1)):
        raise DataError("an external subject is treated", column=external, remedy="external subjects must be controls")
    y, seen = d.outcome, codes[event] if event else np.ones(len(a))
    if family in SURVIVAL and np.any(y <= 0):
        raise DataError("time not above 0", column=f.outcome.text, remedy="give times after the start of follow-up")
    if family == "binary" and not set(np.unique(y)) <= {0.0, 1.0}:
        raise DataError("not 0 or 1", column=f.outcome.text, remedy="code the outcome 0 and 1")
    for name, mask in (("treated", a == 1), ("trial control", (a == 0) & (e == 0)), ("external control", e == 1)):
        if mask.sum() < 2:
            raise DataError(f"{int(mask.sum())} subjects in the {name} arm", column=treatment, remedy="two at least are needed")
        if (family in SURVIVAL and seen[mask].sum() == 0) or (family == "binary" and len(np.unique(y[mask])) < 2):
            raise DataError(f"the {name} arm has no events, or nothing else", column=f.outcome.text, remedy="use another outcome")
    z = d.matrix[:, 1:] - d.matrix[e == 0, 1:].mean(0)  # centred: the intercept is the trial's control level
    x = np.column_stack([np.ones(len(a)), a, z])
    if problem := d.rank_problem():
        raise DataError(f"formula {formula!r}: {problem}", remedy="leave it out")
    data = Data(family, x, y, seen)
    precision = np.zeros(data.size)
    if prior_sd is not None:
        precision[: x.shape[1]] = 1 / prior_sd**2
    return _Setting(data, e, Gaussian(np.zeros(data.size), precision), a)


def _fitted(s: _Setting, w: Array, offset: Array | float = 0.0, at: Array | None = None) -> tuple[float, float, float, Array]:
    """Mean and SD of the treatment's coefficient, log marginal likelihood, mode."""
    fit = posterior_mode(s.data, s.prior, w, offset, at)
    v = float(np.linalg.inv(fit.information)[1, 1])
    mean = posterior_mean(s.data, s.prior, w, fit, offset)
    return float(mean[1]), float(np.sqrt(v)), laplace(fit), fit.values


Result = tuple[NormalMixture, NormalMixture | None, float | None]


def _none(s: _Setting, options: dict[str, Any]) -> Result:
    here = s.rows(s.external == 0)
    mean, sd, _, _ = _fitted(here, np.ones(len(here.external)))
    return normal(mean, sd), None, None


def _full(s: _Setting, options: dict[str, Any]) -> Result:
    mean, sd, _, _ = _fitted(s, np.ones(len(s.external)))
    return normal(mean, sd), None, None


def _power(s: _Setting, options: dict[str, Any]) -> Result:
    mean, sd, _, _ = _fitted(s, np.where(s.external == 1, options["a0"], 1.0))
    return normal(mean, sd), None, None


def _normalised_power(s: _Setting, options: dict[str, Any]) -> Result:
    nodes, prior_w = power_nodes(options["a"], options["b"], 24)
    history = s.rows(s.external == 1)
    # history has no treatment: its column goes; the initial prior must be proper for the constant to exist
    keep = [0, *range(2, history.data.size)]
    k = history.data.x.shape[1]
    hd = Data(history.data.family, history.data.x[:, [0, *range(2, k)]], history.data.y, history.data.event)
    mode = posterior_mode(hd, Gaussian(s.prior.mean[keep], s.prior.precision[keep]), np.ones(len(hd.y)))
    unit = np.diag(mode.information) / max(float(_size(history, history.external == 1)), 1.0)
    proper = np.where(s.prior.precision[keep] > 0, s.prior.precision[keep], unit / 100.0)
    centre = np.where(s.prior.precision[keep] > 0, s.prior.mean[keep], mode.values)
    full_p, full_m = s.prior.precision.copy(), s.prior.mean.copy()
    full_p[keep], full_m[keep] = proper, centre
    both = _Setting(s.data, s.external, Gaussian(full_m, full_p), s.treated)
    log_w, means, sds = [], [], []
    at, at_h = None, mode.values
    for a0, w in sorted(zip(nodes, prior_w, strict=True), reverse=True):
        mean, sd, evidence, at = _fitted(both, np.where(s.external == 1, a0, 1.0), at=at)
        fit = posterior_mode(hd, Gaussian(centre, proper), np.full(len(hd.y), a0), at=at_h)
        at_h = fit.values
        log_w.append(np.log(max(w, 1e-300)) + evidence - laplace(fit))
        means.append(mean)
        sds.append(sd)
    weights = np.exp(np.array(log_w) - logsumexp(log_w))
    return mixture(weights.tolist(), means, sds), None, float(weights @ np.sort(nodes)[::-1])


@dataclass(frozen=True, eq=False)
class _Drift:
    """of: drifts (D,) -> log marginal likelihood, mean and SD of the effect. peak, sd: of the likelihood of the drift."""

    of: Callable[[Array], tuple[Array, Array, Array]]
    peak: float
    sd: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Range outside of which the likelihood is nothing; 0 is within."""
        return min(self.peak - 7 * self.sd, -self.sd), max(self.peak + 7 * self.sd, self.sd)


def _free(s: _Setting) -> Fit:
    """Fit with a drift of its own, the column after the others."""
    k = s.data.x.shape[1]
    wide = Data(s.data.family, np.column_stack([s.data.x, s.external]), s.data.y, s.data.event)
    prior = Gaussian(np.insert(s.prior.mean, k, 0.0), np.insert(s.prior.precision, k, 0.0))
    return posterior_mode(wide, prior, np.ones(len(s.external)))


def _drift(s: _Setting) -> _Drift:
    k = s.data.x.shape[1]
    one = np.ones(len(s.external))
    free = _free(s)
    out = _Drift(lambda d: (d, d, d), float(free.values[k]), float(np.sqrt(np.linalg.inv(free.information)[k, k])))
    low, high = out.bounds
    grid = np.linspace(low, high, max(29, min(61, int((high - low) / (0.5 * out.sd)) + 1)))
    rows, at = [], None
    for d in grid:
        m, v, evidence, at = _fitted(s, one, d * s.external, at)
        rows.append((evidence, m, v))
    spline = CubicSpline(grid, np.array(rows))

    def of(d: Array) -> tuple[Array, Array, Array]:
        values = spline(d)
        return values[:, 0], values[:, 1], values[:, 2]

    return _Drift(of, out.peak, out.sd)


def _with_drift(drift: _Drift, sds: Array, prior_w: Array, vague_from: int) -> Result:
    """Posterior where δ is a scale mixture of normals around 0; components from `vague_from` on are the vague part."""
    low, high = drift.bounds
    # points: fine around 0, where a spike may be, and around the likelihood's peak
    near = np.sinh(np.linspace(-14, 14, 801)) / np.sinh(14) * max(-low, high)
    d = np.unique(np.r_[near, drift.peak + drift.sd * np.linspace(-7, 7, 561)])
    d = d[(d >= low) & (d <= high)]
    edges = np.r_[low, (d[1:] + d[:-1]) / 2, high]
    log_like, mean, sd = drift.of(d)
    # a cell's prior probability, not density times width: a spike narrower than the cells keeps its mass
    cell = np.diff(norm.cdf(edges[:, None] / sds), axis=0) * prior_w
    joint = cell * np.exp(log_like - log_like.max())[:, None]
    joint /= joint.sum()
    share = float(joint[:, :vague_from].sum()) if vague_from < len(sds) else None
    mass = joint.sum(1)
    keep = mass > 1e-13
    effect = mixture(mass[keep].tolist(), mean[keep].tolist(), sd[keep].tolist())
    widths = np.maximum(np.diff(edges)[keep] / np.sqrt(12), 1e-300)
    return effect, mixture(mass[keep].tolist(), d[keep].tolist(), widths.tolist()), share


def _commensurate(s: _Setting, options: dict[str, Any]) -> Result:
    sds, w = drift_nodes(options.get("sd_scale"), options.get("gamma"))
    return _with_drift(_drift(s), sds, w, len(sds))


def _robust_map(s: _Setting, options: dict[str, Any]) -> Result:
    sds, w = drift_nodes(options["tau_scale"], None)
    drift = _drift(s)
    n_h, n_c = _size(s, s.external == 1), _size(s, (s.external == 0) & (s.treated == 0))
    vague = options.get("vague_sd") or drift.sd * np.sqrt(2 / (1 / n_h + 1 / n_c))  # one subject on either side
    p = options["weight"]
    return _with_drift(drift, np.append(np.sqrt(2) * sds, vague), np.append(w * (1 - p), p), len(sds))


_KINDS: dict[str, Callable[[_Setting, dict[str, Any]], Result]] = {
    "none": _none, "full": _full, "power": _power, "normalised_power": _normalised_power,
    "commensurate": _commensurate, "robust_map": _robust_map,
}  # fmt: skip
