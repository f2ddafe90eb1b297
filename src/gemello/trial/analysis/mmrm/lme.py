"""Linear mixed models with random effects of subjects: y = Xβ + Zb + e, b ~ N(0, D), e ~ N(0, σ² I), by exact REML or ML.

Laird and Ware (1982, Biometrics 38: 963–974). D is unstructured; its entries and σ² are the covariance parameters, in which V is
linear, so that Satterthwaite and Kenward–Roger degrees of freedom come as for the MMRM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from gemello.base.errors import DataError, RefusalError
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.mmrm import core as ask
from gemello.trial.analysis.mmrm.core import Core, Df, FTest, Information, Vcov
from gemello.trial.analysis.mmrm.covariance import Array, random_effects
from gemello.trial.analysis.mmrm.data import Repeated, blocks, subjects_of
from gemello.trial.analysis.mmrm.reml import Method, Problem, State, optimise
from gemello.trial.analysis.mmrm.terms import Margins
from gemello.trial.analysis.result import Estimate


@dataclass(frozen=True)
class LmeFit:
    """A fitted model. random_names: effects (k,). D: (k, k) their covariance. sigma2: residual variance. theta_cov: (q, q) of
    (D's lower triangle row by row, σ²). subjects: names. effects: (subjects, k) best linear unbiased predictions of b.
    The rest as in MmrmFit."""

    method: Method
    names: tuple[str, ...]
    coefficients: Array
    vcov: Array
    random_names: tuple[str, ...]
    D: Array
    sigma2: float
    theta_cov: Array
    minus2loglik: float
    n: int
    subjects: tuple[str, ...]
    effects: Array
    iterations: int
    core: Core

    @property
    def se(self) -> Array:
        """(p,) standard errors."""
        return np.sqrt(np.diag(self.vcov))

    @property
    def n_subjects(self) -> int:
        """Subjects with data."""
        return len(self.subjects)

    @property
    def aic(self) -> float:
        """−2 log L + 2 d, d all parameters, β included, as nlme and lme4 count them."""
        return self.minus2loglik + 2 * (len(self.core.state.theta) + len(self.names))

    @property
    def standard_deviations(self) -> Array:
        """(k + 1,) of the random effects, then of the residual."""
        return np.sqrt(np.append(np.diag(self.D), self.sigma2))

    @property
    def correlation(self) -> Array:
        """(k, k) of the random effects."""
        s = np.sqrt(np.diag(self.D))
        return self.D / np.outer(s, s)

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
        """Least-squares means at every combination of the levels of `by` (see mmrm/terms.py)."""
        return ask.lsmeans(self.core, by, at, margins)

    def fitted(self) -> pl.DataFrame:
        """Row, subject, population (Xβ), fitted (Xβ + Zb), residual of the latter, for the rows used."""
        d = self.core.design
        population = d.matrix @ self.coefficients
        effects = np.empty(len(d))
        for block in self.core.problem.blocks:
            Z = block.place[block.pattern]
            effects[block.rows] = np.einsum("smk,sk->sm", Z, self.effects[block.subjects])
        who = [self.subjects[i] for i in self.core.subject]
        assert d.outcome is not None
        return pl.DataFrame({
            "row": d.kept, "subject": who, "population": population, "fitted": population + effects,
            "residual": d.outcome - population - effects,
        })  # fmt: skip


def lme(
    formula: Formula | str, table: pl.DataFrame, *, subject: str, random: str = "1", method: Method = "REML",
    df: Df = "satterthwaite", vcov: Vcov | None = None, information: Information = "observed",
    levels: Mapping[str, Sequence[str]] | None = None,
) -> LmeFit:  # fmt: skip
    """Fit a model with random effects by subject. random: their formula, "1" or "1 + yr"; rows missing a value in either are left
    out. df, vcov, information, levels: as in mmrm. Raises DataError, RefusalError, and ConvergenceError where D tends to a
    singular matrix (drop an effect)."""
    ask.choose(df, vcov, method, information)
    data, Z, names = _read(formula, table, subject, random, levels)
    n, p = data.design.matrix.shape
    if len(data.subjects) < 2 or n <= p or n <= len(data.subjects):
        raise DataError(f"{len(data.subjects)} subject(s), {n} observations, {p} coefficients", remedy="give repeated measures")
    X, y = data.design.matrix, data.outcome
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    variance = float(np.mean(residual**2))
    if not variance > 1e-20 * float(np.mean(y**2)):
        raise RefusalError("the formula fits the outcome exactly: no variance is left to estimate; use fewer terms")
    scale = np.sqrt(np.mean(Z**2, axis=0))  # each effect starts with its share of half the variance
    shape = random_effects(names)
    problem = Problem(blocks(data, Z), shape, 1, n, p, method)
    k = len(names)
    start = np.append(np.diag(0.5 * variance / (k * scale**2))[np.tril_indices(k)], 0.5 * variance)
    state, iterations = optimise(problem, start)
    D = _symmetric(state.theta[:-1], k)
    _positive(D, float(state.theta[-1]), names)
    words = f"mixed model, random {' + '.join(names)}, {method}"
    core = ask.finish(data.design, data.subject, problem, state, df, vcov, information, words)
    return LmeFit(
        method, data.design.names, state.beta, core.vcov, names, D, float(state.theta[-1]), core.theta_cov, state.value, n,
        data.subjects, _effects(problem, state, D, len(data.subjects)), iterations, core,
    )  # fmt: skip


def _read(
    formula: Formula | str, table: pl.DataFrame, subject: str, random: str, levels: Mapping[str, Sequence[str]] | None
) -> tuple[Repeated, Array, tuple[str, ...]]:
    effects = Formula.parse(random)
    complete = design(effects, table, levels=levels) if effects.columns else None
    kept = table if complete is None else table[complete.kept]
    data = subjects_of(formula, kept, subject=subject, levels=levels)
    if complete is not None:  # rows are those of the caller's table
        data = replace(data, design=replace(data.design, kept=complete.kept[data.design.kept]))
    found = design(effects, data.design.table, levels=levels)
    if not found.names:
        raise DataError(f"random={random!r} has no effect", remedy="write 1, or 1 + time")
    if (problem := found.rank_problem()) is not None:
        raise DataError(f"random={random!r}: {problem}", remedy="leave a term out")
    return data, found.matrix, found.names


def _symmetric(lower: Array, k: int) -> Array:
    D = np.zeros((k, k))
    D[np.tril_indices(k)] = lower
    return D + np.tril(D, -1).T


def _positive(D: Array, sigma2: float, names: tuple[str, ...]) -> None:
    """V may be positive definite where D is not; such a D is no covariance of random effects."""
    d = np.diag(D)
    s = 1 / np.sqrt(np.where(d > 0, d, 1.0))
    if sigma2 <= 0 or (d <= 0).any() or np.linalg.eigvalsh(D * np.outer(s, s)).min() < 1e-8:
        raise RefusalError(
            f"the covariance of the random effects {', '.join(names)} is not positive definite at the optimum; drop one of them"
        )


def _effects(problem: Problem, state: State, D: Array, count: int) -> Array:
    """b = D Z'V⁻¹(y − Xβ), (subjects, k)."""
    out = np.empty((count, len(D)))
    for block in problem.blocks:
        Z = block.place[block.pattern]
        V = problem.covariance.parts(state.theta, block.place)[0][block.pattern]
        r = block.y - block.X @ state.beta
        out[block.subjects] = np.einsum("ab,smb,sm->sa", D, Z, np.linalg.solve(V, r[..., None])[..., 0])
    return out
