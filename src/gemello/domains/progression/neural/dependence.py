"""What makes the marginals one trajectory: a Gaussian copula process over variables and times, with the events in it.

The normal scores z = Φ⁻¹F(y) of one person's future are c z_e + G, cov(G_j(t), G_k(t′)) = (S − Σ_e c c′)_jk exp(−|t − t′|/ℓ) +
N_jk [t = t′]: a part that lasts, and one of the visit (Salinas et al. 2019, NeurIPS 32, for copula processes of forecasts). S +
N is the correlation at one visit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from gemello.base.random import Each
from gemello.model.generator import Array

SHRINK = 20.0  # counts in favour of no correlation


@dataclass(frozen=True)
class Dependence:
    """lasting, visit: (J, J) S and N, their diagonals adding up to one. length: ℓ. event: (E, J) correlations c."""

    lasting: Array
    visit: Array
    length: float
    event: Array

    def draw(self, times: Array, draws: int, rng: Each, given: Array | None = None) -> tuple[Array, Array]:
        """Normal scores: of events (draws, persons, E), of values (draws, persons, T, J). given: scores of the events already
        drawn (they are conditioned on what is known, such as survival so far)."""
        e, j = self.event.shape
        z = rng.normal(draws, e) if given is None else given
        t = len(times)
        kernel = np.exp(-np.abs(times[:, None] - times) / self.length) + 1e-9 * np.eye(t)
        lt, ls, ln = np.linalg.cholesky(kernel), root(self.lasting - self.event.T @ self.event), root(self.visit)
        g = lt @ rng.normal(draws, t, j) @ ls.T
        g = g + rng.normal(draws, t, j) @ ln.T
        return z, g + (z @ self.event)[:, :, None, :]

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {
            "lasting": self.lasting.tolist(),
            "visit": self.visit.tolist(),
            "length": self.length,
            "event": self.event.tolist(),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Dependence:
        """The dependence of `to_dict`."""
        j = len(d["lasting"])
        return cls(
            np.array(d["lasting"], float).reshape(j, j), np.array(d["visit"], float).reshape(j, j), float(d["length"]),
            np.array(d["event"], float).reshape(len(d["event"]), j),
        )  # fmt: skip


def root(a: Array) -> Array:
    """A matrix R with R R′ = a, negative eigenvalues set to zero."""
    value, vector = np.linalg.eigh((a + a.T) / 2)
    return vector * np.sqrt(np.maximum(value, 0.0))


def _semidefinite(a: Array) -> Array:
    r = root(a)
    return r @ r.T


def learn(scores: Array, origin: NDArray[np.int64], time: Array, weight: Array, horizon: float) -> Dependence:
    """From held-out normal scores (pairs, J) with their origin, time and weight; no events yet."""
    j = scores.shape[1]
    seen = ~np.isnan(scores)
    z = np.where(seen, scores, 0.0)
    z = z / np.sqrt(np.maximum((weight[:, None] * z * z).sum(0) / np.maximum((weight[:, None] * seen).sum(0), 1e-9), 1e-9))
    w = weight[:, None] * seen
    count = w.T @ seen
    total = (weight[:, None] * z).T @ z / (count + SHRINK) if len(z) else np.zeros((j, j))
    np.fill_diagonal(total, 1.0)
    a, b = _couples(origin, time)
    if not len(a):
        return Dependence(0.5 * total, 0.5 * total, max(horizon, 1e-9), np.zeros((0, j)))
    lag = np.abs(time[a] - time[b])
    cw = np.sqrt(weight[a] * weight[b])
    best: tuple[float, float, Array] | None = None
    for length in horizon * np.geomspace(0.1, 10.0, 9):
        k = np.exp(-lag / length)
        # least squares of z_j(t) z_k(t′) on the kernel, symmetrised, shrunk to none
        top = (cw * k)[:, None] * z[a]
        s = top.T @ z[b]
        below = ((cw * k * k)[:, None] * seen[a]).T @ seen[b].astype(float) + SHRINK
        s = (s + s.T) / (below + below.T)
        own = np.clip(np.diag(s), 0.0, 0.98)
        loss = float(np.sum(cw[:, None] * seen[a] * seen[b] * (z[a] * z[b] - k[:, None] * own) ** 2))
        if best is None or loss < best[0]:
            best = loss, float(length), s
    assert best is not None
    lasting = best[2].copy()
    np.fill_diagonal(lasting, np.clip(np.diag(lasting), 0.02, 0.98))
    lasting = _semidefinite(lasting)
    visit = _semidefinite(total - lasting)
    d = 1 / np.sqrt(np.diag(lasting) + np.diag(visit))
    return Dependence(lasting * np.outer(d, d), visit * np.outer(d, d), best[1], np.zeros((0, j)))


def _couples(origin: NDArray[np.int64], time: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of all couples of pairs with one origin."""
    left: list[NDArray[np.int64]] = []
    right: list[NDArray[np.int64]] = []
    if not len(origin):
        return np.array([], np.int64), np.array([], np.int64)
    starts = np.flatnonzero(np.r_[True, np.diff(origin) != 0])
    for s, e in zip(starts, np.r_[starts[1:], len(origin)], strict=True):
        a, b = np.triu_indices(e - s, 1)
        left.append(a + s)
        right.append(b + s)
    return np.concatenate(left), np.concatenate(right)


def with_events(d: Dependence, events: list[Array]) -> Dependence:
    """The same with the events' correlations (E, J), scaled back where they explain more than what lasts. events: (J,) each."""
    c = np.array(events).reshape(len(events), len(d.lasting))
    if not c.size:
        return Dependence(d.lasting, d.visit, d.length, c)
    for _ in range(60):
        if np.linalg.eigvalsh(d.lasting - c.T @ c).min() >= -1e-9:
            break
        c = 0.9 * c
    else:
        c = 0.0 * c
    return Dependence(d.lasting, d.visit, d.length, c)


def event_correlation(z: Array, event: Array, seen: NDArray[np.bool_], start: Array, weight: Array) -> float:
    """Correlation of a value's score z with the score of an event that comes later: a censored normal regression, both with unit
    variance, given that the event comes after the value (start: score of the value's time on the event's scale). All (n,)."""
    if len(z) < 20:
        return 0.0

    def loss(r: float) -> float:
        s = np.sqrt(1 - r * r)
        inside = np.where(
            seen, -0.5 * ((event - r * z) / s) ** 2 - np.log(s), special.log_ndtr(-(np.maximum(event, start) - r * z) / s)
        )
        return float(-np.sum(weight * (inside - special.log_ndtr(-(start - r * z) / s))) + 0.5 * SHRINK * r * r)

    return float(optimize.minimize_scalar(loss, bounds=(-0.9, 0.9), method="bounded").x)
