"""The multivariate normal model of a longitudinal outcome: means by arm, visit and covariates, unstructured covariance.

    y_i ~ normal(B' z_i, Σ),  z_i = (1 of the subject's arm, covariates)

Maximum likelihood by EM, REML by the same with its correction, and draws from the posterior under Jeffreys' prior by data
augmentation (Schafer 1997, chapter 5): what proper multiple imputation needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ConvergenceError, DataError
from gemello.base.random import generator
from gemello.trial.missing.visits import Visits

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Normal:
    """coefficients: (q, T), the arms' means at the covariates' mean first, then slopes; covariances: (A, T, T), one an arm (all
    the same where they are shared)."""

    coefficients: Array
    covariances: Array

    def mean(self, data: Visits, arm: NDArray[np.int64] | None = None) -> Array:
        """(n, T) mean of each subject, or of one like it in other arms (n,)."""
        return columns(data, arm) @ self.coefficients


def columns(data: Visits, arm: NDArray[np.int64] | None = None) -> Array:
    """(n, q) arm indicators and covariates."""
    a = data.arm if arm is None else arm
    return np.column_stack([np.eye(len(data.arms))[a], data.x])


@dataclass(frozen=True, eq=False)
class Patterns:
    """Subjects of one arm that are seen at the same visits, together. seen: (G, T). arm: (G,). of: (n,) group of each subject.
    counts: (G,). grams: (G, q, q) z'z of each."""

    seen: NDArray[np.bool_]
    arm: NDArray[np.int64]
    of: NDArray[np.int64]
    counts: Array
    grams: Array


def patterns_of(data: Visits) -> Patterns:
    """Groups of equal arm and visits seen."""
    kinds, of = np.unique(np.column_stack([data.arm, ~data.missing]), axis=0, return_inverse=True)
    of = of.ravel()
    z = columns(data)
    grams = np.zeros((len(kinds), z.shape[1], z.shape[1]))
    np.add.at(grams, of, z[:, :, None] * z[:, None, :])
    return Patterns(kinds[:, 1:].astype(bool), kinds[:, 0], of, np.bincount(of).astype(float), grams)


