"""The gates that a prognostic score passes before a trial may use it: drift, calibration, errors of subgroups; or it is refused.

A covariate that predicts badly does no harm to the type I error of a randomised comparison; it wastes a degree of freedom, and a
sample size planned on its correlation is too small. So the gate asks whether the score does what was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError, RefusalError
from gemello.base.random import generator
from gemello.domains.progression.drift import Drift
from gemello.model.generator import Array, Generator, History

FEWEST = 10


@dataclass(frozen=True)
class Thresholds:
    """Where the gates close. The false alarms that they give when nothing is wrong are measured in tests/domains/progression/
    test_gates.py: below 2 % of trials of 100 on 300 with 8 covariates for drift, below 5 % for calibration at a true
    correlation of 0.4.

    alpha: significance that a shift needs, divided among the covariates. difference: standardised one of a covariate, and
    distance of its distribution (Kolmogorov–Smirnov, total variation), that count as drift where significant. auc: with which
    the populations may be told apart. outside: share of participants outside of the history's range. missing: share of a
    covariate's values that may be missing beyond what the history lacks. slope: range that the 95 % interval of the calibration
    slope must touch. error: mean error in SD of the outcome that its 95 % interval must touch (not asked of pooled outcomes).
    correlation: that must be exceeded by the one-sided 95 % limit. subgroup: mean error of a subgroup, in SD of the outcome,
    that is too large where significant.
    """

    alpha: float = 0.01
    difference: float = 0.25
    distance: float = 0.2
    auc: float = 0.65
    outside: float = 0.1
    missing: float = 0.2
    slope: tuple[float, float] = (0.7, 1.4)
    error: float = 0.25
    correlation: float = 0.0
    subgroup: float = 0.5


@dataclass(frozen=True)
class Correlation:
    """Of a score with an outcome. rho with its two-sided interval of `level`; error: of Fisher's z; deflated: what a sample size
    should be planned on; n: persons."""

    rho: float
    lower: float
    upper: float
    level: float
    error: float
    deflated: float
    n: int
    method: str


@dataclass(frozen=True)
class Calibration:
    """Outcome on score. slope and intercept with 95 % intervals (HC3); error: mean of score − outcome, with its interval; sd:
    of the outcome; rmse of the score, and of the outcome's mean; pooled: outcomes of both arms, blinded (their mean is no error
    of the score)."""

    n: int
    slope: float
    slope_interval: tuple[float, float]
    intercept: float
    intercept_interval: tuple[float, float]
    error: float
    error_interval: tuple[float, float]
    sd: float
    rmse: float
    rmse_of_mean: float
    correlation: Correlation
    pooled: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Subgroup:
    """One level of a grouping. error: mean of score − outcome with its 95 % interval; p: of no error; rmse; correlation (NaN
    for few)."""

    group: str
    level: str
    n: int
    error: float
    error_interval: tuple[float, float]
    p: float
    rmse: float
    correlation: float


@dataclass(frozen=True)
class Gate:
    """passed, or not for `reasons`. warnings: what does not close it. figures: whatever was judged, by name, plain numbers."""

    passed: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def enforce(self) -> None:
        """RefusalError with the reasons where the gate is closed."""
        if not self.passed:
            raise RefusalError(f"the prognostic score is refused: {'; '.join(self.reasons)}")


def _pairs(score: Array, outcome: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    s, y = np.asarray(score, float), np.asarray(outcome, float)
    if s.shape != y.shape or s.ndim != 1:
        raise DataError(f"scores {s.shape} and outcomes {y.shape}", remedy="give one of each a person")
    both = np.isfinite(s) & np.isfinite(y)
    if both.sum() < FEWEST:
        raise DataError(f"{int(both.sum())} persons with score and outcome", remedy=f"give {FEWEST} or more")
    return s[both], y[both], both


def correlate(score: Array, outcome: Array, *, level: float = 0.95, assurance: float = 0.8) -> Correlation:
    """Correlation of a score with an outcome it has not seen. score, outcome: (persons,), NaN left out.

    The interval is Fisher's z with its jackknife error, so that it needs no normal outcome (Miller 1974, Biometrika 61:1).
    deflated: the lower one-sided limit of `assurance`, 0 where that is negative: planned on the estimate itself, about half of
    all trials would be too small (Browne 1995, Stat Med 14:1933, for variances). A score or outcome that does not vary has
    correlation 0."""
    s, y, _ = _pairs(score, outcome)
    return _interval([(s, y)], level, assurance, "held out")


def correlate_folds(
    score: Array, outcome: Array, fold: NDArray[Any], *, level: float = 0.95, assurance: float = 0.8
) -> Correlation:
    """The same for scores by several generators, each trained on the other folds: correlations are taken within folds, whose
    scores have one origin, and pooled by Fisher's z with weights n − 3."""
    s, y, both = _pairs(score, outcome)
    f = np.asarray(fold)[both]
    parts = [(s[f == k], y[f == k]) for k in np.unique(f)]
    if min(len(a) for a, _ in parts) < 5:
        raise DataError("a fold of fewer than 5 persons with score and outcome", remedy="take fewer folds")
    return _interval(parts, level, assurance, f"cross-validated, {len(parts)} folds")


