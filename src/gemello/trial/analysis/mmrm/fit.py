"""Mixed models for repeated measures (MMRM): every visit a response of its own, with a covariance between visits.

Mallinckrodt, Clark and David (2001, J Biopharm Stat 11: 9–21). No random effects: V_i holds the structure. Subjects keep the
visits that they have (missing at random); a subject without any outcome is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from gemello.base.errors import ConvergenceError, DataError, RefusalError
from gemello.trial.analysis.formula import Formula
from gemello.trial.analysis.mmrm import core as ask
from gemello.trial.analysis.mmrm import predict as forecasts
from gemello.trial.analysis.mmrm import terms
from gemello.trial.analysis.mmrm.core import Core, Df, FTest, Information, Vcov
from gemello.trial.analysis.mmrm.covariance import NAMES, SPATIAL, Array, Name, structure
from gemello.trial.analysis.mmrm.data import (
    Repeated,
    blocks,
    check_times,
    distances,
    label_of,
    moments,
    refuse_sparse,
    repeated,
    words,
)
from gemello.trial.analysis.mmrm.reml import Block, Method, Problem, State, optimise
from gemello.trial.analysis.mmrm.terms import Margins
from gemello.trial.analysis.result import Coefficients, Estimate


@dataclass(frozen=True)
class MmrmFit:
    """A fitted MMRM.

    covariance: the structure that was fitted; attempts: those before it in the caller's list, with the reason why not. names,
    coefficients, vcov: fixed effects (p,), (p, p). theta, theta_names, theta_cov: covariance parameters (q,) in SAS's terms and
    their covariance from their information. Sigma: (visits, visits) by group ("all" without groups); for the spatial
    structures at the mean times of the visits. minus2loglik: −2 log L, restricted for REML. n: observations used.
    n_subjects: with data; n_without_outcome: in the table but without. visits: in order.
    """

    covariance: str
    attempts: tuple[tuple[str, str], ...]
    method: Method
    names: tuple[str, ...]
    coefficients: Array
    vcov: Array
    theta: Array
    theta_names: tuple[str, ...]
    theta_cov: Array
    Sigma: Mapping[str, Array]
    minus2loglik: float
    n: int
    n_subjects: int
    n_without_outcome: int
    visits: tuple[str, ...]
    iterations: int
    core: Core
    data: Repeated

    @property
    def aic(self) -> float:
        """As SAS: −2 log L + 2 d, d the covariance parameters (REML) or all parameters (ML)."""
        return self.minus2loglik + 2 * self._parameters

    @property
    def bic(self) -> float:
        """As SAS: −2 log L + d log(subjects), those without an outcome counted, as SAS counts them."""
        return self.minus2loglik + self._parameters * float(np.log(self.n_subjects + self.n_without_outcome))

    @property
    def aicc(self) -> float:
        """As SAS: −2 log L + 2 d n*/(n* − d − 1), n* = n − p (REML) or n, at least d + 2."""
        d = self._parameters
        n = max(self.n - (len(self.names) if self.method == "REML" else 0), d + 2)
        return self.minus2loglik + 2 * d * n / (n - d - 1)

    @property
    def _parameters(self) -> int:
        return len(self.theta) + (len(self.names) if self.method == "ML" else 0)

    @property
    def se(self) -> Array:
        """(p,) standard errors."""
        return np.sqrt(np.diag(self.vcov))

    @property
    def regression(self) -> Coefficients:
        """The fixed effects, for what only needs those (no degrees of freedom: they differ by contrast)."""
        return Coefficients(self.names, self.coefficients, self.vcov, None, self.n_subjects, self.core.words)

    def coefficient(self, name: str) -> Estimate:
        """One fixed effect, with its degrees of freedom. Raises DataError for a name that the model does not have."""
        if name not in self.names:
            raise DataError(f"no coefficient {name!r}", remedy=f"the model has {', '.join(self.names)}")
        return self.contrast(np.eye(len(self.names))[self.names.index(name)], name, "coefficient")

    def contrast(self, weights: Array, label: str = "contrast", measure: str = "contrast") -> Estimate:
        """weights'β. weights: (p,), in the order of `names`."""
        return ask.contrast(self.core, weights, label, measure)

    def f_test(self, L: Array, label: str = "contrasts") -> FTest:
        """H0: Lβ = 0. L: (r, p)."""
        return ask.f_test(self.core, L, label)

    def type3(self) -> tuple[FTest, ...]:
        """The type III test of every term."""
        return ask.type3(self.core)

    def lsmeans(
        self, by: Sequence[str] | str, *, at: Mapping[str, Any] | None = None, margins: Margins = "equal"
    ) -> tuple[Estimate, ...]:
        """Least-squares means at every combination of the levels of `by` (see mmrm/terms.py); extra holds the levels."""
        return ask.lsmeans(self.core, by, at, margins)

    def difference(
        self, arm: str, control: str, visit: str | None = None, *, arm_column: str | None = None,
        at: Mapping[str, Any] | None = None, margins: Margins = "equal",
    ) -> Estimate:  # fmt: skip
        """LS mean of arm minus control, at a visit (over all visits, if the model has none or visit is None)."""
        return _difference(self, arm, control, visit, arm_column, at, margins)

    def residuals(self) -> pl.DataFrame:
        """Row, subject, visit, fitted, residual, and normalised: L⁻¹r, V = LL' (nlme "normalized"): uncorrelated, variance 1."""
        return forecasts.residuals(self.core, self.data)

    def predict(self, table: pl.DataFrame, *, conditional: bool = True) -> pl.DataFrame:
        """Outcomes at the rows of a table: prediction, its standard error (of the mean) and prediction SD (of an outcome).

        conditional: given what the subject's other rows in the table show (a row with an outcome keeps it). Rows that lack a
        covariate, subject or visit get null. Raises DataError for visits that the model does not know.
        """
        return forecasts.predict(self, table, conditional)


