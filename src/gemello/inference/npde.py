"""Normalised prediction distribution errors (Brendel et al. 2006, Pharm Res 23:2036; Comets, Brendel & Mentré 2008, Comput
Methods Programs Biomed 90:154).

Of each subject, K replicates of its measured values give their mean and covariance C = L L'. Measured and simulated values are
decorrelated, y* = L⁻¹ (y − mean); the prediction distribution error of a value is the share of its replicates below it,
pde = #(y*_sim < y*) / K, kept inside [1/(2K), 1 − 1/(2K)], and npde = Φ⁻¹(pde). If the model is right npde are standard normal,
and for values that are jointly normal also independent. Without the decorrelation they are prediction discrepancies, pd, which
are uniform and correlated within a subject (Mentré & Escolano 2006).

Values that are limits only are put in at random where the model says that they may be (the "cdf" method of Nguyen, Comets &
Mentré 2012, J Pharmacokinet Pharmacodyn 39:499). With a log-normal error the logarithms are taken first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import solve_triangular
from scipy.special import ndtri

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.inference.observed import Observations, Replicates
from gemello.model.contract import Model

Floats = NDArray[np.float64]
BATCHES = 5
SHAPIRO_LIMIT = 5000  # values beyond which the test's p-values are not tabulated


@dataclass(frozen=True)
class Tests:
    """Whether values (values,) are standard normal: mean and its standard error, variance and its own, and p-values of the
    Wilcoxon signed-rank test (mean 0), Fisher's test (variance 1), the Shapiro-Wilk test, and of all three (Bonferroni: three
    times the least). mean_error, variance_error: Monte Carlo standard errors from the finite number of replicates."""

    values: int
    mean: float
    mean_se: float
    variance: float
    variance_se: float
    p_mean: float
    p_variance: float
    p_normality: float
    p_global: float
    mean_error: float = float("nan")
    variance_error: float = float("nan")

    def to_dict(self) -> dict[str, float | int]:
        """By name, for JSON."""
        return dict(self.__dict__)


@dataclass(frozen=True, eq=False)
class Npde:
    """All (values,): npde, pd (not decorrelated, uniform), typical prediction, and the `data` they belong to. tests: of all
    values, by_output: of each output by name. replicates, seed: of the simulation. notes: what a reader should know."""

    data: Observations
    npde: Floats
    pd: Floats
    typical: Floats
    tests: Tests
    by_output: dict[str, Tests]
    replicates: int
    seed: int
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    def columns(self) -> dict[str, NDArray[Any]]:
        """ID, TIME, TAD, DVID, CENS, DV, PRED, NPDE and PD."""
        d = self.data
        return {
            "ID": np.array(d.ids), "TIME": d.time, "TAD": d.after_dose, "DVID": d.output + 1, "CENS": d.censored, "DV": d.value,
            "PRED": self.typical, "NPDE": self.npde, "PD": self.pd,
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Tests and provenance as plain numbers, for JSON."""
        return {
            "tests": self.tests.to_dict(), "by_output": {k: v.to_dict() for k, v in self.by_output.items()},
            "replicates": self.replicates, "seed": self.seed, "notes": list(self.notes), "provenance": self.provenance,
        }  # fmt: skip


def npde(model: Model, simulated: Replicates) -> Npde:
    """NPDE of the data of these replicates. Raises DataError where there are too few replicates for the longest subject."""
    d, k = simulated.data, len(simulated)
    most = int(np.bincount(d.subject).max())
    if k < 5 * most or k < 100:
        raise DataError(
            f"{k} replicates are too few for {most} values of one subject", column="replicates", value=k,
            remedy=f"simulate at least {max(5 * most, 100)}; 1000 are usual",
        )  # fmt: skip
    log = np.array([getattr(model.outputs[i].residual, "form", "") == "lognormal" for i in d.output], bool)
    if (log & (d.value <= 0)).any():
        at = int(np.argmax(log & (d.value <= 0)))
        raise DataError(
            "a value whose error is log-normal must be above 0", column="DV", value=d.value[at],
            remedy="mark it as below its limit (CENS 1, DV the limit)",
        )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        y, y_sim = np.where(log, np.log(d.value), d.value), np.where(log, np.log(simulated.simulated), simulated.simulated)
    y = _filled(y, y_sim, d.censored, simulated.seed)
    values, flat = _decorrelated(y, y_sim, d.subject)
    pd = _share(y, y_sim)
    notes = []
    if (d.censored != 0).any():
        notes.append(
            f"{int((d.censored != 0).sum())} values that are limits only were put in at random where the model expects them"
        )
    if flat:
        notes.append(f"left out: values of {flat} subjects that do not vary between replicates")
    batches = _batches(y, y_sim, d.subject) if k // BATCHES >= max(2 * most, 30) else []
    tests = lambda here: _with_error(normal_tests(values[here]), [normal_tests(b[here]) for b in batches])  # noqa: E731
    everything = np.ones(len(d), bool)
    return Npde(
        d, values, pd, simulated.typical, tests(everything),
        {model.outputs[int(i)].name: tests(d.output == i) for i in np.unique(d.output)}, k, simulated.seed, tuple(notes),
        simulated.provenance,
    )  # fmt: skip


