"""What a borrowing rule does over many trials: type I error, power, bias and error as history drifts from the trial's
controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logsumexp
from scipy.stats import binom
from scipy.stats import norm as normal_distribution

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.trial.external.binary import GRID, Rate, beta_prior, log_likelihood
from gemello.trial.external.mixture import NormalMixture
from gemello.trial.external.priors import Study

Array = NDArray[np.float64]
Rule = Callable[[Sequence[Study]], NormalMixture]


@dataclass(frozen=True, eq=False)
class Operating:
    """table: one row a drift (or rate) with columns drift, type1, power, bias, rmse, coverage, borrowed (mean subjects worth),
    each with its Monte Carlo error `…_se` where it was simulated. alone: the same without borrowing, where it was asked for."""

    table: pl.DataFrame
    alone: pl.DataFrame
    words: str

    @property
    def worst_type1(self) -> float:
        """Largest type I error over the drifts looked at."""
        return float(self.table["type1"].max())  # type: ignore[arg-type]


def operating_characteristics(
    rule: Rule,
    *,
    n_history: int,
    n_control: int,
    n_treated: int,
    drifts: Sequence[float],
    effect: float,
    sd: float = 1.0,
    alpha: float = 0.05,
    replicates: int = 10_000,
    history: float | None = None,
    seed: int,
) -> Operating:
    """Simulate trials with a continuous outcome of known SD.

    rule: history [(mean, se)] -> prior of the control mean (`priors`). drifts: true control mean − true mean of history. effect:
    of treatment, for power. history: observed mean of history less its true one (0: history told the truth; type I error then is
    conditional on it); None: drawn anew in each replicate. A trial rejects where the two-sided credible interval of the
    difference at 1 − alpha leaves 0 out. The same draws are used for every drift and without borrowing. Raises DataError for
    fewer than 2 subjects an arm.
    """
    if min(n_history, n_control, n_treated) < 2 or replicates < 100:
        raise DataError("too few subjects or replicates", value=(n_history, n_control, n_treated, replicates), remedy="2 and 100")
    se_h, se_c, se_t = (sd / np.sqrt(n) for n in (n_history, n_control, n_treated))
    prior = rule([(0.0, float(se_h))])
    moved = rule([(float(sd), float(se_h))])
    if not (np.allclose(moved.means - prior.means, sd) and np.allclose(moved.sds, prior.sds)):
        raise DataError(
            "the prior does not move with history one to one", column="rule",
            remedy="use a flat prior of the overall mean, and a vague part that is centred on history",
        )  # fmt: skip
    z = generator(seed, "operating characteristics").standard_normal((3, replicates))
    h = z[0] * se_h if history is None else np.full(replicates, float(history))
    rows, alone = [], []
    for drift in drifts:
        control = drift + z[1] * se_c
        row: dict[str, float] = {"drift": float(drift)}
        bare: dict[str, float] = {"drift": float(drift)}
        for truth, name in ((0.0, "type1"), (effect, "power")):
            treated = drift + truth + z[2] * se_t
            w, m, v = _posterior(prior, h, control, se_c)
            row |= _summary(name, *_difference(w, m, v, treated, se_t), truth, alpha)
            one = np.ones((replicates, 1))
            bare |= _summary(name, *_difference(one, control[:, None], one * se_c**2, treated, se_t), truth, alpha)
            if name == "type1":
                mean = (w * m).sum(1)
                spread = (w * (v + m**2)).sum(1) - mean**2
                row["borrowed"] = float(np.mean(sd**2 / spread - n_control))
        rows.append(row)
        alone.append(bare)
    words = f"{replicates} trials a drift, {n_treated}:{n_control}, history of {n_history}, two-sided {alpha:g}"
    return Operating(pl.DataFrame(rows), pl.DataFrame(alone), words)


def _posterior(prior: NormalMixture, shift: Array, control: Array, se: float) -> tuple[Array, Array, Array]:
    """Weights, means, variances (replicates, k) of the control mean."""
    means = prior.means + shift[:, None]
    total = prior.sds**2 + se**2
    log_w = np.log(np.maximum(prior.weights, 1e-300)) - 0.5 * np.log(total) - 0.5 * (control[:, None] - means) ** 2 / total
    w = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
    precision = 1 / prior.sds**2 + 1 / se**2
    m = (means / prior.sds**2 + control[:, None] / se**2) / precision
    return w, m, np.broadcast_to(1 / precision, m.shape)


def _difference(w: Array, m: Array, v: Array, treated: Array, se_t: float) -> tuple[Array, Array, Array]:
    """Posterior mean and SD of treated − control, and P(difference ≤ 0), each (replicates,). Flat prior of the treated mean."""
    mean_c = (w * m).sum(1)
    var_c = (w * (v + m**2)).sum(1) - mean_c**2
    below = (w * normal_distribution.cdf((m - treated[:, None]) / np.sqrt(v + se_t**2))).sum(1)
    return treated - mean_c, np.sqrt(var_c + se_t**2), below


def _summary(name: str, mean: Array, sd: Array, below: Array, truth: float, alpha: float) -> dict[str, float]:
    n = len(mean)
    reject = (below < alpha / 2) | (below > 1 - alpha / 2)
    rate = float(reject.mean())
    out = {name: rate, f"{name}_se": float(np.sqrt(max(rate * (1 - rate), 1 / n) / n))}
    if name == "type1":
        error = mean - truth
        covered = float(1 - rate)  # the truth is 0 here: it is covered where it is not rejected
        mse = float((error**2).mean())
        out |= {
            "bias": float(error.mean()), "bias_se": float(error.std(ddof=1) / np.sqrt(n)),
            "rmse": float(np.sqrt(mse)), "rmse_se": float((error**2).std(ddof=1) / np.sqrt(n) / (2 * np.sqrt(mse))),
            "coverage": covered, "mean_sd": float(sd.mean()),
        }  # fmt: skip
    return out


def binary_operating(
    prior: Rate,
    *,
    n_control: int,
    n_treated: int,
    rates: Sequence[float],
    effect: float = 0.0,
    treated_prior: tuple[float, float] = (1.0, 1.0),
    threshold: float = 0.975,
) -> Operating:
    """Exact operating characteristics for response rates: every outcome of the trial is enumerated, nothing is simulated.

    A trial rejects where P(treated rate > control rate) > threshold. type1: at equal rates; power: with the treated rate higher
    by effect (NaN where above 1). `alone` has a Beta(1, 1) prior of the control rate.
    """
    tables = {}
    for name, p in (("borrow", prior), ("alone", beta_prior(1, 1))):
        d = beta_prior(*treated_prior).log_density
        treated = np.array([_mass(d + log_likelihood((r, n_treated))) for r in range(n_treated + 1)])
        control = np.array([_mass(p.log_density + log_likelihood((r, n_control))) for r in range(n_control + 1)])
        below = np.cumsum(control, axis=1) - control / 2
        reject = treated @ below.T > threshold  # (treated, control)
        mean_t, mean_c = treated @ expit(GRID), control @ expit(GRID)
        rows = []
        for rate in rates:
            at_c = binom.pmf(np.arange(n_control + 1), n_control, rate)
            at_t = binom.pmf(np.arange(n_treated + 1), n_treated, rate)
            row = {"rate": float(rate), "type1": float(at_t @ reject @ at_c)}
            up = rate + effect
            moved = binom.pmf(np.arange(n_treated + 1), n_treated, up) if up <= 1 else np.full(n_treated + 1, np.nan)
            error = mean_t[:, None] - mean_c[None, :]
            row |= {
                "power": float(moved @ reject @ at_c), "bias": float(at_t @ error @ at_c),
                "rmse": float(np.sqrt(at_t @ error**2 @ at_c)),
            }  # fmt: skip
            rows.append(row)
        tables[name] = pl.DataFrame(rows)
    words = f"exact, {n_treated}:{n_control}, P(treated > control) > {threshold:g}"
    return Operating(tables["borrow"], tables["alone"], words)


def _mass(log_density: Array) -> Array:
    return np.asarray(np.exp(log_density - logsumexp(log_density)))
