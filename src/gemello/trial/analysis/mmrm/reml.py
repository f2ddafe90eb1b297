"""The likelihood of a linear mixed model with one covariance V_i(θ) for every subject, its exact derivatives, and its optimum.

−2 log L (ML) = Σ log|V_i| + r'V⁻¹r + n log 2π; REML (Patterson and Thompson 1971) adds log|X'V⁻¹X| and has n − p for n. The
gradient and the observed information are exact (e.g. Harville 1977, equations 5.1 to 5.6), with β profiled out. Subjects with
the same pattern of visits share their matrices, and everything is computed in coordinates in which V_i is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gemello.base.errors import ConvergenceError, RefusalError
from gemello.trial.analysis.mmrm.covariance import Array, Covariance, Ints, Parts

Method = Literal["REML", "ML"]
ITERATIONS, HALVINGS = 200, 40
EDGE, SINGULAR, CHECK_EVERY = 1e-5, 1e-9, 10  # shares of variance; iterations
ENOUGH = 1e-11  # Newton decrement (in −2 log L) after which one more step ends the search
MEMORY = 20_000_000  # numbers in the largest array


@dataclass(frozen=True)
class Block:
    """Subjects with m observations each. subjects: (S,) numbers, sorted by pattern. rows: (S, m) of the design. X: (S, m, p).
    y: (S, m). pattern: (S,). starts: (P,) first subject of each pattern. place: (P, …) for the structure. group: (P,)."""

    subjects: Ints
    rows: Ints
    X: Array
    y: Array
    pattern: Ints
    starts: Ints
    place: Any
    group: Ints

    @property
    def count(self) -> Array:
        """(P,) subjects of each pattern."""
        return np.diff(np.append(self.starts, len(self.pattern))).astype(float)


@dataclass(frozen=True)
class Problem:
    """What is fitted. scale: Σ log of the observations' weights, which the whitening of weighted rows has to give back."""

    blocks: tuple[Block, ...]
    covariance: Covariance
    groups: int
    n: int
    p: int
    method: Method
    log_weights: float = 0.0

    @property
    def size(self) -> int:
        """Number of covariance parameters, all groups together."""
        return self.groups * len(self.covariance.names)


@dataclass(frozen=True)
class State:
    """At one θ: −2 log L, β (p,), Φ = (X'V⁻¹X)⁻¹ (p, p), gradient (q,), expected and observed information of −2 log L
    (q, q; observed is its Hessian), and P_a = X'V⁻¹ (∂V/∂θ_a) V⁻¹X (q, p, p)."""

    theta: Array
    value: float
    beta: Array
    phi: Array
    gradient: Array
    expected: Array
    observed: Array
    P: Array


@dataclass(frozen=True)
class Whitened:
    """A block in coordinates in which V is the identity: L⁻¹ (P, m, m), [L⁻¹X, L⁻¹y] (S, m, p + 1), Σ log|V|, parts of V."""

    inverse: Array
    XY: Array
    log_det: float
    parts: Parts


def parts_of(problem: Problem, theta: Array, place: Any, group: Ints) -> Parts:
    """Value and derivatives over all groups' parameters: (P, m, m), (P, q, m, m), (P, q, q, m, m) or None."""
    if problem.groups == 1:
        return problem.covariance.parts(theta, place)
    q, shape = len(problem.covariance.names), (len(place), place.shape[1], place.shape[1])
    value, first = np.empty(shape), np.zeros((shape[0], problem.size, *shape[1:]))
    second: Array | None = None
    for g in np.unique(group):
        here, k = group == g, slice(g * q, (g + 1) * q)
        v, d, dd = problem.covariance.parts(theta[k], place[here])
        value[here] = v
        first[here, k] = d
        if dd is not None:
            second = np.zeros((shape[0], problem.size, problem.size, *shape[1:])) if second is None else second
            second[here, k, k] = dd
    return value, first, second


