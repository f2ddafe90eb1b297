"""Marginal (unconditional) effects of treatment by g-computation from a generalised linear model.

Fit, predict for every subject as if in each arm, average, contrast: risk or mean difference, log ratio, log odds ratio (Ge et
al., Drug Information Journal 2011; FDA guidance on covariate adjustment, May 2023, section III.C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis import glm, separation
from gemello.trial.analysis.arms import Randomised, Terms, randomised
from gemello.trial.analysis.linear import KINDS
from gemello.trial.analysis.margins import Margins, augmentation, covariances, words_of

Array = NDArray[np.float64]
COVARIANCES = (*KINDS, "influence", "influence by arm", "vcovG")


def g_computation(
    table: pl.DataFrame,
    *,
    outcome: str,
    arm: str,
    control: str | float,
    covariates: Terms = (),
    score: str | None = None,
    family: str = "binomial",
    link: str | None = None,
    exposure: str | None = None,
    covariance: str | None = None,
    heterogeneous: bool = False,
    strata: Terms = (),
    randomisation: str = "simple",
    level: float = 0.95,
) -> Margins:
    """Adjusted risks, means or rates of the arms; `contrasts` gives differences, log ratios and log odds ratios.

    family: "binomial", "poisson", "negative-binomial", "gaussian". exposure: column of person-time; rates are per unit of it.
    covariance: by the delta method "model" (Ge), "HC0" … "HC4"; or "influence" (None, simple randomisation), "influence by arm"
    (None, stratified randomisation), "vcovG". For the last three and a link that is not canonical the means are augmented by the
    mean residual of the arm, so that they hold whatever the model. The rest as `ancova.ancova`.
    Raises DataError for columns that separate, and as `arms.randomised`.
    """
    kind = covariance or ("influence" if randomisation == "simple" or exposure else "influence by arm")
    if kind not in COVARIANCES:
        raise DataError(f"covariance {kind!r} is not known", remedy=f"one of {', '.join(COVARIANCES)}")
    trial = randomised(
        table, outcome=outcome, arm=arm, control=control, covariates=covariates, score=score, heterogeneous=heterogeneous,
        strata=strata, randomisation=randomisation, exposure=exposure,
    )  # fmt: skip
    offset = None if trial.exposure is None else np.log(trial.exposure)
    finite = _fitted(trial, family, link, offset, outcome)
    model = finite.model
    if kind in KINDS:
        model.covariance(kind)
    predictions, gradient = _predicted(trial, finite)
    values = predictions.mean(axis=0)
    by, said = covariances(trial, trial.outcome, predictions, gradient, model.covariance, KINDS)
    if kind not in by:
        raise DataError(f"covariance {kind!r} is not defined with exposure", remedy="use influence")
    words = f"g-computation, {model.words}, {trial.adjustment}"
    if kind not in KINDS and np.max(np.abs(shift := _shift(trial, predictions))) > 1e-9:
        values, words = values + shift, words + ", augmented by the arms' mean residuals"
    words += f"; {words_of(kind)}" + ("" if randomisation == "simple" else f", {randomisation} randomisation")
    measured: Literal["mean", "risk", "rate"] = "risk" if family == "binomial" else "mean" if family == "gaussian" else "rate"
    df = float(model.df) if family == "gaussian" and kind in KINDS else None
    return Margins(
        trial.arms, values, by[kind], measured, words, len(trial.code), tuple(int(c) for c in trial.counts), df, by,
        model.coefficients(kind if kind in KINDS else "HC0"), trial.warnings + finite.warnings + said.get(kind, ()), level,
    )  # fmt: skip


@dataclass(frozen=True)
class _Finite:
    """A fit, the rows and columns that have finite estimates, and the limit (0 or 1) of the other rows' means."""

    model: glm.GlmFit
    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    limit: Array
    warnings: tuple[str, ...] = ()


def _fitted(trial: Randomised, family: str, link: str | None, offset: Array | None, column: str) -> _Finite:
    """The fit; a covariate that separates some subjects (a site without events) takes them to the limit of their likelihood, the
    others are fitted without it (Geyer, Electronic Journal of Statistics 2009, section 3). Separation by the arm, or of all
    subjects, is refused."""
    d, y = trial.design, trial.outcome
    rows, columns = np.ones(len(y), bool), np.ones(len(d.names), bool)
    warnings: tuple[str, ...] = ()
    worlds = trial.counterfactual()
    by_arm = np.any([(x != worlds[0]).any(axis=0) for x in worlds[1:]], axis=0)
    while True:
        names = tuple(n for n, keep in zip(d.names, columns, strict=True) if keep)
        shift = None if offset is None else offset[rows]
        try:
            model = glm.fit(d.matrix[np.ix_(rows, columns)], y[rows], names, family, link, shift, column)
            return _Finite(model, rows, columns, y, warnings)
        except glm.NoExtraVarianceError:
            family = "poisson"
            warnings += ("no variance beyond Poisson's: the negative binomial's limit, a Poisson model, was fitted",)
        except separation.SeparatedError as e:
            left = rows.copy()
            left[rows] = ~e.rows
            if (by_arm[columns] & (e.direction != 0)).any() or left.sum() <= columns.sum():
                raise
            warnings += (f"{int(e.rows.sum())} subjects have fitted means at the limit: {e.problem}",)
            before, rows, columns = columns, left, _independent(d.matrix[left], columns)
            if (by_arm & before & ~columns).any():  # nobody of an arm is left
                raise


def _independent(x: Array, columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the columns, those that the ones before them do not determine."""
    size = np.linalg.norm(x, axis=0)
    r = np.abs(np.diag(np.linalg.qr((x / np.where(size > 0, size, 1))[:, columns], mode="r")))
    out = columns.copy()
    out[columns] = r > 1e-9
    return out


def _predicted(trial: Randomised, finite: _Finite) -> tuple[Array, Array]:
    """(n, arms) predictions per unit of exposure and (arms, k) the means' gradient by the coefficients."""
    model, n = finite.model, len(trial.code)
    predictions, gradient = [], []
    for x in trial.counterfactual():
        eta = x[:, finite.columns] @ model.values
        predictions.append(np.where(finite.rows, model.family.link.inverse(eta), finite.limit))
        slope = np.where(finite.rows, model.family.link.slope(eta), 0)
        gradient.append((x[:, finite.columns] * slope[:, None]).sum(axis=0) / n)
    return np.column_stack(predictions), np.stack(gradient)


def _shift(trial: Randomised, predictions: Array) -> Array:
    k = len(trial.arms)
    return augmentation(trial, np.repeat(trial.outcome[:, None], k, 1), predictions, np.arange(k))
