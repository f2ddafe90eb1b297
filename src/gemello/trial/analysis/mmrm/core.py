"""What is asked of a fitted mixed model: contrasts and F tests with their degrees of freedom.

Satterthwaite: ν = 2 (c'Φc)² / g'Wg, g the gradient of c'Φc (Giesbrecht and Burns 1985, Biometrics 41: 477–486); several
degrees of freedom by Fai and Cornelius (1996, J Stat Comput Simul 54: 363–378). Kenward–Roger: scale and denominator degrees of
freedom of the 1997 paper. Between-within: SAS DDFM=BW. "residual": n − p. "normal": none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from gemello.base.errors import ConvergenceError, DataError, UnsupportedError
from gemello.trial.analysis.formula import Design
from gemello.trial.analysis.mmrm import terms
from gemello.trial.analysis.mmrm.adjust import Clusters, Sandwich, bell_mccaffrey, kenward_roger, sandwich
from gemello.trial.analysis.mmrm.covariance import Array, Ints
from gemello.trial.analysis.mmrm.reml import Problem, State
from gemello.trial.analysis.mmrm.terms import Margins
from gemello.trial.analysis.result import Estimate

Df = Literal["satterthwaite", "kenward-roger", "kenward-roger-linear", "between-within", "residual", "normal"]
Vcov = Literal["asymptotic", "kenward-roger", "kenward-roger-linear", "empirical", "empirical-cr2", "empirical-jackknife"]
Information = Literal["observed", "expected"]
DFS: tuple[Df, ...] = ("satterthwaite", "kenward-roger", "kenward-roger-linear", "between-within", "residual", "normal")
SANDWICHES: tuple[Sandwich, ...] = ("empirical", "empirical-cr2", "empirical-jackknife")
_KR = ("kenward-roger", "kenward-roger-linear")
_WORDS = {
    "satterthwaite": "Satterthwaite df", "kenward-roger": "Kenward–Roger df", "kenward-roger-linear": "Kenward–Roger df",
    "between-within": "between-within df", "residual": "residual df", "normal": "normal theory", "asymptotic": "model-based SE",
    "empirical": "sandwich SE (CR0)", "empirical-cr2": "sandwich SE (CR2)", "empirical-jackknife": "sandwich SE (CR3)",
}  # fmt: skip


@dataclass(frozen=True)
class FTest:
    """H0: Lβ = 0. F, scaled by `scale` (Kenward and Roger's λ, else 1), and its degrees of freedom (den_df None: χ²/num_df)."""

    label: str
    F: float
    num_df: int
    den_df: float | None
    scale: float = 1.0

    @property
    def p(self) -> float:
        """The p value."""
        if self.den_df is None:
            return float(stats.chi2.sf(self.F * self.num_df, self.num_df))
        return float(stats.f.sf(self.F, self.num_df, self.den_df))


@dataclass(frozen=True)
class Core:
    """A fitted mixed model. vcov: (p, p) of β as chosen. theta_cov: (q, q) of the covariance parameters, from their information.
    within: (p,) columns that change within some subject. words: the method, for estimates."""

    design: Design
    subject: Ints
    problem: Problem
    state: State
    df: Df
    vcov_kind: Vcov
    vcov: Array
    theta_cov: Array
    clusters: Clusters | None
    within: tuple[bool, ...]
    words: str

    @property
    def n_subjects(self) -> int:
        """Subjects with data."""
        return int(self.subject.max()) + 1


def finish(
    design: Design, subject: Ints, problem: Problem, state: State, df: Df, vcov: Vcov | None, information: Information, words: str
) -> Core:  # fmt: skip
    """Add the covariance of the fixed effects that was asked for. Raises UnsupportedError for methods that do not go together."""
    kind = choose(df, vcov, problem.method)
    try:
        W = np.asarray(2 * np.linalg.inv(state.observed if information == "observed" else state.expected), np.float64)
    except np.linalg.LinAlgError as e:
        raise ConvergenceError(f"{problem.covariance.name}: singular information; take fewer covariance parameters") from e
    clusters: Clusters | None = None
    matrix = state.phi
    if kind in _KR:
        matrix = kenward_roger(problem, state, W, linear=kind == "kenward-roger-linear")
    elif kind in SANDWICHES:
        matrix, clusters = sandwich(problem, state, kind)  # type: ignore[arg-type]
    how = f"{words}, {_WORDS[kind]}, {_WORDS[df]}" if kind not in _KR else f"{words}, {_KR_WORDS[kind]}, {_WORDS[df]}"
    how += "" if information == "observed" else ", expected information"
    return Core(design, subject, problem, state, df, kind, matrix, W, clusters, _within(design.matrix, subject), how)


_KR_WORDS = {"kenward-roger": "Kenward–Roger SE", "kenward-roger-linear": "Kenward–Roger SE without second derivatives"}


def choose(df: Df, vcov: Vcov | None, method: str, information: str = "observed") -> Vcov:
    """The covariance of β that goes with the degrees of freedom. Raises UnsupportedError or DataError."""
    if method not in ("REML", "ML") or information not in ("observed", "expected"):
        raise DataError(f"method={method!r}, information={information!r}", remedy="REML or ML; observed or expected")
    if df not in DFS:
        raise DataError(f"df={df!r} is unknown", remedy=f"one of {', '.join(DFS)}")
    kind: Vcov = vcov if vcov is not None else df if df in _KR else "asymptotic"  # type: ignore[assignment]
    if kind not in (*_KR, *SANDWICHES, "asymptotic"):
        raise DataError(f"vcov={kind!r} is unknown", remedy=f"one of asymptotic, {', '.join((*_KR, *SANDWICHES))}")
    if (kind in _KR) != (df in _KR):
        raise UnsupportedError(f"df={df!r} with vcov={kind!r}: Kenward–Roger is both or neither; leave vcov out")
    if kind in _KR and method != "REML":
        raise UnsupportedError("Kenward–Roger is for REML; take method='REML' or df='satterthwaite'")
    return kind


def _within(X: Array, subject: Ints) -> tuple[bool, ...]:
    low = np.full((int(subject.max()) + 1, X.shape[1]), np.inf)
    high = -low
    np.minimum.at(low, subject, X)
    np.maximum.at(high, subject, X)
    return tuple(bool(v) for v in (high - low > 0).any(0))


# ---- one contrast -----------------------------------------------------------------------------------------------------------
def contrast(core: Core, weights: Array, label: str, measure: str, extra: Mapping[str, str] | None = None) -> Estimate:
    """weights'β as an Estimate. weights: (p,)."""
    c = np.asarray(weights, float)
    if c.shape != (core.problem.p,):
        raise DataError(
            f"{c.size} weights for {core.problem.p} coefficients", remedy=f"in the order {', '.join(core.design.names)}"
        )
    if not c.any():
        raise DataError("every weight of the contrast is 0", remedy="give a contrast")
    return Estimate(
        label, measure, float(c @ core.state.beta), float(np.sqrt(c @ core.vcov @ c)), core.words, core.n_subjects,
        degrees(core, c), extra={**(extra or {}), "observations": core.problem.n},
    )  # fmt: skip


def degrees(core: Core, c: Array) -> float | None:
    """Degrees of freedom of c'β; None for normal theory."""
    if core.df == "normal":
        return None
    if core.df == "residual":
        return float(core.problem.n - core.problem.p)
    if core.df == "between-within":
        return _between_within(core, c)
    if core.clusters is not None:
        return bell_mccaffrey(core.problem, core.state, core.clusters, c)
    return _satterthwaite(core, c)  # for one contrast Kenward and Roger's are the same, and their scale is 1


def _satterthwaite(core: Core, c: Array) -> float:
    a = core.state.phi @ c
    g = np.einsum("i,qij,j->q", a, core.state.P, a)
    return float(2 * (c @ a) ** 2 / (g @ core.theta_cov @ g))


def _between_within(core: Core, c: Array) -> float:
    within = np.array(core.within)
    between = core.n_subjects - int((~within).sum())
    if bool((within & (c != 0)).any()):
        return float(core.problem.n - core.n_subjects - int(within.sum()))
    return float(between)


def lsmeans(core: Core, by: Sequence[str] | str, at: Mapping[str, Any] | None, margins: Margins) -> tuple[Estimate, ...]:
    """Least-squares means by the levels of columns."""
    names = (by,) if isinstance(by, str) else tuple(by)
    return tuple(
        contrast(core, w, ", ".join(f"{c} {v}" for c, v in levels.items()) or "all", "least-squares mean", levels)
        for levels, w in terms.means(core.design, names, at, margins)
    )


# ---- several at once ----------------------------------------------------------------------------------------------------------
def f_test(core: Core, L: Array, label: str) -> FTest:
    """H0: Lβ = 0. L: (r, p), rows independent. Raises DataError for dependent rows."""
    L = np.atleast_2d(np.asarray(L, float))
    if L.shape[1] != core.problem.p or np.linalg.matrix_rank(L) < len(L):
        raise DataError(f"test of {label}: {len(L)} rows that are not independent contrasts", remedy="leave dependent rows out")
    r = len(L)
    estimate = L @ core.state.beta
    wald = float(estimate @ np.linalg.solve(L @ core.vcov @ L.T, estimate)) / r
    if r == 1:
        return FTest(label, wald, 1, degrees(core, L[0]))
    if core.df in _KR:
        den, scale = _kenward_roger(core, L)
        return FTest(label, scale * wald, r, den, scale)
    if core.df != "satterthwaite":
        found = [degrees(core, c) for c in L]
        den_df = None if found[0] is None else min(v for v in found if v is not None)
        return FTest(label, wald, r, den_df)
    _, vectors = np.linalg.eigh(L @ core.vcov @ L.T)
    nu = np.array([degrees(core, v @ L) for v in vectors.T], float)
    return FTest(label, wald, r, _fai_cornelius(nu))


def type3(core: Core) -> tuple[FTest, ...]:
    """The type III test of every term."""
    return tuple(f_test(core, L, name) for name, L in terms.type3(core.design))


def _fai_cornelius(nu: Array) -> float:
    r = len(nu)
    if np.ptp(nu) < 1e-8 * nu.max():
        return float(nu.mean())
    E = float((nu[nu > 2] / (nu[nu > 2] - 2)).sum())
    return 2 * E / (E - r) if r < E else 0.0


def _kenward_roger(core: Core, L: Array) -> tuple[float, float]:
    """Denominator degrees of freedom m and scale λ (Kenward and Roger 1997, section 2)."""
    r, phi = len(L), core.state.phi
    theta = L.T @ np.linalg.solve(L @ phi @ L.T, L)
    half = np.einsum("ij,qjk->qik", theta @ phi, core.state.P @ phi)
    t = np.trace(half, axis1=1, axis2=2)
    A1 = float(t @ core.theta_cov @ t)
    A2 = float((core.theta_cov * np.einsum("aij,bji->ab", half, half)).sum())
    B = (A1 + 6 * A2) / (2 * r)
    g = ((r + 1) * A1 - (r + 4) * A2) / ((r + 2) * A2)
    below = 3 * r + 2 * (1 - g)
    c1, c2, c3 = g / below, (r - g) / below, (r + 2 - g) / below
    mean = 1 / (1 - A2 / r)
    variance = 2 / r * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    rho = variance / (2 * mean**2)
    m = 4 + (r + 2) / (r * rho - 1)
    return float(m), float(m / (mean * (m - 2)))
