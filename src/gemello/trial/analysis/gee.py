"""Generalised estimating equations (Liang and Zeger, Biometrika 1986).

Working correlation independence, exchangeable or AR(1); alpha by the estimating equation of the standardised residuals'
products over all pairs of a subject (Yan and Fine, Statistics in Medicine 2004), phi the mean squared Pearson residual, neither
with a correction for the number of coefficients. Covariance: "robust" (sandwich over subjects), "Mancl-DeRouen" (Biometrics
2001, residuals divided by one less their leverage, for few subjects), "model".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize

from gemello.base.errors import ConvergenceError, DataError
from gemello.trial.analysis import glm
from gemello.trial.analysis.families import Family
from gemello.trial.analysis.families import family as family_of
from gemello.trial.analysis.formula import Design, design
from gemello.trial.analysis.linear import checked
from gemello.trial.analysis.result import Coefficients

Array = NDArray[np.float64]
CORRELATIONS = ("independence", "exchangeable", "ar1")
COVARIANCES = ("robust", "Mancl-DeRouen", "model")


@dataclass(frozen=True)
class GeeFit:
    """names, values: (k,). covariances: (k, k) by name. alpha: correlation (0 for independence). phi: scale. n: subjects;
    rows."""

    names: tuple[str, ...]
    values: Array
    alpha: float
    phi: float
    n: int
    rows: int
    method: str
    covariances: Mapping[str, Array] = field(default_factory=dict)

    def coefficients(self, kind: str = "robust") -> Coefficients:
        """As coefficients, normal theory; n counts subjects."""
        if kind not in self.covariances:
            raise DataError(f"covariance {kind!r} is not known", remedy=f"one of {', '.join(self.covariances)}")
        return Coefficients(self.names, self.values, self.covariances[kind], None, self.n, f"{self.method}, {kind} covariance")


@dataclass(frozen=True)
class _Group:
    """Subjects seen at the same pattern of visits: rows (subjects, m) of the design, lags (m, m) between visits."""

    rows: NDArray[np.int64]
    lags: Array


def gee(
    formula: str,
    table: pl.DataFrame,
    *,
    subject: str | Sequence[str],
    family: str = "gaussian",
    link: str | None = None,
    correlation: str = "exchangeable",
    visit: str | None = None,
    exposure: str | None = None,
    levels: Mapping[str, Sequence[str]] | None = None,
) -> GeeFit:
    """Marginal regression of repeated outcomes; rows with a missing value are left out.

    subject: column, or columns together, that name a subject. visit: column of whole visit numbers; AR(1) needs it where visits
    are missing (without it rows count as visits in their order). family: "gaussian", "binomial", "poisson". Raises DataError
    for duplicate subject-visits, a single subject, columns that separate or that the others determine; ConvergenceError.
    """
    if correlation not in CORRELATIONS:
        raise DataError(f"correlation {correlation!r} is not known", remedy=f"one of {', '.join(CORRELATIONS)}")
    if family == "negative-binomial":
        raise DataError(
            "no negative binomial estimating equation", remedy="family 'poisson' with the robust covariance allows for it"
        )
    by = [subject] if isinstance(subject, str) else list(subject)
    needed = [*by, *([visit] if visit else []), *([exposure] if exposure else [])]
    for name in needed:
        if name not in table.columns:
            raise DataError(f"no column {name!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
        if table[name].null_count():
            raise DataError("missing value", column=name, remedy="every row needs one")
    d = design(formula, table, levels=levels)
    if d.outcome is None:
        raise DataError(f"formula {formula!r}: no outcome", remedy="write outcome ~ terms")
    checked(d)
    groups, n = _groups(d, by, visit)
    offset = np.zeros(len(d))
    if exposure is not None:
        offset = glm.log_exposure(d.table, exposure)
    column = d.formula.outcome.text if d.formula.outcome else "outcome"
    start = glm.fit(d.matrix, d.outcome, d.names, family, link, offset, column).values
    f = family_of(family, link)
    beta, alpha, phi = _solved(d.matrix, d.outcome, offset, f, groups, correlation, start, column)
    words = f"generalised estimating equations, {family}, {f.link.name} link, {correlation} correlation"
    covariances = _covariances(d.matrix, d.outcome, offset, f, groups, correlation, beta, alpha, phi)
    return GeeFit(d.names, beta, alpha, phi, n, len(d), words, covariances)


def _groups(d: Design, by: Sequence[str], visit: str | None) -> tuple[list[_Group], int]:
    subjects = d.table.select(pl.struct(list(by)).rank("dense"))[:, 0].to_numpy().astype(np.int64)
    place = np.zeros(len(d))
    if visit is not None:
        place = d.table[visit].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        bad = np.flatnonzero(~np.isfinite(place))
        if len(bad):
            value, row = d.table[visit][int(bad[0])], int(d.kept[bad[0]]) + 1
            raise DataError("not the number of a visit", row=row, column=visit, value=value, remedy="number the visits 1, 2, …")
    order = np.lexsort((np.arange(len(d)), place, subjects))
    at = np.flatnonzero(np.r_[True, np.diff(subjects[order]) != 0])
    patterns: dict[tuple[float, ...], list[NDArray[np.int64]]] = {}
    for rows in np.split(order, at[1:]):
        when = place[rows] if visit is not None else np.arange(len(rows), dtype=float)
        if len(np.unique(when)) < len(when):
            row = int(d.kept[rows[np.flatnonzero(np.diff(when) == 0)[0] + 1]]) + 1
            raise DataError("a subject has two rows for one visit", row=row, column=visit, remedy="keep one")
        patterns.setdefault(tuple(when - when[0]), []).append(rows)
    if len(at) < 2:
        raise DataError("one subject only", column=by[0], remedy="give every row its subject")
    return [_Group(np.array(v), np.abs(np.subtract.outer(k, k))) for k, v in patterns.items()], len(at)


def _correlation(kind: str, alpha: float, lags: Array) -> Array:
    if kind == "independence":
        return np.eye(len(lags))
    return np.where(lags == 0, 1.0, alpha if kind == "exchangeable" else np.sign(alpha) ** lags * np.abs(alpha) ** lags)


def _alpha(kind: str, residuals: Array, groups: Sequence[_Group]) -> float:
    """Correlation from residuals scaled to variance 1."""
    if kind == "independence":
        return 0.0
    products: dict[float, tuple[float, int]] = {}
    for g in groups:
        i, j = np.triu_indices(len(g.lags), 1)
        e = residuals[g.rows]
        for lag in np.unique(g.lags[i, j]):
            here = g.lags[i, j] == lag
            total, count = products.get(float(lag), (0.0, 0))
            products[float(lag)] = (total + float(np.sum(e[:, i[here]] * e[:, j[here]])), count + int(here.sum()) * len(e))
    if not products:
        raise DataError("no subject has two rows", remedy="use correlation='independence'")
    if kind == "exchangeable":
        return sum(t for t, _ in products.values()) / sum(c for _, c in products.values())

    def equation(a: float) -> float:  # Σ dρ/dα (product − ρ)
        return float(sum(lag * a ** (lag - 1) * (t - c * a**lag) for lag, (t, c) in products.items()))

    first = products.get(1.0, (0.0, 1))
    low = -0.999 if all(lag == round(lag) for lag in products) and first[0] < 0 else 1e-9
    if equation(low) * equation(0.999) > 0:
        raise ConvergenceError("AR(1): no correlation between −1 and 1 fits; use exchangeable or independence")
    return float(optimize.brentq(equation, low, 0.999, xtol=1e-14))


def _pieces(x: Array, y: Array, offset: Array, f: Family, beta: Array) -> tuple[Array, Array]:
    """(n, k) dμ/dβ over the standard deviation, (n,) Pearson residuals."""
    eta = offset + x @ beta
    mean = f.link.inverse(eta)
    root = np.sqrt(f.variance(mean))
    return x * (f.link.slope(eta) / root)[:, None], (y - mean) / root


def _solved(
    x: Array, y: Array, offset: Array, f: Family, groups: Sequence[_Group], kind: str, beta: Array, column: str
) -> tuple[Array, float, float]:
    alpha, phi = 0.0, 1.0
    for step in range(200):
        slopes, e = _pieces(x, y, offset, f, beta)
        phi = float(np.mean(e**2))
        if not phi > 0:
            raise DataError("the model fits the outcome without error", column=column, remedy="analyse an outcome that varies")
        alpha = _alpha(kind, e / np.sqrt(phi), groups)
        information, score = np.zeros((x.shape[1], x.shape[1])), np.zeros(x.shape[1])
        for g in groups:
            inverse = _inverse(kind, alpha, g.lags)
            weighted = np.einsum("ij,sjk->sik", inverse, slopes[g.rows])
            information += np.einsum("sik,sil->kl", slopes[g.rows], weighted)
            score += np.einsum("sik,si->k", weighted, e[g.rows])
        move = np.linalg.solve(information, score)
        beta = beta + move
        moved = float(np.sqrt(np.maximum(move @ information @ move, 0) / phi))  # in standard errors: whatever the outcome's unit
        if moved < 1e-10 or (step > 20 and moved < 1e-6):
            return beta, alpha, phi
        if not np.isfinite(beta).all():
            break
    raise ConvergenceError(f"estimating equations of {column} did not converge with {kind} correlation; use independence")


def _inverse(kind: str, alpha: float, lags: Array) -> Array:
    r = _correlation(kind, alpha, lags)
    if np.linalg.eigvalsh(r)[0] <= 1e-10:
        raise DataError(
            f"{kind} correlation {alpha:.4g} is not positive definite for {len(lags)} visits", remedy="use independence"
        )
    return np.asarray(np.linalg.inv(r))


def _covariances(
    x: Array, y: Array, offset: Array, f: Family, groups: Sequence[_Group], kind: str, beta: Array, alpha: float, phi: float
) -> dict[str, Array]:
    slopes, e = _pieces(x, y, offset, f, beta)
    k = x.shape[1]
    information, weights = np.zeros((k, k)), []
    for g in groups:
        weighted = np.einsum("ij,sjk->sik", _inverse(kind, alpha, g.lags), slopes[g.rows])
        information += np.einsum("sik,sil->kl", slopes[g.rows], weighted)
        weights.append(weighted)
    bread = np.linalg.inv(information)
    meat, corrected = np.zeros((k, k)), np.zeros((k, k))
    for g, w in zip(groups, weights, strict=True):
        plain = np.einsum("sik,si->sk", w, e[g.rows])
        leverage = np.einsum("sik,kl,sjl->sij", slopes[g.rows], bread, w)
        raised = np.linalg.solve(np.eye(len(g.lags)) - leverage, e[g.rows][..., None])[..., 0]
        more = np.einsum("sik,si->sk", w, raised)
        meat, corrected = meat + plain.T @ plain, corrected + more.T @ more
    return {"robust": bread @ meat @ bread, "Mancl-DeRouen": bread @ corrected @ bread, "model": phi * bread}
