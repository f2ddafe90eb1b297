"""Standard errors that are right under stratified randomisation.

Blocks within strata balance the arms, so that the part of the outcome that the strata explain and the model does not adds no
variance. With residual means R of each arm in stratum z, share π of the arms and Ω the limit of the covariance of √n(z) times the
arms' shares within a stratum, the variance under simple randomisation is reduced by Σ_z P(z) R_z' (Ω_simple − Ω) R_z
(Ye, Shao, Yi and Zhao, JASA 2023, theorem 3; Bannick, Shao, Liu, Du, Yi and Ye, Biometrika 2025). Ω: simple diag(π) − ππ'; blocks
and Efron's biased coin 0; Wei's urn, two equal arms, a third of simple (Bugni, Canay and Shaikh, JASA 2018, examples 3.1–3.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.arms import Randomised, randomised
from gemello.trial.analysis.result import Estimate

Array = NDArray[np.float64]
FEW = 5  # subjects in a cell: their mean residual is mostly noise, which the variance is then reduced by
STILL = 1e-8  # of the residual's SD: below it a stratum's mean is rounding


def correction(trial: Randomised, residuals: Array, arm_of: NDArray[np.int64]) -> tuple[Array, tuple[str, ...]]:
    """(m, m) to take from n times the covariance under simple randomisation, and warnings.

    residuals: (n, m) outcome less prediction (and less its mean in the arm) for m quantities; arm_of: (m,) arm of each. A stratum
    without subjects of an arm adds nothing (conservative).
    """
    m = residuals.shape[1]
    if trial.scheme == "simple" or trial.strata is None:
        return np.zeros((m, m)), ()
    pi, groups = trial.share, int(trial.strata.max()) + 1
    difference = (np.diag(pi) - np.outer(pi, pi)) * _gain(trial.scheme, pi)
    out, empty, few = np.zeros((m, m)), 0, 0
    means = np.zeros((groups, m))
    for z in range(groups):
        here = trial.strata == z
        for j in range(m):
            mine = here & (trial.code == arm_of[j])
            means[z, j] = residuals[mine, j].mean() if mine.any() else 0.0
        sizes = np.bincount(trial.code[here], minlength=len(pi))
        few += int((sizes < FEW).sum())
        if not sizes.all():
            empty += int((sizes == 0).sum())
            continue
        u = means[z] / pi[arm_of]
        out += here.mean() * np.outer(u, u) * difference[np.ix_(arm_of, arm_of)]
    warnings = [f"{empty} cells of stratum and arm have no subject: the variance is conservative"] if empty else []
    if few > empty + groups * len(pi) / 2:
        warnings.append(f"most cells of stratum and arm have fewer than {FEW} subjects: the standard error may be too small")
    spread = np.array([residuals[trial.code == a, j].std() for j, a in enumerate(arm_of)])
    if trial.scheme == "pocock-simon" and (np.abs(means) > STILL * np.maximum(spread, 1e-300)).any():
        words = "variance as under simple randomisation, conservative; adjust for the joint strata in every arm to be exact"
        warnings.append(f"minimisation balances no joint stratum by a known law: {words}")
    return out, tuple(warnings)


def _gain(scheme: str, pi: Array) -> float:
    """Share of the variance of simple randomisation that a scheme takes away."""
    if scheme in ("permuted-block", "biased-coin"):
        return 1.0
    if scheme == "urn":
        if len(pi) != 2:
            raise DataError("the urn's variance is known for two arms of equal share", remedy="use permuted-block or simple")
        return 2 / 3
    return 0.0  # minimisation: no known law (Ye et al. section 3.3)


def saturated(
    table: pl.DataFrame, *, outcome: str, arm: str, control: str | float, strata: str | Sequence[str], level: float = 0.95
) -> tuple[Estimate, ...]:
    """Difference of every arm to control within strata, weighted by the strata's size; variance of Bugni, Canay and Shaikh
    (Quantitative Economics 2019, theorem 3.1), right for every covariate-adaptive randomisation whose shares hold in each
    stratum.

    Raises DataError where an arm has fewer than two subjects in a stratum.
    """
    trial = randomised(table, outcome=outcome, arm=arm, control=control, strata=strata, randomisation="permuted-block")
    assert trial.strata is not None
    y, groups = trial.outcome, int(trial.strata.max()) + 1
    size = np.bincount(trial.strata, minlength=groups)
    mean, var, count = (np.zeros((groups, len(trial.arms))) for _ in range(3))
    for z, a in np.ndindex(mean.shape):
        values = y[(trial.strata == z) & (trial.code == a)]
        if len(values) < 2:
            words = f"stratum {z + 1} of {groups} has {len(values)} subjects of arm {trial.arms[a]!r}"
            raise DataError(words, column=arm, remedy="merge strata, or use ancova with randomisation='permuted-block'")
        mean[z, a], var[z, a], count[z, a] = values.mean(), values.var(ddof=1), len(values)
    weight = size / len(y)
    out = []
    for a in range(1, len(trial.arms)):
        effect = mean[:, a] - mean[:, 0]
        value = float(weight @ effect)
        within = float(weight**2 @ (var[:, a] / count[:, a] + var[:, 0] / count[:, 0]))
        se = float(np.sqrt(within + weight @ (effect - value) ** 2 / len(y)))
        label = f"{trial.arms[a]} − {trial.arms[0]}"
        method = "difference within randomisation strata (saturated), Bugni–Canay–Shaikh variance"
        kept = tuple(w for w in trial.warnings if "not in the model" not in w)
        out.append(Estimate(label, "mean difference", value, se, method, len(y), level=level, extra={"warnings": kept}))
    return tuple(out)