def mmrm(
    formula: Formula | str, table: pl.DataFrame, *, subject: str, visit: str, covariance: Name | Sequence[Name] = "us",
    method: Method = "REML", df: Df = "satterthwaite", vcov: Vcov | None = None, visits: Sequence[str] | None = None,
    times: str | Sequence[str] | None = None, group: str | None = None, weights: str | None = None,
    information: Information = "observed", levels: Mapping[str, Sequence[str]] | None = None,
) -> MmrmFit:  # fmt: skip
    """Fit an MMRM.

    subject, visit: columns. visits: the order of the visits' labels; else numbers by size, an Enum by its categories, words by
    the numbers in them. covariance: see mmrm/covariance.py; a list is tried in its order, and what failed is in `attempts`.
    df: see mmrm/core.py. vcov: covariance of the fixed effects, "asymptotic", "empirical" (CR0), "empirical-cr2",
    "empirical-jackknife"; by default Kenward–Roger's with its df, else asymptotic. times: columns of numbers (one, or
    coordinates) for the spatial structures; one column is also checked to rise with the visits. group: a column; a covariance for
    each of its levels. weights: a column; variances are divided by it, as in SAS. information: of the covariance parameters,
    "observed" as in SAS or "expected" as in the paper of Kenward and Roger. levels: of factors, the reference first.

    Raises DataError (duplicate subject-visits, visits out of order, dependent columns, …), RefusalError (a covariance parameter
    about which the data say nothing; a covariance that is not positive definite), ConvergenceError.
    """
    chosen: Sequence[Name] = (covariance,) if isinstance(covariance, str) else tuple(covariance)
    for name in chosen:
        if name not in NAMES:
            raise DataError(f"covariance {name!r} is unknown", remedy=f"one of {', '.join(NAMES)}")
    if not chosen:
        raise DataError("no covariance", remedy=f"one of {', '.join(NAMES)}")
    ask.choose(df, vcov, method, information)
    where = () if times is None else (times,) if isinstance(times, str) else tuple(times)
    data = repeated(
        formula, table, subject=subject, visit=visit, visits=visits, levels=levels, times=where, group=group, weights=weights
    )
    attempts: list[tuple[str, str]] = []
    for k, name in enumerate(chosen):
        try:
            return _fit(data, name, method, df, vcov, information, tuple(attempts))
        except (ConvergenceError, RefusalError) as e:
            if k == len(chosen) - 1:
                raise
            attempts.append((name, str(e)))
    raise AssertionError("unreachable")


def _fit(
    data: Repeated, name: Name, method: Method, df: Df, vcov: Vcov | None, information: Information,
    attempts: tuple[tuple[str, str], ...],
) -> MmrmFit:  # fmt: skip
    problem, start = _problem(data, name, method)
    state, iterations = optimise(problem, start)
    sigma = _sigma(data, problem, state, name)
    method_words = f"MMRM, {name} covariance{' by group' if len(data.groups) > 1 else ''}, {method}"
    core = ask.finish(data.design, data.subject, problem, state, df, vcov, information, method_words)
    q = problem.covariance.names
    theta_names = q if problem.groups == 1 else tuple(f"{g}: {n}" for g in data.groups for n in q)
    return MmrmFit(
        name, attempts, method, data.design.names, state.beta, core.vcov, state.theta, theta_names, core.theta_cov, sigma,
        state.value, problem.n, len(data.subjects), data.read - len(data.subjects), data.visits, iterations, core, data,
    )  # fmt: skip