def regressions(sigma: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """For each group: the observed visits' inverse covariance with zeros elsewhere (G, T, T), the regression of all visits on the
    observed ones (identity in their rows), and the covariance left. sigma: (G, T, T), seen: (G, T)."""
    both = seen[:, :, None] & seen[:, None, :]
    weight = np.linalg.inv(np.where(both, sigma, np.eye(seen.shape[1]))) * both
    slope = sigma @ weight
    return weight, slope, sigma - slope @ sigma


def maximum_likelihood(
    data: Visits, *, by_arm: bool = False, restricted: bool = False, tolerance: float = 1e-9, rounds: int = 5000,
    start: Normal | None = None,
) -> Normal:  # fmt: skip
    """Fit by EM (Dempster, Laird & Rubin 1977). by_arm: a covariance for each arm. restricted: REML (the coefficients'
    uncertainty enters Σ; Laird & Ware 1982). start: an earlier fit of like data. Raises ConvergenceError, DataError where
    visits are too rarely seen together.
    """
    z = columns(data)
    _check(data, z, by_arm)
    p = patterns_of(data)
    sigma = np.repeat(np.diag(np.nanvar(data.y, axis=0))[None], len(data.arms), 0) if start is None else start.covariances
    b = np.zeros((z.shape[1], data.y.shape[1])) if start is None else start.coefficients
    share = np.eye(len(data.arms))[p.arm] if by_arm else np.ones((len(p.arm), 1))  # (G, covariances)
    sizes = share.T @ p.counts
    for _ in range(rounds):
        weight, slope, left = regressions(sigma[p.arm], p.seen)
        b_new, uncertain = _generalised(data, z, p, weight)
        residual = np.where(data.missing, 0.0, data.y - z @ b_new)
        full = np.einsum("nst,nt->ns", slope[p.of], residual)
        group = np.zeros_like(left)
        np.add.at(group, p.of, full[:, :, None] * full[:, None, :])
        group += p.counts[:, None, None] * left
        if restricted:
            q, t = b_new.shape
            total = np.einsum("gij,isjt->gst", p.grams, uncertain.reshape(q, t, q, t))
            group += slope @ total @ slope.transpose(0, 2, 1)
        new = np.einsum("gk,gst->kst", share, group) / sizes[:, None, None]
        new = new if by_arm else np.repeat(new, len(data.arms), 0)
        scale = np.sqrt(np.einsum("aii->ai", new))
        change = max(
            float(np.abs((new - sigma) / (scale[:, :, None] * scale[:, None, :])).max()),
            float(np.abs((b_new - b) / scale.max(0)).max()),
        )
        b, sigma = b_new, new
        if change < tolerance:
            return Normal(b, sigma)
    raise ConvergenceError(f"EM did not converge in {rounds} rounds; too little is seen at some visit")


def _generalised(data: Visits, z: Array, p: Patterns, weight: Array) -> tuple[Array, Array]:
    """Generalised least squares of the observed values: coefficients (q, T), their covariance (qT, qT), visits fastest."""
    q, t = z.shape[1], data.y.shape[1]
    a = np.einsum("gij,gst->isjt", p.grams, weight).reshape(q * t, q * t)
    seen = np.where(data.missing, 0.0, data.y)
    c = z.T @ np.einsum("nst,nt->ns", weight[p.of], seen)
    covariance = np.linalg.inv(a)
    return (covariance @ c.ravel()).reshape(q, t), covariance


def posterior_draws(
    data: Visits, draws: int, *, seed: int, by_arm: bool = False, burn_in: int = 100, thin: int = 10
) -> Iterator[Normal]:
    """Draws of (B, Σ) from their posterior under p(B, Σ) ∝ |Σ|^−(T+1)/2, by data augmentation started at the maximum likelihood
    fit.

    burn_in, thin: Gibbs steps before the first draw and between draws.
    """
    rng = generator(seed, "data augmentation")
    state = maximum_likelihood(data, by_arm=by_arm, tolerance=1e-5)
    p = patterns_of(data)
    z = columns(data)
    root = np.linalg.cholesky(np.linalg.inv(z.T @ z))
    for k in range(draws):
        for _ in range(burn_in if k == 0 else thin):
            full = impute(data, state, p, rng)
            state = _parameters(data, z, root, full, rng, by_arm, state)
        yield state


def _parameters(data: Visits, z: Array, root: Array, full: Array, rng: np.random.Generator, by_arm: bool, last: Normal) -> Normal:
    """One draw of (B, Σ) given complete data: exact for a shared covariance, a further Gibbs step where each arm has its own."""
    n, t = full.shape
    q = z.shape[1]
    if not by_arm:
        b = np.linalg.lstsq(z, full, rcond=None)[0]
        r = full - z @ b
        sigma = inverse_wishart(r.T @ r, n - q, rng)
        noise = root @ rng.standard_normal((q, t)) @ np.linalg.cholesky(sigma).T
        return Normal(np.asarray(b + noise, float), np.repeat(sigma[None], len(data.arms), 0))
    complete = data.filled(full)
    p = patterns_of(complete)
    b, covariance = _generalised(complete, z, p, np.asarray(np.linalg.inv(last.covariances), float)[p.arm])
    b = b + (np.linalg.cholesky(covariance) @ rng.standard_normal(q * t)).reshape(q, t)
    r = full - z @ b
    each = [inverse_wishart(r[m].T @ r[m], int(m.sum()), rng) for m in (data.arm == a for a in range(len(data.arms)))]
    return Normal(b, np.array(each))


def inverse_wishart(scale: Array, df: int, rng: np.random.Generator) -> Array:
    """One draw of an inverse Wishart distribution, by Bartlett's decomposition."""
    t = scale.shape[0]
    if df < t:
        raise DataError(f"{df} degrees of freedom for {t} visits", remedy="more subjects, or fewer visits and covariates")
    a = np.tril(rng.standard_normal((t, t)), -1) + np.diag(np.sqrt(rng.chisquare(df - np.arange(t))))
    half = np.linalg.solve(a, np.linalg.cholesky(scale).T)
    return np.asarray(half.T @ half)


def impute(data: Visits, model: Normal, p: Patterns, rng: np.random.Generator) -> Array:
    """(n, T) outcomes with what is missing drawn given what is seen, at random."""
    _, slope, left = regressions(model.covariances[p.arm], p.seen)
    mean = model.mean(data)
    residual = np.where(data.missing, 0.0, data.y - mean)
    both = ~p.seen[:, :, None] & ~p.seen[:, None, :]
    root = np.linalg.cholesky(np.where(both, left, np.eye(left.shape[1])))
    noise = np.where(data.missing, rng.standard_normal(data.y.shape), 0.0)
    drawn = mean + np.einsum("nst,nt->ns", slope[p.of], residual) + np.einsum("nst,nt->ns", root[p.of], noise)
    return np.where(data.missing, drawn, data.y)


def conditional(y: Array, mean: Array, sigma: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Mean (m, missing) and covariance of what is missing given what is seen. y, mean: (m, T) of one pattern."""
    o, u = np.flatnonzero(seen), np.flatnonzero(~seen)
    if not len(o):
        return mean[:, u], sigma[np.ix_(u, u)]
    slope = np.linalg.solve(sigma[np.ix_(o, o)], sigma[np.ix_(o, u)])
    return mean[:, u] + (y[:, o] - mean[:, o]) @ slope, sigma[np.ix_(u, u)] - sigma[np.ix_(u, o)] @ slope


def _check(data: Visits, z: Array, by_arm: bool) -> None:
    if len(data) <= z.shape[1] + data.y.shape[1]:
        raise DataError(f"{len(data)} subjects for {z.shape[1]} means and {data.y.shape[1]} visits", remedy="fewer covariates")
    seen = ~data.missing
    groups = [np.flatnonzero(data.arm == a) for a in range(len(data.arms))] if by_arm else [np.arange(len(data))]
    for rows in groups:
        together = seen[rows].T.astype(int) @ seen[rows].astype(int)
        if together.min() < 2:
            s, t = np.unravel_index(int(together.argmin()), together.shape)
            raise DataError(
                f"visits {data.visits[s]} and {data.visits[t]} are both seen in {together.min()} subjects",
                remedy="their covariance cannot be learned: share the covariance between arms, or leave a visit out",
            )
