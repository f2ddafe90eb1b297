"""Means of the arms of a trial after adjustment, their covariance, and contrasts of them.

Delta method on the regression's coefficients, with a model-based (Ge, Durham, Meyer, Xie and Thomas, Drug Information Journal
2011) or sandwich covariance: conditional on the covariates seen. By influence function: of the augmented inverse-probability
estimator, covariates random, model free; "influence by arm" with each arm's own divisor. "vcovG": the same limit, its moments
taken arm by arm (Ye, Bannick, Yi and Shao, Statistical Theory and Related Fields 2023, equation 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, RefusalError
from gemello.trial.analysis.arms import Randomised, word
from gemello.trial.analysis.result import Coefficients, Estimate, Scale
from gemello.trial.analysis.stratified import correction

Array = NDArray[np.float64]
Measure = Literal["difference", "log ratio", "log odds ratio"]
MEASURES: tuple[str, ...] = ("difference", "log ratio", "log odds ratio")
_WORDS = {
    "mean": ("mean", "mean difference", "log mean ratio"), "risk": ("risk", "risk difference", "log risk ratio"),
    "rate": ("rate", "rate difference", "log rate ratio"),
}  # fmt: skip


@dataclass(frozen=True)
class Margins:
    """arms: control first. values: (arms,) means, risks or rates (kind). covariance: (arms, arms), by the method that ran; `by`
    holds it for every other way that is defined. df: of t, None for normal theory. counts: (arms,) subjects."""

    arms: tuple[str, ...]
    values: Array
    covariance: Array
    kind: Literal["mean", "risk", "rate"]
    method: str
    n: int
    counts: tuple[int, ...]
    df: float | None = None
    by: Mapping[str, Array] = field(default_factory=dict)
    coefficients: Coefficients | None = None
    warnings: tuple[str, ...] = ()
    level: float = 0.95

    def mean(self, arm: str | float) -> Estimate:
        """The adjusted mean of one arm."""
        i = self._arm(arm)
        return self._estimate(self.arms[i], _WORDS[self.kind][0], float(self.values[i]), np.eye(len(self.arms))[i], "identity")

    @property
    def means(self) -> tuple[Estimate, ...]:
        """The adjusted means of all arms."""
        return tuple(self.mean(a) for a in self.arms)

    def contrast(self, arm: str | float, against: str | float | None = None, measure: str = "difference") -> Estimate:
        """One arm against another (None: control). measure: "difference", "log ratio", "log odds ratio".
        Raises DataError for a ratio of means that are not above 0 (odds: between 0 and 1)."""
        i, j = self._arm(arm), 0 if against is None else self._arm(against)
        if i == j:
            raise DataError(f"arm {self.arms[i]!r} against itself", remedy="name two arms")
        value, slope = _measured(self.values[i], self.values[j], measure)
        gradient = np.zeros(len(self.arms))
        gradient[i], gradient[j] = slope
        words = "log odds ratio" if measure == "log odds ratio" else _WORDS[self.kind][1 if measure == "difference" else 2]
        sign = "−" if measure == "difference" else "/"
        return self._estimate(
            f"{self.arms[i]} {sign} {self.arms[j]}", words, value, gradient, "identity" if measure == "difference" else "log"
        )

    def contrasts(self, measure: str = "difference", pairs: Literal["control", "all"] = "control") -> tuple[Estimate, ...]:
        """Every arm against control, or every pair."""
        k = len(self.arms)
        chosen = [(i, 0) for i in range(1, k)] if pairs == "control" else [(i, j) for j in range(k) for i in range(j + 1, k)]
        return tuple(self.contrast(self.arms[i], self.arms[j], measure) for i, j in chosen)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Differences to control."""
        return self.contrasts()

    def _arm(self, arm: str | float) -> int:
        if (name := word(arm)) not in self.arms:
            raise DataError(f"no arm {name!r}", remedy=f"the trial has {', '.join(self.arms)}")
        return self.arms.index(name)

    def _estimate(self, label: str, measure: str, value: float, gradient: Array, scale: Scale) -> Estimate:
        extra: dict[str, Any] = {"warnings": self.warnings, "se_by": errors_by(gradient, self.by)}
        se = error_of(gradient, self.covariance, label)
        return Estimate(label, measure, value, se, self.method, self.n, self.df, scale, self.level, extra=extra)


def error_of(gradient: Array, covariance: Array, label: str) -> float:
    """Standard error of a combination. Raises RefusalError where a correction for strata left no positive variance."""
    variance, size = float(gradient @ covariance @ gradient), float(gradient**2 @ np.abs(np.diag(covariance)))
    if not variance > -1e-12 * size:
        raise RefusalError(f"{label}: the variance is not positive ({variance:.3g}); strata or arms are too small, use HC3")
    return float(np.sqrt(max(variance, 0.0)))


def errors_by(gradient: Array, by: Mapping[str, Array]) -> dict[str, float]:
    """Standard errors of a combination by every covariance that gives a positive variance."""
    variances = {k: float(gradient @ c @ gradient) for k, c in by.items()}
    return {k: float(np.sqrt(v)) for k, v in variances.items() if v > 0}