def whiten(problem: Problem, theta: Array, block: Block) -> Whitened | None:
    """None where a covariance is not positive definite."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        parts = parts_of(problem, theta, block.place, block.group)
    if not np.isfinite(parts[0]).all():
        return None
    try:
        lower = np.linalg.cholesky(parts[0])
    except np.linalg.LinAlgError:
        return None
    inverse = np.linalg.inv(lower)
    log_det = 2 * float(block.count @ np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1))
    XY = np.concatenate([block.X, block.y[..., None]], axis=2)
    return Whitened(inverse, inverse[block.pattern] @ XY, log_det, parts)


def _regress(problem: Problem, whitened: Sequence[Whitened]) -> tuple[float, Array, Array] | None:
    """−2 log L, β and Φ."""
    k = problem.p + 1
    gram = sum((w.XY.reshape(-1, k).T @ w.XY.reshape(-1, k) for w in whitened), np.zeros((k, k)))
    information, score, p = gram[:-1, :-1], gram[:-1, -1], problem.p
    try:
        lower = np.linalg.cholesky(information)
    except np.linalg.LinAlgError:
        return None
    inverse = np.linalg.inv(lower)
    beta = inverse.T @ (inverse @ score)
    rss = sum(float(np.square(w.XY[..., -1] - w.XY[..., :-1] @ beta).sum()) for w in whitened)
    value = sum(w.log_det for w in whitened) - problem.log_weights + rss
    reml = problem.method == "REML"
    value += (problem.n - p * reml) * np.log(2 * np.pi) + 2 * reml * float(np.log(np.diag(lower)).sum())
    return value, beta, inverse.T @ inverse


def value_at(problem: Problem, theta: Array) -> float:
    """−2 log L, infinite where a covariance is not positive definite."""
    whitened: list[Whitened] = []
    for b in problem.blocks:
        w = whiten(problem, theta, b)
        if w is None:
            return np.inf
        whitened.append(w)
    out = _regress(problem, whitened)
    return np.inf if out is None else out[0]


def state_at(problem: Problem, theta: Array) -> State | None:
    """Everything at θ; None outside the parameter space."""
    whitened = [whiten(problem, theta, b) for b in problem.blocks]
    known = [w for w in whitened if w is not None]
    out = _regress(problem, known) if len(known) == len(whitened) else None
    if out is None:
        return None
    value, beta, phi = out
    q, p, reml = problem.size, problem.p, problem.method == "REML"
    traces, squares, curved, crossed = np.zeros(q), np.zeros((q, q)), np.zeros((q, q)), np.zeros((q, q))
    P, inner = np.zeros((q, p + 1, p + 1)), np.zeros((q, q))
    for block, w in zip(problem.blocks, known, strict=True):
        XR = w.XY.copy()
        XR[..., -1] -= w.XY[..., :-1] @ beta
        W = w.inverse[:, None] @ w.parts[1] @ np.swapaxes(w.inverse, 1, 2)[:, None]  # (P, q, m, m)
        M = pattern_sum(block, XR[..., :-1] @ phi @ np.swapaxes(XR[..., :-1], 1, 2)) * reml
        flat = W.reshape(len(W), q, -1)
        weighted = flat * block.count[:, None, None]
        traces += weighted[:, :, :: W.shape[-1] + 1].sum((0, 2))
        squares += np.tensordot(weighted, flat, ((0, 2), (0, 2)))
        crossed += np.tensordot(flat, (W @ M[:, None]).reshape(flat.shape), ((0, 2), (0, 2)))
        P += derivative_gram(block, W, XR)
        WR = np.einsum("sqij,sj->qsi", W[block.pattern], XR[..., -1]).reshape(q, -1)
        inner += WR @ WR.T
        if w.parts[2] is not None:
            r = XR[..., -1]
            N = pattern_sum(block, r[:, :, None] * r[:, None, :])
            eye = np.eye(W.shape[-1]) * block.count[:, None, None]
            back = np.swapaxes(w.inverse, 1, 2) @ (eye - M - N) @ w.inverse
            curved += np.tensordot(w.parts[2], back, ((0, 3, 4), (0, 1, 2)))
    PX, PR, RR = P[:, :-1, :-1], P[:, :-1, -1], P[:, -1, -1]
    half = np.einsum("ab,qbc->qac", phi, PX)
    gradient = traces - reml * np.trace(half, axis1=1, axis2=2) - RR
    expected = squares - 2 * crossed + reml * np.einsum("aij,bji->ab", half, half)
    observed = curved - expected + 2 * (inner - PR @ phi @ PR.T)
    return State(theta, value, beta, phi, gradient, expected, (observed + observed.T) / 2, PX)


def pattern_sum(block: Block, values: Array) -> Array:
    """Sum over the subjects of each pattern: (S, …) to (P, …)."""
    return np.add.reduceat(values, block.starts, axis=0)


def derivative_gram(block: Block, W: Array, X: Array) -> Array:
    """Σ X'W_aX over the subjects: (q, k, k)."""
    S, m, k = X.shape
    q = W.shape[1]
    out, step = np.zeros((q, k, k)), max(1, MEMORY // (q * m * k))
    for s in range(0, S, step):
        x = X[s : s + step]
        half = (W[block.pattern[s : s + step]].reshape(len(x), q * m, m) @ x).reshape(len(x), q, m, k)
        out += x.reshape(-1, k).T @ np.swapaxes(half, 0, 1).reshape(q, -1, k)
    return out


def optimise(problem: Problem, theta: Array) -> tuple[State, int]:
    """The optimum and the iterations that it took: Newton with the observed information where that is positive definite, else
    scoring with the expected one; steps are halved while they lead uphill. Raises ConvergenceError, and
    RefusalError where the optimum is no positive definite covariance."""
    state = state_at(problem, theta)
    if state is None:
        raise ConvergenceError(
            f"{problem.covariance.name}: no covariance to start from; check the outcome's scale and the visits"
        )
    for iteration in range(1, ITERATIONS + 1):
        best, decrement = None, np.inf
        for k, information in enumerate((state.observed, state.expected)):
            step = _solve(information, state.gradient)
            if step is None:
                continue
            decrement = float(state.gradient @ step)
            if decrement < ENOUGH and k == 0:
                return _polish(problem, state, step), iteration
            best = _descend(problem, state, step, decrement)
            if best is not None:
                break
        if best is None:
            _fail(problem, state, decrement)
        else:
            state = best
        if iteration % CHECK_EVERY == 0 and _smallest(problem, state.theta) < SINGULAR:
            _fail(problem, state, decrement)
    raise ConvergenceError(
        f"{problem.covariance.name}: not converged after {ITERATIONS} iterations; take a covariance with fewer parameters"
    )


def _solve(information: Array, gradient: Array) -> Array | None:
    """Newton's step, or None where the information is not positive definite. Scaled, as parameters have different units."""
    d = np.diag(information)
    if not (np.isfinite(information).all() and (d > 0).all()):
        return None
    s = 1 / np.sqrt(d)
    try:
        lower = np.linalg.cholesky(information * np.outer(s, s))
    except np.linalg.LinAlgError:
        return None
    if np.diag(lower).min() < 1e-7:
        return None
    return s * np.linalg.solve(lower.T, np.linalg.solve(lower, s * gradient))


def _descend(problem: Problem, state: State, step: Array, decrement: float) -> State | None:
    size = 1.0
    for _ in range(HALVINGS):
        theta = state.theta - size * step
        value = value_at(problem, theta)
        if value <= state.value - 1e-4 * size * decrement + 1e-12 * abs(state.value):
            return state_at(problem, theta)
        size /= 2
    return None


def _polish(problem: Problem, state: State, step: Array) -> State:
    """One more step, unless rounding makes it lead nowhere."""
    last = state_at(problem, state.theta - step)
    return last if last is not None and last.value <= state.value + 1e-9 * abs(state.value) else state


def _fail(problem: Problem, state: State, decrement: float) -> None:
    """Why there is no optimum, in words."""
    name = problem.covariance.name
    if _smallest(problem, state.theta) < EDGE:
        raise RefusalError(
            f"{name}: the likelihood rises towards a covariance that is not positive definite; "
            "take a covariance with fewer parameters, or drop a random effect"
        )
    if decrement == np.inf:
        raise ConvergenceError(
            f"{name}: the information about the covariance parameters is singular; some of them cannot be told from the data: "
            "take a covariance with fewer parameters"
        )
    raise ConvergenceError(
        f"{name}: a parameter reached the edge of its range without an optimum; take a covariance with fewer parameters"
    )


def _smallest(problem: Problem, theta: Array) -> float:
    """The smallest share of a visit's variance that the visits before it leave unexplained, over all patterns."""
    least = 1.0
    for block in problem.blocks:
        w = whiten(problem, theta, block)
        if w is None:
            return 0.0
        left = 1 / np.diagonal(w.inverse, axis1=1, axis2=2) ** 2
        least = min(least, float((left / np.diagonal(w.parts[0], axis1=1, axis2=2)).min()))
    return least
