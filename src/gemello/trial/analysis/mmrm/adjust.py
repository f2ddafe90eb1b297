"""Covariances of the fixed effects: Kenward and Roger's for small samples, and sandwiches that hold when V is wrong.

Kenward and Roger (1997, Biometrics 53: 983–997): Φ_A = Φ + 2Φ{Σ_ab W_ab (Q_ab − P_aΦP_b − ¼R_ab)}Φ with W the covariance of the
covariance parameters (here, as in SAS, from their *observed* information); the linear form leaves R_ab, the second derivatives,
out (Prasad–Rao, Harville and Jeske).
Sandwiches: CR0 Liang and Zeger (1986, Biometrika 73: 13–22); CR2 Bell and McCaffrey (2002), in the form for working covariances
of Pustejovsky and Tipton (2018, J Bus Econ Stat 36: 672–683); the jackknife CR3 of Mancl and DeRouen (2001, Biometrics 57:
126–134).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gemello.trial.analysis.mmrm.covariance import Array
from gemello.trial.analysis.mmrm.reml import Block, Problem, State, Whitened, whiten

Sandwich = Literal["empirical", "empirical-cr2", "empirical-jackknife"]


@dataclass(frozen=True)
class Clusters:
    """What Bell and McCaffrey's degrees of freedom need. half: (S, m, p) of each block, A_i'X̃_iΦ in coordinates in which V is the
    identity. white: (S, m, p) X̃_i."""

    half: tuple[Array, ...]
    white: tuple[Array, ...]


def kenward_roger(problem: Problem, state: State, W: Array, linear: bool) -> Array:
    """(p, p) Φ_A. W: (q, q) covariance of θ."""
    p = problem.p
    inner = -np.einsum("ab,aij,jk,bkl->il", W, state.P, state.phi, state.P, optimize=True)
    for block, w in _whitened(problem, state):
        D = w.inverse[:, None] @ w.parts[1] @ np.swapaxes(w.inverse, 1, 2)[:, None]
        middle = np.einsum("paij,pajk->pik", D, np.einsum("ab,pbij->paij", W, D))
        if not linear and w.parts[2] is not None:
            curved = np.einsum("ab,pabij->pij", W, w.parts[2])
            middle -= 0.25 * w.inverse @ curved @ np.swapaxes(w.inverse, 1, 2)
        X = w.XY[..., :p]
        inner += X.reshape(-1, p).T @ (middle[block.pattern] @ X).reshape(-1, p)
    out = state.phi + 2 * state.phi @ inner @ state.phi
    return (out + out.T) / 2


def sandwich(problem: Problem, state: State, kind: Sandwich) -> tuple[Array, Clusters]:
    """(p, p) covariance, subjects being the clusters, and what its degrees of freedom need."""
    p = problem.p
    total: Array = np.zeros((p, p))
    halves, white = [], []
    for block, w in _whitened(problem, state):
        X = w.XY[..., :p]
        r = w.XY[..., p] - X @ state.beta
        half = X @ state.phi if kind == "empirical" else _adjusted(block, w, X, state, kind)
        score: Array = np.einsum("smp,sm->sp", half, r)
        total += score.T @ score
        halves.append(half)
        white.append(X)
    return np.asarray(total, np.float64), Clusters(tuple(halves), tuple(white))


def _adjusted(block: Block, w: Whitened, X: Array, state: State, kind: Sandwich) -> Array:
    """A_i'X̃_iΦ: A = (I − H_ii)⁻¹ for CR3; for CR2 the symmetric A (in the units of the data) with A (V − XΦX') A = V."""
    rest = np.eye(X.shape[1]) - X @ state.phi @ np.swapaxes(X, 1, 2)
    if kind == "empirical-jackknife":
        return np.asarray(np.linalg.solve(np.swapaxes(rest, 1, 2), X @ state.phi), np.float64)
    L = np.linalg.inv(w.inverse)[block.pattern]
    square = np.swapaxes(L, 1, 2) @ L  # A = L B^(-1/2) L', B = L'(V - XΦX')L; L⁻¹AL = B^(-1/2) L'L acts on whitened residuals
    middle = square @ rest @ square
    values, vectors = np.linalg.eigh((middle + np.swapaxes(middle, 1, 2)) / 2)
    kept = values > 1e-12 * values.max(axis=1, keepdims=True)
    root = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    half = (vectors * root[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    return square @ half @ X @ state.phi


def bell_mccaffrey(problem: Problem, state: State, clusters: Clusters, weights: Array) -> float:
    """Degrees of freedom of weights'β under a sandwich (Bell and McCaffrey 2002; Pustejovsky and Tipton 2018)."""
    squares, inner = [], []
    for half, X in zip(clusters.half, clusters.white, strict=True):
        a = half @ weights
        squares.append(np.square(a).sum(1))
        inner.append(np.einsum("smp,sm->sp", X, a))
    d, B = np.concatenate(squares), np.concatenate(inner)
    half = B @ np.linalg.cholesky(state.phi)
    norm = np.square(half).sum(1)
    gram = half.T @ half
    trace = float((d - norm).sum())
    total = float(np.square(d).sum() - 2 * (d * norm).sum() + np.square(gram).sum())
    return trace**2 / total


def _whitened(problem: Problem, state: State) -> list[tuple[Block, Whitened]]:
    out = [(b, whiten(problem, state.theta, b)) for b in problem.blocks]
    return [(b, w) for b, w in out if w is not None]