def cross_validated(
    train: Callable[[History, int], Generator], history: History, variable: str, at: float, *, folds: int = 5, seed: int = 0,
    level: float = 0.95, assurance: float = 0.8,
) -> Correlation:  # fmt: skip
    """Validated correlation of a way of training with the outcome `variable` at time `at`: what is known at baseline of each
    fold is scored by the generator trained on the others. train: (history, seed) -> generator."""
    fold = generator(seed, "correlation").permutation(np.arange(len(history)) % folds)
    score, outcome = np.full(len(history), np.nan), np.full(len(history), np.nan)
    here = history.time == at
    outcome[history.person[here]] = history.values[variable][here]
    for k in range(folds):
        trained = train(history.take(fold != k), seed)
        score[fold == k] = trained.expected(history.take(fold == k).until(0.0), np.array([at]))[variable][:, 0]
    return correlate_folds(score, outcome, fold, level=level, assurance=assurance)


def _interval(parts: Sequence[tuple[Array, Array]], level: float, assurance: float, method: str) -> Correlation:
    n = sum(len(s) for s, _ in parts)
    z, variance, total = 0.0, 0.0, 0.0
    for s, y in parts:
        weight = len(s) - 3.0
        one, error = _fisher(s, y)
        z, variance, total = z + weight * one, variance + (weight * error) ** 2, total + weight
    z, error = z / total, np.sqrt(variance) / total
    half = float(stats.norm.ppf(0.5 + level / 2)) * error
    deflated = max(float(np.tanh(z - stats.norm.ppf(assurance) * error)), 0.0)
    return Correlation(
        float(np.tanh(z)), float(np.tanh(z - half)), float(np.tanh(z + half)), level, float(error), deflated, n, method
    )


def _fisher(s: Array, y: Array) -> tuple[float, float]:
    """Fisher's z of a sample, and its jackknife error, not below the one of normal data."""
    n = len(s)
    usual = 1 / np.sqrt(n - 3)
    if np.ptp(s) <= 1e-12 * (1 + np.abs(s).max()) or np.ptp(y) <= 1e-12 * (1 + np.abs(y).max()):
        return 0.0, usual
    s, y = (s - s.mean()) / s.std(), (y - y.mean()) / y.std()
    # sums without person i, of standardised values, in closed form
    m = n - 1
    vs, vy, c = n - s**2 - s**2 / m, n - y**2 - y**2 / m, float(s @ y) - s * y - s * y / m
    left = np.arctanh(np.clip(c / np.sqrt(vs * vy), -1 + 1e-12, 1 - 1e-12))
    z = float(np.arctanh(np.clip(s @ y / n, -1 + 1e-12, 1 - 1e-12)))
    return z, float(max(np.sqrt(m / n * np.sum((left - left.mean()) ** 2)), usual))


def calibrate(score: Array, outcome: Array, *, pooled: bool = False) -> Calibration:
    """How a score does on outcomes of the control arm, or, `pooled`, of all arms without knowing which (blinded). NaN left
    out."""
    s, y, _ = _pairs(score, outcome)
    n, centre = len(s), s.mean()
    slope, slope_se, level_se = _regress(s - centre, y)
    q = float(stats.t.ppf(0.975, n - 2))
    intercept = float(y.mean() - slope * centre)
    intercept_se = float(np.hypot(level_se, centre * slope_se))
    off = s - y
    half = q * float(off.std(ddof=1)) / np.sqrt(n)
    return Calibration(
        n, slope, (slope - q * slope_se, slope + q * slope_se), intercept,
        (intercept - q * intercept_se, intercept + q * intercept_se),
        float(off.mean()), (float(off.mean() - half), float(off.mean() + half)), float(y.std(ddof=1)),
        float(np.sqrt(np.mean(off**2))),
        float(y.std()), correlate(s, y), pooled,
    )  # fmt: skip


def _regress(x: Array, y: Array) -> tuple[float, float, float]:
    """Slope of y on centred x, its HC3 error, and the error of the mean; (0, inf) where x does not vary."""
    n, sxx = len(x), float(x @ x)
    if sxx <= 1e-24 * n * (1 + float(np.abs(x).max()) ** 2):
        return 0.0, float("inf"), float(y.std(ddof=1) / np.sqrt(n))
    slope = float(x @ y) / sxx
    e = (y - y.mean() - slope * x) / np.maximum(1 - 1 / n - x**2 / sxx, 1e-9)
    return slope, float(np.sqrt(np.sum((x * e) ** 2))) / sxx, float(np.sqrt(np.sum(e**2))) / n


