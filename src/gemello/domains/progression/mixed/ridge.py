"""The penalty of a regression on baseline values, by empirical Bayes: penalised coefficients are normal, and their standard
deviation τ relative to that of the residual has the largest restricted likelihood (Robinson 1991, Stat Sci 6:15, section 5)
times τ, the prior that keeps an estimated τ from the boundary at 0 (Chung et al. 2013, Psychometrika 78:685, equation 6, α = 2,
λ → 0)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gemello.base.random import generator

Array = NDArray[np.float64]
PENALTIES = np.geomspace(0.3, 1e5, 23)


def folds(n: int, number: int, seed: int, *names: str) -> NDArray[np.int64]:
    """(n,) fold of each person, balanced, at random."""
    order = generator(seed, "folds", *names).permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.arange(n) % number
    return out


def restricted(free: Array, penalised: Array, z: Array) -> Array:
    """Restricted log-likelihood at each of `PENALTIES`. free (n, q), penalised (n, p): columns; z (n,)."""
    n, q = free.shape
    basis, _ = np.linalg.qr(free)
    z, penalised = z - basis @ (basis.T @ z), penalised - basis @ (basis.T @ penalised)
    u, d, _ = np.linalg.svd(penalised, full_matrices=False)
    along = u.T @ z
    rest = float(z @ z - along @ along)
    ratio = d[None, :] ** 2 / PENALTIES[:, None]
    left = np.maximum(rest + np.sum(along**2 / (1 + ratio), axis=1), 1e-12)
    return np.asarray(-0.5 * (np.sum(np.log1p(ratio), axis=1) + (n - q) * np.log(left)))


def choose(x1: Array, z: Array, person: NDArray[np.int64], h: Array, free: NDArray[np.bool_]) -> float:
    """Penalty of the coefficients that are not `free` (1 + p,), the same at every knot. x1: (persons, 1 + p); z, person, h
    (N,), (N,), (N, K): observations, and their weights at the knots, which say to which knot each belongs; a person counts once
    a knot."""
    total = -0.5 * np.log(PENALTIES)  # log τ
    nearest = np.argmax(h, axis=1)
    for k in range(h.shape[1]):
        here = nearest == k
        who, at = np.unique(person[here], return_inverse=True)
        if len(who) <= free.sum() + 1:
            continue
        mean = np.bincount(at, z[here]) / np.bincount(at)
        total += restricted(x1[who][:, free], x1[who][:, ~free], mean)
    return float(PENALTIES[int(np.argmax(total))])


def solve(design: Array, z: Array, free: NDArray[np.bool_], penalty: float) -> Array:
    """Ridge coefficients (q,)."""
    return np.asarray(np.linalg.solve(design.T @ design + np.diag(np.where(free, 1e-6, penalty) + 1e-9), design.T @ z), float)
