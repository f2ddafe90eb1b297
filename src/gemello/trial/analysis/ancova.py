"""Analysis of covariance of a randomised trial with two or more arms.

Homogeneous slopes (ANCOVA) or slopes for each arm about the covariates' means (ANHECOVA: Lin, Annals of Applied Statistics
2013; Ye, Shao, Yi and Zhao, JASA 2023).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.arms import Terms, randomised
from gemello.trial.analysis.linear import KINDS, LinearFit, fit
from gemello.trial.analysis.margins import Margins, covariances, words_of

Array = NDArray[np.float64]
COVARIANCES = (*KINDS, "influence", "influence by arm", "vcovG")
_CONDITIONAL = "{} takes the covariates' means as fixed, which the heterogeneous model does not allow; use influence or vcovG"


def ancova(
    table: pl.DataFrame,
    *,
    outcome: str,
    arm: str,
    control: str | float,
    covariates: Terms = (),
    score: str | None = None,
    covariance: str | None = None,
    heterogeneous: bool = False,
    strata: Terms = (),
    randomisation: str = "simple",
    level: float = 0.95,
) -> Margins:
    """Adjusted means and differences of the arms of a trial, by least squares.

    covariates: columns or formula terms. score: a prognostic score's column, one more covariate (centred and scaled inside).
    covariance: "model", "HC0" … "HC4" (t with n − k degrees of freedom), "influence", "influence by arm" or "vcovG" (normal);
    None takes HC3, or influence by arm where slopes differ by arm or the randomisation was not simple (vcovG is anti-conservative
    with three arms or unequal allocation and a strong covariate).
    heterogeneous: slopes of every arm. strata, randomisation: columns and scheme ("simple", "permuted-block", "biased-coin",
    "urn", "pocock-simon"); the last three use them. Warnings stand in the estimates' extra["warnings"]. Raises DataError as
    `arms.randomised`, and where HC2–HC4 are not defined.
    """
    kind = covariance or ("influence by arm" if randomisation != "simple" or heterogeneous else "HC3")
    if kind not in COVARIANCES:
        raise DataError(f"covariance {kind!r} is not known", remedy=f"one of {', '.join(COVARIANCES)}")
    trial = randomised(
        table, outcome=outcome, arm=arm, control=control, covariates=covariates, score=score, heterogeneous=heterogeneous,
        strata=strata, randomisation=randomisation,
    )  # fmt: skip
    model = fit(trial.design)
    _some_noise(model, trial.outcome, outcome)
    if kind in KINDS:
        model.covariance(kind)  # its own error where it is not defined
    worlds = trial.counterfactual()
    gradient = np.stack([x.mean(axis=0) for x in worlds])
    predictions = np.column_stack([x @ model.values for x in worlds])
    by, said = covariances(trial, trial.outcome, predictions, gradient, model.covariance, KINDS)
    warnings = trial.warnings + said.get(kind, ())
    if kind in KINDS and _slopes_differ(gradient):
        warnings += (_CONDITIONAL.format(kind),)
    name = "analysis of heterogeneous covariance (ANHECOVA)" if heterogeneous else "analysis of covariance (ANCOVA)"
    words = f"{name if trial.adjusted_for else 'difference of means'}, {trial.adjustment}; {words_of(kind)}"
    if randomisation != "simple":
        words += f", {randomisation} randomisation"
    return Margins(
        trial.arms, gradient @ model.values, by[kind], "mean", words, len(trial.code), tuple(int(c) for c in trial.counts),
        float(model.df) if kind in KINDS else None, by, model.coefficients(kind if kind in KINDS else "HC0"), warnings, level,
    )  # fmt: skip


def _some_noise(model: LinearFit, y: Array, outcome: str) -> None:
    """DataError where nothing is left to estimate an error from."""
    if not np.ptp(y) > 1e-14 * np.max(np.abs(y)):
        raise DataError("the outcome is the same for every subject", column=outcome, remedy="analyse an outcome that varies")
    if 1 - model.r2 < 1e-14:
        raise DataError(
            "the model fits the outcome without error", column=outcome, remedy="take the outcome out of its covariates"
        )


def _slopes_differ(gradient: Array) -> bool:
    """Whether the contrast of two arms depends on the covariates' means: its weights are no whole numbers."""
    weights = gradient[1:] - gradient[0]
    return bool(np.max(np.abs(weights - np.round(weights))) > 1e-9)