def _measured(a: float, b: float, measure: str) -> tuple[float, tuple[float, float]]:
    """A contrast of two means and its derivatives by them."""
    if measure == "difference":
        return float(a - b), (1.0, -1.0)
    if measure == "log ratio":
        if not min(a, b) > 0:
            raise DataError(f"no ratio of {a:g} to {b:g}", remedy="use the difference")
        return float(np.log(a / b)), (1 / a, -1 / b)
    if measure == "log odds ratio":
        if not (min(a, b) > 0 and max(a, b) < 1):
            raise DataError(f"no odds of {a:g} and {b:g}", remedy="use the difference or the ratio")
        return float(np.log(a / (1 - a) / (b / (1 - b)))), (1 / (a * (1 - a)), -1 / (b * (1 - b)))
    raise DataError(f"measure {measure!r} is not known", remedy=f"one of {', '.join(MEASURES)}")


def words_of(kind: str) -> str:
    """A covariance in words."""
    return {
        "model": "delta method, model-based covariance", "influence": "influence function",
        "influence by arm": "influence function, moments by arm", "vcovG": "robust variance by arm (Ye et al. 2023)",
    }.get(kind, f"delta method, {kind} covariance")  # fmt: skip


def augmentation(trial: Randomised, y: Array, predictions: Array, arm_of: NDArray[np.int64]) -> Array:
    """(m,) mean residual in the arm of each of m quantities: 0 for a canonical link. y, predictions: (n, m). With exposure the
    sum of residuals over the sum of person-time."""
    time = np.ones(len(y)) if trial.exposure is None else trial.exposure
    mine = trial.code[:, None] == arm_of
    return np.asarray(np.sum((y - time[:, None] * predictions) * mine, axis=0) / (time @ mine))


def influence(trial: Randomised, y: Array, predictions: Array, arm_of: NDArray[np.int64]) -> tuple[Array, tuple[str, ...]]:
    """(m, m) covariance of the augmented means by influence function, divisor n(n − 1), and warnings.

    y: (n, m) outcome of each quantity. predictions: (n, m) per unit of exposure. arm_of: (m,).
    """
    n = len(y)
    time = np.ones(n) if trial.exposure is None else trial.exposure
    mine = trial.code[:, None] == arm_of
    shift = augmentation(trial, y, predictions, arm_of)
    residuals = (y - time[:, None] * (predictions + shift)) / (time @ mine / mine.sum(axis=0))
    phi = predictions - predictions.mean(axis=0) + mine * residuals / trial.share[arm_of]
    less, warnings = correction(trial, residuals, arm_of)
    return np.atleast_2d(np.cov(phi, rowvar=False)) / n - less / n, warnings


def by_arm(trial: Randomised, y: Array, predictions: Array) -> tuple[dict[str, Array], tuple[str, ...]]:
    """(arms, arms) covariances of the means from moments within each arm, divisor n_a − 1, and warnings.

    "vcovG": variance of the outcome, twice its covariance with the predictions, the predictions' variance over all subjects.
    "influence by arm": variance of the residuals in their place; with slopes of every arm this is the variance of ANHECOVA.
    y: (n,), predictions: (n, arms).
    """
    k, n = len(trial.arms), len(y)
    cross, left, own, rest = np.zeros((k, k)), np.zeros((k, k)), np.zeros(k), np.zeros(k)
    for a in range(k):
        here = trial.code == a
        both = np.cov(np.column_stack([y[here], y[here] - predictions[here, a], predictions[here]]), rowvar=False)
        own[a], rest[a], cross[a], left[a] = both[0, 0], both[1, 1], both[0, 2:], both[1, 2:]
    spread = np.atleast_2d(np.cov(predictions, rowvar=False))
    v = np.diag((own + np.diag(spread) - 2 * np.diag(cross)) / trial.share) + cross + cross.T - spread
    w = np.diag(rest / trial.share) + left + left.T + spread
    residuals = y[:, None] - predictions - augmentation(trial, np.repeat(y[:, None], k, 1), predictions, np.arange(k))
    less, warnings = correction(trial, residuals, np.arange(k))
    return {"vcovG": (v - less) / n, "influence by arm": (w - less) / n}, warnings


def covariances(
    trial: Randomised,
    y: Array,
    predictions: Array,
    gradient: Array,
    of_coefficients: Callable[[str], Array],
    kinds: tuple[str, ...],
) -> tuple[dict[str, Array], dict[str, tuple[str, ...]]]:
    """Every covariance of the arms' means that is defined, by name, and the warnings of each.

    gradient: (arms, k) of the means by the coefficients. of_coefficients: (k, k) for the names in kinds.
    """
    k = len(trial.arms)
    out: dict[str, Array] = {}
    said: dict[str, tuple[str, ...]] = {}
    for kind in kinds:
        try:
            out[kind] = gradient @ of_coefficients(kind) @ gradient.T
        except DataError:  # a leverage of 1: said where this one is asked for
            continue
    out["influence"], said["influence"] = influence(trial, np.repeat(y[:, None], k, 1), predictions, np.arange(k))
    if trial.exposure is None:
        more, warnings = by_arm(trial, y, predictions)
        out |= more
        said |= dict.fromkeys(more, warnings)
    for kind in kinds:
        said[kind] = _unaware(trial, kind)
    return out, said


def _unaware(trial: Randomised, kind: str) -> tuple[str, ...]:
    if trial.scheme == "simple":
        return ()
    return (f"{kind} takes no account of {trial.scheme} randomisation and may be too wide; use influence or vcovG",)