def _share(y: Floats, y_sim: Floats) -> Floats:
    """(values,) share of the replicates below each value, never 0 or 1."""
    k = len(y_sim)
    return np.clip(np.mean(y_sim < y, axis=0), 1 / (2 * k), 1 - 1 / (2 * k))


def _filled(y: Floats, y_sim: Floats, censored: NDArray[np.int64], seed: int) -> Floats:
    """Values that are limits only replaced by quantiles of the replicates, uniform below (above) the limit."""
    out, random = y.copy(), generator(seed, "npde", "limits").uniform(size=len(y))
    for i in np.flatnonzero(censored != 0):
        below = float(np.mean(y_sim[:, i] < y[i]))
        u = random[i] * below if censored[i] > 0 else below + random[i] * (1 - below)
        out[i] = np.quantile(y_sim[:, i], u)
    return out


def _decorrelated(y: Floats, y_sim: Floats, subject: NDArray[np.int64]) -> tuple[Floats, int]:
    """npde (values,), NaN where a subject's values do not vary; and the number of such subjects."""
    out, flat = np.full(len(y), np.nan), 0
    for k in np.unique(subject):
        here = subject == k
        s = y_sim[:, here]
        mean = s.mean(axis=0)
        c = np.atleast_2d(np.cov(s, rowvar=False))
        try:
            root = np.linalg.cholesky(c)
        except np.linalg.LinAlgError:
            flat += 1
            continue
        star = lambda v, root=root, mean=mean: solve_triangular(root, (v - mean).T, lower=True)  # noqa: E731
        out[here] = ndtri(_share(star(y[here]), star(s).T))
    return out, flat


def _batches(y: Floats, y_sim: Floats, subject: NDArray[np.int64]) -> list[Floats]:
    """The same npde from each of several parts of the replicates."""
    return [_decorrelated(y, part, subject)[0] for part in np.array_split(y_sim, BATCHES)]


def _with_error(t: Tests, batches: list[Tests]) -> Tests:
    if not batches:
        return t
    mean, variance = (float(np.std([getattr(b, n) for b in batches], ddof=1)) for n in ("mean", "variance"))
    return replace(t, mean_error=mean / len(batches) ** 0.5, variance_error=variance / len(batches) ** 0.5)


def normal_tests(x: Floats) -> Tests:
    """Tests of standard normality of x (NaN are left out); p-values NaN for fewer than 3 values."""
    x = x[np.isfinite(x)]
    n = len(x)
    if n < 3:
        return Tests(n, float(np.mean(x)) if n else float("nan"), *([float("nan")] * 7))
    mean, variance = float(np.mean(x)), float(np.var(x, ddof=1))
    p_mean = float(stats.wilcoxon(x).pvalue)
    tail = float(stats.chi2.cdf((n - 1) * variance, n - 1))
    p_variance = 2 * min(tail, 1 - tail)
    p_normal = float(stats.shapiro(x[:: -(-n // SHAPIRO_LIMIT)]).pvalue)
    least = min(1.0, 3 * min(p_mean, p_variance, p_normal))
    return Tests(
        n,
        mean,
        float(np.sqrt(variance / n)),
        variance,
        variance * float(np.sqrt(2 / (n - 1))),
        p_mean,
        p_variance,
        p_normal,
        least,
    )
