"""A linear mixed-effects model by restricted maximum likelihood, with small-sample inference after Kenward & Roger.

    y_i = X_i β + Z_i b_i + e_i,   b_i ~ N(0, D), D unstructured,   e_i ~ N(0, σ² I)

Likelihood: Harville, J Am Stat Assoc 72:320-338, 1977; profiled over β and σ² as in Bates et al., J Stat Softw 67(1), 2015,
eq. 41. Adjusted covariance and degrees of freedom: Kenward & Roger, Biometrics 53:983-997, 1997, eq. 3-5. V is linear in the
variance parameters, so their second-order term R is zero; for one contrast their scale is 1 and their degrees of freedom 2/A2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import t as student

from gemello.base.errors import ConvergenceError, DataError

Floats = NDArray[np.float64]
SINGULAR = 1e-6  # ratio of eigenvalues of the scaled D below which it is called singular


@dataclass(frozen=True)
class Contrast:
    """A linear combination of fixed effects: value, standard error, degrees of freedom, interval at `level`, two-sided p."""

    value: float
    se: float
    df: float
    low: float
    high: float
    p: float
    level: float


@dataclass(frozen=True, eq=False)
class Mixed:
    """What was estimated. names, beta: (fixed,). covariance: (fixed, fixed) after Kenward & Roger; plain: of generalised least
    squares. random: (effects, effects), D. residual: variance σ². loglik: restricted, with all constants. effects: (groups,
    effects), b by best linear unbiased prediction. singular: whether D is on the edge of what is allowed."""

    names: tuple[str, ...]
    beta: Floats
    covariance: Floats
    plain: Floats
    random: Floats
    residual: float
    loglik: float
    effects: Floats
    groups: tuple[str, ...]
    fitted: Floats
    singular: bool
    information: Floats
    slopes: Floats

    def contrast(self, weights: Floats, level: float = 0.90) -> Contrast:
        """Of `weights` (fixed,): Σ weights β, with the t interval of Kenward & Roger."""
        w = np.asarray(weights, float)
        plain = float(w @ self.plain @ w)
        parts = np.einsum("a,rab,b->r", w @ self.plain, self.slopes, self.plain @ w) / plain
        a2 = float(parts @ np.linalg.pinv(self.information, hermitian=True) @ parts)
        df = 2.0 / a2 if a2 > 0 else float("inf")
        value, se = float(w @ self.beta), float(np.sqrt(w @ self.covariance @ w))
        half = float(student.ppf(0.5 + level / 2, df)) * se
        return Contrast(value, se, df, value - half, value + half, float(2.0 * student.sf(abs(value) / se, df)), level)

    def effect(self, name: str, level: float = 0.90) -> Contrast:
        """One fixed effect by name."""
        w = np.zeros(len(self.beta))
        w[self.names.index(name)] = 1.0
        return self.contrast(w, level)


class _Sums(NamedTuple):
    """Cross products: of all records, and by group (groups, …)."""

    yy: float
    xy: Floats
    xx: Floats
    zz: Floats
    zx: Floats
    zy: Floats
    records: int


def reml(y: Floats, x: Floats, z: Floats, group: NDArray[np.str_], names: tuple[str, ...]) -> Mixed:
    """Fit. y: (records,); x: (records, fixed) with `names`; z: (records, effects); group: (records,) of each record's subject.

    Raises DataError where x has columns that depend on each other or there are too few records, ConvergenceError where the
    likelihood has no maximum.
    """
    _check(y, x, z, group, names)
    scale_x, scale_z = np.sqrt(np.mean(x**2, axis=0)), np.sqrt(np.mean(z**2, axis=0))
    xs, zs = x / scale_x, z / scale_z
    ids = tuple(dict.fromkeys(group.tolist()))
    members = [np.flatnonzero(group == g) for g in ids]
    sums = _sums(y, xs, zs, members)
    lower = _maximise(sums)
    value, beta, sigma2 = _deviance(lower, sums)
    d = sigma2 * lower @ lower.T
    phi, slopes, information, adjusted = _kenward_roger(xs, zs, members, d, sigma2)
    effects = np.stack([_blup(y[m] - xs[m] @ beta, zs[m], d, sigma2) for m in members])
    fitted = xs @ beta
    for b, m in zip(effects, members, strict=True):
        fitted[m] += zs[m] @ b
    by_x, eig = np.outer(scale_x, scale_x), np.linalg.eigvalsh(lower @ lower.T)
    # the REML likelihood depends on the scale of X through log|X'V⁻¹X|; given for the columns as they came
    loglik = -0.5 * (value + 2.0 * float(np.log(scale_x).sum()))
    return Mixed(
        names, beta / scale_x, adjusted / by_x, phi / by_x, d / np.outer(scale_z, scale_z), sigma2, loglik, effects / scale_z,
        ids, fitted, bool(eig[0] < SINGULAR * max(eig[-1], 1e-12)), information, slopes * by_x,
    )  # fmt: skip


def _check(y: Floats, x: Floats, z: Floats, group: NDArray[np.str_], names: tuple[str, ...]) -> None:
    if not (np.isfinite(y).all() and np.isfinite(x).all() and np.isfinite(z).all()):
        raise DataError("a value of the linear mixed model is not a number", remedy="leave out records with missing values")
    if len(set(group.tolist())) <= z.shape[1] or len(y) <= x.shape[1] + z.shape[1]:
        raise DataError(
            f"{len(set(group.tolist()))} subjects and {len(y)} records are too few for {x.shape[1]} fixed and {z.shape[1]} random"
            " effects", remedy="give more subjects",
        )  # fmt: skip
    size = np.sqrt(np.mean(x**2, axis=0))
    if (size == 0).any() or np.linalg.matrix_rank(x / np.where(size == 0, 1.0, size)) < x.shape[1]:
        raise DataError(
            f"the fixed effects {', '.join(names)} cannot be told apart in these data",
            remedy="see that both placebo and drug were measured at the same times, at several concentrations",
        )


def _sums(y: Floats, x: Floats, z: Floats, members: list[NDArray[np.int64]]) -> _Sums:
    def stack(a: Floats, b: Floats) -> Floats:
        return np.stack([a[m].T @ b[m] for m in members])

    return _Sums(float(y @ y), x.T @ y, x.T @ x, stack(z, z), stack(z, x), stack(z, y), len(y))


def _deviance(lower: Floats, s: _Sums) -> tuple[float, Floats, float]:
    """−2 log restricted likelihood at D = σ² L L', profiled over β and σ²; β; σ². H = I + Z L L' Z' by Woodbury's identity."""
    q = len(lower)
    inner = np.eye(q) + lower.T @ s.zz @ lower
    middle = lower @ np.linalg.solve(inner, np.broadcast_to(lower.T, inner.shape))
    xx = s.xx - np.einsum("gqa,gqr,grb->ab", s.zx, middle, s.zx)
    xy = s.xy - np.einsum("gqa,gqr,gr->a", s.zx, middle, s.zy)
    yy = s.yy - float(np.einsum("gq,gqr,gr->", s.zy, middle, s.zy))
    beta = np.linalg.solve(xx, xy)
    free = s.records - len(beta)
    sigma2 = max(yy - float(xy @ beta), 1e-300) / free
    logs = float(np.linalg.slogdet(inner)[1].sum() + np.linalg.slogdet(xx)[1])
    return free * (1.0 + np.log(2.0 * np.pi * sigma2)) + logs, beta, sigma2


def _maximise(s: _Sums) -> Floats:
    """L of the largest likelihood, from several starts; its diagonal may pass through zero, so no bound is needed."""
    q = s.zz.shape[1]
    rows, cols = np.tril_indices(q)

    def lower(v: Floats) -> Floats:
        out = np.zeros((q, q))
        out[rows, cols] = v
        return out

    target = lambda v: _deviance(lower(v), s)[0]  # noqa: E731
    best = None
    for size in (0.3, 1.0, 3.0):
        rough = minimize(target, np.where(rows == cols, size, 0.0), method="BFGS")
        fine = minimize(target, rough.x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000})
        best = fine if best is None or fine.fun < best.fun else best
    if best is None or not (best.success and np.isfinite(best.fun)):
        raise ConvergenceError(
            "the linear mixed model did not converge; see that concentrations vary within subjects, and that units are right"
        )
    return lower(best.x)


def _derivatives(z: Floats) -> list[Floats]:
    """∂V/∂ of each element of D (lower triangle, by rows) and of σ², of one group."""
    out = []
    for a, b in zip(*np.tril_indices(z.shape[1]), strict=True):
        one = np.outer(z[:, a], z[:, b])
        out.append(one if a == b else one + one.T)
    return [*out, np.eye(len(z))]


def _kenward_roger(
    x: Floats, z: Floats, members: list[NDArray[np.int64]], d: Floats, sigma2: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Φ = (X'V⁻¹X)⁻¹; P_r; expected information of the variance parameters; the adjusted covariance of β (their eq. 3)."""
    p, k = x.shape[1], len(np.tril_indices(len(d))[0]) + 1
    xvx, pr, q, traces = np.zeros((p, p)), np.zeros((k, p, p)), np.zeros((k, k, p, p)), np.zeros((k, k))
    for m in members:
        v = z[m] @ d @ z[m].T + sigma2 * np.eye(len(m))
        inverse = np.linalg.inv(v)
        vx, moved = inverse @ x[m], [inverse @ g for g in _derivatives(z[m])]
        xvx += x[m].T @ vx
        sides = [g @ vx for g in moved]  # V⁻¹ G_r V⁻¹ X
        for r in range(k):
            pr[r] -= x[m].T @ sides[r]
            for t in range(k):
                q[r, t] += sides[r].T @ v @ sides[t]
                traces[r, t] += float(np.sum(moved[r] * moved[t].T))
    phi = np.linalg.inv(xvx)
    pp = phi @ pr
    information = 0.5 * (traces - 2.0 * np.einsum("ab,rtba->rt", phi, q) + np.einsum("rab,tba->rt", pp, pp))
    w = np.linalg.pinv(information, hermitian=True)
    change = np.einsum("rt,rtab->ab", w, q - np.einsum("rab,bc,tcd->rtad", pr, phi, pr))
    return np.asarray(phi), pr, np.asarray(information), np.asarray(phi + 2.0 * phi @ change @ phi)


def _blup(rest: Floats, z: Floats, d: Floats, sigma2: float) -> Floats:
    return np.asarray(d @ z.T @ np.linalg.solve(z @ d @ z.T + sigma2 * np.eye(len(z)), rest))