def _problem(data: Repeated, name: Name, method: Method) -> tuple[Problem, Array]:
    """What is fitted, and where to start."""
    refuse_sparse(data, name)
    n, p = data.design.matrix.shape
    if len(data.subjects) < 2 or n <= p:
        raise DataError(f"{len(data.subjects)} subject(s), {n} observations for {p} coefficients", remedy="give more data")
    spatial = name in SPATIAL
    if spatial and data.times is None:
        raise DataError(f"covariance {name} needs times", remedy="give times=, a column of numbers")
    found: tuple[Block, ...] = blocks(data, data.times if spatial else None)
    typical = 1.0
    if spatial:
        found = tuple(replace(b, place=distances(b.place)) for b in found)
        check_times(name, found, data)
        apart = np.concatenate([b.place[b.pattern][b.place[b.pattern] > 0] for b in found])
        typical = float(np.median(apart)) if len(apart) else 1.0
    X = data.design.matrix * np.sqrt(data.weights)[:, None]
    beta = np.linalg.lstsq(X, data.outcome * np.sqrt(data.weights), rcond=None)[0]
    residual = data.outcome - data.design.matrix @ beta
    if not np.square(residual).sum() > 1e-20 * np.square(data.outcome).sum():
        raise RefusalError("the formula fits the outcome exactly: no variance is left to estimate; use fewer terms")
    v, rho = moments(data, residual)
    shape = structure(name, data.visits, typical)
    problem = Problem(found, shape, len(data.groups), n, p, method, float(np.log(data.weights).sum()))
    return problem, np.tile(shape.start(v, rho), len(data.groups))


def _sigma(data: Repeated, problem: Problem, state: State, name: str) -> dict[str, Array]:
    """The covariance of all visits, by group. Raises RefusalError where it is not positive definite."""
    t, q = len(data.visits), len(problem.covariance.names)
    place: Any = np.arange(t)[None]
    if name in SPATIAL and data.times is not None:
        counts = np.bincount(data.visit, minlength=t)
        at = np.column_stack([np.bincount(data.visit, x, minlength=t) / counts for x in data.times.T])
        place = distances(at[None])
    out = {}
    for g, label in enumerate(data.groups):
        value = problem.covariance.parts(state.theta[g * q : (g + 1) * q], place)[0][0]
        scale = 1 / np.sqrt(np.diag(value))
        if name not in SPATIAL and not np.linalg.eigvalsh(value * np.outer(scale, scale)).min() > 1e-8:
            raise RefusalError(
                f"{name}: the estimated covariance of the visits is not positive definite"
                f"{f' in group {label}' if len(data.groups) > 1 else ''}; take a covariance with fewer parameters"
            )
        out[label] = value
    return out


# ---- differences ------------------------------------------------------------------------------------------------------------
def _difference(
    fit: MmrmFit,
    arm: str,
    control: str,
    visit: str | None,
    arm_column: str | None,
    at: Mapping[str, Any] | None,
    margins: Margins,
) -> Estimate:
    column = arm_column or _arm_column(fit, arm, control)
    where = _visit_column(fit) if visit is not None else None
    by = (column,) if where is None else (column, where)
    found = {tuple(levels.values()): w for levels, w in terms.means(fit.core.design, by, at, margins)}
    pair = [(label_of(a),) if where is None else (label_of(a), label_of(visit)) for a in (arm, control)]
    for value in (arm, control):
        _at_least_two(fit, column, label_of(value))
    for key in pair:
        if key not in found:
            raise DataError(
                f"no {' at '.join(key)} in the model", remedy=f"it has {'; '.join(', '.join(k) for k in found)}"[:300]
            )
    label = f"{arm} − {control}" if where is None else f"{visit}: {arm} − {control}"
    extra = {"arm": str(arm), "control": str(control)} | ({"visit": str(visit)} if visit is not None else {})
    return ask.contrast(fit.core, found[pair[0]] - found[pair[1]], label, "mean difference", extra)


def _at_least_two(fit: MmrmFit, column: str, arm: str) -> None:
    """RefusalError for an arm with one subject: its error would be borrowed from the others."""
    here = np.array([w == arm for w in words(fit.core.design.table[column])])
    count = len(set(fit.core.subject[here].tolist()))
    if count == 1:
        raise RefusalError(f"{column} {arm} has one subject; an arm needs at least 2 to be compared")


def _arm_column(fit: MmrmFit, arm: str, control: str) -> str:
    having = [c for c, levels in fit.core.design.levels.items() if {label_of(arm), label_of(control)} <= set(levels)]
    columns = [c[7:-1] if c.startswith("factor(") else c for c in having]
    if len(columns) != 1:
        problem = "no factor has" if not columns else f"{', '.join(columns)} all have"
        raise DataError(f"{problem} both {arm} and {control}", remedy="name the column with arm_column=")
    return columns[0]


def _visit_column(fit: MmrmFit) -> str:
    """The factor of the model whose levels are the visits."""
    known = fit.core.design.levels
    own = fit.data.columns[1]
    for name in (own, f"factor({own})", *known):
        if name in known and set(known[name]) == set(fit.visits):
            return name[7:-1] if name.startswith("factor(") else name
    raise DataError("the model has no factor of the visits", remedy="put the visit into the formula, or leave visit out")
