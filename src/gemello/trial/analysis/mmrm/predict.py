"""Residuals of an MMRM, and outcomes of visits that were missed, given those that were not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gemello.base.errors import DataError, UnsupportedError
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.mmrm.core import Core
from gemello.trial.analysis.mmrm.covariance import SPATIAL, Array
from gemello.trial.analysis.mmrm.data import Repeated, unique, words
from gemello.trial.analysis.mmrm.reml import whiten

if TYPE_CHECKING:
    from gemello.trial.analysis.mmrm.fit import MmrmFit


def residuals(core: Core, data: Repeated) -> pl.DataFrame:
    """Fitted values and residuals of the rows used, in the table's order."""
    fitted = core.design.matrix @ core.state.beta
    normalised = np.empty(len(fitted))
    for block in core.problem.blocks:
        w = whiten(core.problem, core.state.theta, block)
        assert w is not None
        normalised[block.rows] = w.XY[..., -1] - w.XY[..., :-1] @ core.state.beta
    return pl.DataFrame({
        "row": core.design.kept, "subject": [data.subjects[i] for i in data.subject],
        "visit": [data.visits[i] for i in data.visit], "fitted": fitted, "residual": data.outcome - fitted,
        "normalised": normalised,
    })  # fmt: skip


def predict(fit: MmrmFit, table: pl.DataFrame, conditional: bool) -> pl.DataFrame:
    """E[y_m | y_o] = X_m β + K (y_o − X_o β), K = Σ_mo Σ_oo⁻¹ (visits m missing, o observed in the table); the error of the mean
    is √(A Φ A'), A = X_m − K X_o, and the prediction variance adds Σ_mm − K Σ_om."""
    if fit.covariance in SPATIAL or fit.data.weighted:
        raise UnsupportedError("predict: not for spatial covariances or weighted rows; take a covariance of visits")
    f = fit.core.design.formula
    right = Formula(f.text, None, f.terms, f.intercept, f.quoted)
    for name in fit.data.columns:
        if name is not None and name not in table.columns:
            raise DataError(f"no column {name!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    who, when = words(table[fit.data.columns[0]]), words(table[fit.data.columns[1]])
    unique(who, when, fit.data.columns[0], fit.data.columns[1])
    known = {v: i for i, v in enumerate(fit.visits)}
    unknown = sorted({v for v in when if v is not None} - set(known))
    if unknown:
        raise DataError(
            "visit unknown to the model", column=fit.data.columns[1], value=unknown[0], remedy=f"one of {', '.join(known)}"
        )
    here = design(right, table, levels=fit.core.design.levels)
    X = {int(row): x for row, x in zip(here.kept, here.matrix, strict=True)}
    y = _outcome(fit, table)
    group = words(table[fit.data.columns[2]]) if fit.data.columns[2] else ["all"] * len(table)
    rows: dict[str, list[int]] = {}
    for i, (s, v) in enumerate(zip(who, when, strict=True)):
        if s is not None and v is not None and i in X:
            rows.setdefault(s, []).append(i)
    out = np.full((len(table), 3), np.nan)
    for mine in rows.values():
        sigma = _sigma(fit, group[mine[0]])
        at = [known[v] for i in mine if (v := when[i]) is not None]
        out[mine] = _one(fit, sigma, np.array(at), np.array([X[i] for i in mine]), y[mine], conditional)
    shown = pl.DataFrame({"prediction": out[:, 0], "se": out[:, 1], "sd": out[:, 2]}).fill_nan(None)
    return pl.DataFrame({"subject": who, "visit": when}).hstack(shown)


def _one(fit: MmrmFit, sigma: Array, visit: Array, X: Array, y: Array, conditional: bool) -> Array:
    """(rows, 3) prediction, standard error, prediction SD of one subject."""
    beta, vcov = fit.coefficients, fit.vcov
    S = sigma[np.ix_(visit, visit)]
    seen = ~np.isnan(y) if conditional else np.zeros(len(y), bool)
    K = np.linalg.solve(S[np.ix_(seen, seen)], S[np.ix_(seen, ~seen)]).T
    A = X[~seen] - K @ X[seen]
    out = np.zeros((len(y), 3))
    out[seen, 0] = y[seen]
    out[~seen, 0] = X[~seen] @ beta + K @ (y[seen] - X[seen] @ beta)
    error = np.einsum("ij,jk,ik->i", A, vcov, A)
    rest = np.diag(S[np.ix_(~seen, ~seen)] - K @ S[np.ix_(seen, ~seen)])
    out[~seen, 1], out[~seen, 2] = np.sqrt(error), np.sqrt(error + rest)
    return out


def _outcome(fit: MmrmFit, table: pl.DataFrame) -> Array:
    """(rows,) the outcome where the table has it, NaN elsewhere."""
    f = fit.core.design.formula
    assert f.outcome is not None
    y = np.full(len(table), np.nan)
    columns = Formula(f.text, f.outcome, (), True, f.quoted).columns
    if all(c in table.columns for c in columns) and not all(table[c].null_count() == len(table) for c in columns):
        alone = design(Formula(f.text, f.outcome, (), True, f.quoted), table)
        y[alone.kept] = alone.outcome
    return y


def _sigma(fit: MmrmFit, group: str | None) -> Array:
    if group is None or group not in fit.Sigma:
        raise DataError("group unknown to the model", value=group, remedy=f"one of {', '.join(fit.Sigma)}")
    return fit.Sigma[group]