def subgroup_errors(score: Array, outcome: Array, groups: Mapping[str, Sequence[Any] | NDArray[Any]]) -> tuple[Subgroup, ...]:
    """Errors of each level of each grouping. groups: name -> (persons,) levels (words or numbers); levels of one person are
    left out."""
    s, y, both = _pairs(score, outcome)
    out = []
    for name, values in groups.items():
        if len(values) != len(both):
            raise DataError(f"{len(values)} values for {len(both)} persons", column=name, remedy="give one a person")
        level = np.array([str(v) for v in values], object)[both]
        for one in sorted(set(level.tolist())):
            here = level == one
            if here.sum() < 2:
                continue
            off, n = s[here] - y[here], int(here.sum())
            error = float(off.std(ddof=1)) / np.sqrt(n)
            half = float(stats.t.ppf(0.975, n - 1)) * error
            p = float(2 * stats.t.sf(abs(off.mean()) / error, n - 1)) if error > 0 else float(off.mean() == 0)
            r = float(np.tanh(_fisher(s[here], y[here])[0])) if n >= FEWEST else float("nan")
            mean = float(off.mean())
            out.append(Subgroup(name, one, n, mean, (mean - half, mean + half), p, float(np.sqrt(np.mean(off**2))), r))
    return tuple(out)


def judge(
    drift: Drift | None = None, calibration: Calibration | None = None, subgroups: Sequence[Subgroup] = (), *,
    thresholds: Thresholds | None = None,
) -> Gate:  # fmt: skip
    """Whether a score may be used. Whatever is given is judged; DataError where nothing is. Every reason names figure and
    threshold."""
    if drift is None and calibration is None:
        raise DataError("nothing to judge", remedy="give drift, calibration, or both")
    t = thresholds or Thresholds()
    reasons: list[str] = []
    warnings: list[str] = []
    if drift is not None:
        more, notes = _judge_drift(drift, t)
        reasons += more
        warnings += notes
    if calibration is not None:
        more, notes = _judge_calibration(calibration, t)
        reasons += more
        warnings += notes
        for g in subgroups:
            limit = t.subgroup * calibration.sd
            if not calibration.pooled and abs(g.error) > limit and g.p < t.alpha / max(len(subgroups), 1):
                warnings.append(f"subgroup {g.group} {g.level} (n {g.n}): mean error {g.error:.3g}, above {limit:.3g}")
    figures = {
        "drift": None if drift is None else drift.as_dict(),
        "calibration": None if calibration is None else calibration.as_dict(),
        "subgroups": [asdict(g) for g in subgroups], "thresholds": asdict(t),
    }  # fmt: skip
    return Gate(not reasons, tuple(reasons), tuple(warnings), figures)


def _judge_drift(d: Drift, t: Thresholds) -> tuple[list[str], list[str]]:
    reasons, warnings = [], []
    for s in d.shifts:
        significant = s.p < t.alpha / len(d.shifts)
        if significant and abs(s.difference) > t.difference:
            reasons.append(
                f"drift of {s.name}: standardised difference {s.difference:+.2f} (p {s.p:.2g}), above {t.difference:g}"
            )
        elif significant and s.distance > t.distance:
            reasons.append(
                f"drift of {s.name}: distance of the distributions {s.distance:.2f} (p {s.p:.2g}), above {t.distance:g}"
            )
        elif significant:
            warnings.append(
                f"shift of {s.name}: standardised difference {s.difference:+.2f}, distance {s.distance:.2f} (p {s.p:.2g})"
            )
        if s.missing_trial > s.missing_history + t.missing:
            reasons.append(
                f"{s.name} is missing in {s.missing_trial:.0%} of participants, in {s.missing_history:.0%} of the history"
            )
    if d.auc > t.auc and (d.p < t.alpha or np.isnan(d.p)):
        reasons.append(f"drift: the populations can be told apart with AUC {d.auc:.2f} (p {d.p:.2g}), above {t.auc:g}")
    if d.outside > t.outside:
        reasons.append(f"drift: {d.outside:.0%} of participants are outside of the history's range, above {t.outside:.0%}")
    if d.absent:
        reasons.append(f"the trial lacks {', '.join(d.absent)}, which the score was learned with")
    return reasons, warnings


def _judge_calibration(c: Calibration, t: Thresholds) -> tuple[list[str], list[str]]:
    reasons, warnings = [], []
    limit = float(np.tanh(np.arctanh(c.correlation.rho) - stats.norm.ppf(0.95) * c.correlation.error))
    if not limit > t.correlation:
        words = f"correlation with the outcome {c.correlation.rho:.3f} (one-sided 95 % limit {limit:.3f})"
        reasons.append(f"calibration: {words}, not above {t.correlation:g}")
    low, high = c.slope_interval
    if not (low <= t.slope[1] and high >= t.slope[0]):
        words = f"slope {c.slope:.2f} (95 % interval {low:.2f} to {high:.2f})"
        reasons.append(f"calibration: {words}, not within {t.slope[0]:g} to {t.slope[1]:g}")
    elif not low <= 1 <= high:
        warnings.append(f"calibration slope {c.slope:.2f} (95 % interval {low:.2f} to {high:.2f})")
    bound = t.error * c.sd
    if not c.pooled and not (c.error_interval[0] <= bound and c.error_interval[1] >= -bound):
        low, high = c.error_interval
        reasons.append(f"calibration: mean error {c.error:.3g} (95 % interval {low:.3g} to {high:.3g}), beyond {bound:.3g}")
    return reasons, warnings
