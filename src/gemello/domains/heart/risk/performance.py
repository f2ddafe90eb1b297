"""How well a score and its classes predict the known risk of drugs: the statistics of the CiPA papers, and proper scores.

Definitions (Li et al. 2019, Clin Pharmacol Ther 105:466, Methods and Table 2): classes 0 low, 1 intermediate, 2 high. Threshold 1
separates low from the others, threshold 2 high from the others. Each is computed once for every joint sample of all drugs; the
median and the 2.5 % and 97.5 % quantiles over samples are reported. Classification errors are of the drugs left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from gemello.domains.heart.risk.logit import LeaveOneOut

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEAST = 1e-6  # stands for a rate of 0 in likelihood ratios, as in the published tables (LR− of 1.5e-6 = 1e-6/(2/3))
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Interval:
    """A statistic: median and 95 % interval over samples, or a mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Performance:
    """Leave-one-drug-out performance.

    auc1, auc2: probability that a drug above threshold 1 (2) has the lower score than one below. pairwise: the same over all
    pairs of drugs of different classes. lr_plus, lr_minus: likelihood ratios at thresholds 1 and 2. error: |predicted − true
    class|, mean over samples and drugs, with the normal interval of all samples. right: drugs whose modal class is right. brier,
    log_loss, rps: of the mean probabilities of each drug, mean over drugs ± 1.96 standard errors (Brier over three classes, 0 to
    2; ranked probability score 0 to 2, Epstein 1969, J Appl Meteorol 8:985).
    """

    auc1: Interval
    auc2: Interval
    pairwise: Interval
    lr_plus: tuple[Interval, Interval]
    lr_minus: tuple[Interval, Interval]
    error: Interval
    right: int
    brier: Interval
    log_loss: Interval
    rps: Interval

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each, as words."""
        return [
            ("drugs in the right class (modal)", str(self.right)),
            ("classification error, mean over drugs", str(self.error)),
            ("AUC, low against the others", str(self.auc1)),
            ("AUC, high against the others", str(self.auc2)),
            ("pairs of drugs in the right order", str(self.pairwise)),
            ("LR+ at threshold 1; 2", f"{self.lr_plus[0]}; {self.lr_plus[1]}"),
            ("LR− at threshold 1; 2", f"{self.lr_minus[0]}; {self.lr_minus[1]}"),
            ("Brier score", str(self.brier)),
            ("log loss", str(self.log_loss)),
            ("ranked probability score", str(self.rps)),
        ]


def performance(found: LeaveOneOut) -> Performance:
    """All statistics of a leave-one-drug-out prediction."""
    truth, predicted = found.classes, found.predicted
    p = found.probabilities.mean(axis=1)
    ratios = [likelihood_ratios(predicted >= j, truth >= j) for j in (1, 2)]
    modal = np.array([np.bincount(row, minlength=3).argmax() for row in predicted])
    return Performance(
        auc1=across(auc(found.scores, truth >= 1)),
        auc2=across(auc(found.scores, truth >= 2)),
        pairwise=across(concordance(found.scores, truth)),
        lr_plus=(across(ratios[0][0]), across(ratios[1][0])),
        lr_minus=(across(ratios[0][1]), across(ratios[1][1])),
        error=class_error(predicted, truth),
        right=int(np.sum(modal == truth)),
        brier=over_drugs(brier(p, truth)),
        log_loss=over_drugs(log_loss(p, truth)),
        rps=over_drugs(ranked(p, truth)),
    )


# ---- each statistic ------------------------------------------------------------------------------------------------
def auc(scores: ArrayLike, above: ArrayLike) -> Floats:
    """(samples,) probability that a drug of `above` (drugs,) has the lower score, ties a half. scores: (drugs, samples)."""
    return concordance(scores, np.asarray(above, dtype=np.int64))


def concordance(scores: ArrayLike, classes: ArrayLike) -> Floats:
    """(samples,) share of pairs of drugs of different classes in which the riskier one has the lower score, ties a half."""
    x, y = np.asarray(scores, float), np.asarray(classes)
    total, pairs = np.zeros(x.shape[1]), 0
    for i in range(len(y)):
        safer = x[y < y[i]]
        total += np.sum(x[i] < safer, axis=0) + 0.5 * np.sum(x[i] == safer, axis=0)
        pairs += len(safer)
    return total / pairs if pairs else np.full(x.shape[1], np.nan)


def likelihood_ratios(called: ArrayLike, truly: ArrayLike) -> tuple[Floats, Floats]:
    """LR+ = sensitivity/(1 − specificity) and LR− = (1 − sensitivity)/specificity, (samples,) each; a rate of 0 counts as 1e-6.

    called: (drugs, samples) said to be above the threshold; truly: (drugs,) being so.
    """
    c, t = np.asarray(called, bool), np.asarray(truly, bool)
    hit, alarm = c[t].mean(axis=0), c[~t].mean(axis=0)

    def at_least(rate: Floats) -> Floats:
        return np.maximum(rate, LEAST)

    return at_least(hit) / at_least(alarm), at_least(1.0 - hit) / at_least(1.0 - alarm)


def brier(p: ArrayLike, truth: ArrayLike) -> Floats:
    """(drugs,) Σ over classes of (P − [it is the class])², 0 to 2 (Brier 1950, Mon Weather Rev 78:1). p: (drugs, classes)."""
    q = np.asarray(p, float)
    return np.asarray(np.sum((q - np.eye(q.shape[1])[np.asarray(truth)]) ** 2, axis=1))


def log_loss(p: ArrayLike, truth: ArrayLike) -> Floats:
    """(drugs,) −log P(true class), natural logarithm."""
    q, t = np.asarray(p, float), np.asarray(truth)
    return np.asarray(-np.log(np.maximum(q[np.arange(len(t)), t], LEAST_PROBABILITY)))


def ranked(p: ArrayLike, truth: ArrayLike) -> Floats:
    """(drugs,) ranked probability score: Σ over thresholds of (P(class ≥ j) − [class ≥ j])²; being two classes off costs more."""
    q = np.asarray(p, float)
    above = q[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    there = np.asarray(truth)[:, None] >= np.arange(1, q.shape[1])
    return np.asarray(np.sum((above - there) ** 2, axis=1))


# ---- intervals -----------------------------------------------------------------------------------------------------
def across(values: ArrayLike) -> Interval:
    """Median and 95 % interval over samples."""
    low, middle, high = np.quantile(np.asarray(values, float), [0.025, 0.5, 0.975])
    return Interval(float(middle), float(low), float(high))


def over_drugs(values: ArrayLike) -> Interval:
    """Mean over drugs ± 1.96 standard errors."""
    v = np.asarray(values, float)
    half = 1.96 * v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan
    return Interval(float(v.mean()), float(v.mean() - half), float(v.mean() + half))


def class_error(predicted: ArrayLike, truth: ArrayLike) -> Interval:
    """Mean |predicted − true class| with its normal interval over all samples as if independent, as the published tables give it:
    how well the mean is computed, not how it would differ with other drugs. predicted: (drugs, samples); truth: (drugs,)."""
    off = np.abs(np.asarray(predicted) - np.asarray(truth)[:, None])
    half = 1.96 * float(off.std()) / np.sqrt(off.size)
    return Interval(float(off.mean()), float(off.mean() - half), float(off.mean() + half))


@dataclass(frozen=True)
class Bin:
    """Drugs whose predicted P(class ≥ j) lies in one interval: mean prediction, share that are so with its 95 % interval
    (Clopper & Pearson 1934), number of drugs."""

    threshold: int
    predicted: float
    observed: Interval
    drugs: int


def calibration(p: ArrayLike, truth: ArrayLike, bins: int = 4) -> list[Bin]:
    """Predicted against observed, for thresholds 1 and 2, in `bins` equal intervals of the prediction; empty ones are left out.

    p: (drugs, 3) mean probabilities of drugs left out.
    """
    q, t = np.asarray(p, float), np.asarray(truth)
    out = []
    for j in (1, 2):
        above = q[:, j:].sum(axis=1)
        place = np.minimum((above * bins).astype(int), bins - 1)
        for b in range(bins):
            here = place == b
            if here.any():
                n, k = int(here.sum()), int((t[here] >= j).sum())
                out.append(Bin(j, float(above[here].mean()), exact(k, n), n))
    return out


def exact(k: int, n: int, level: float = 0.95) -> Interval:
    """Share k/n with its exact interval (Clopper & Pearson 1934, Biometrika 26:404)."""
    tail = 0.5 * (1.0 - level)
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - tail))
    return Interval(k / n, low, high)
