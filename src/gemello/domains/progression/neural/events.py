"""Times to events: a piecewise-constant hazard, log-linear in what is known at the origin, with a ridge penalty and a net
beside it.

Each origin (baseline, later visits) starts a clock of its own, so the model forecasts from any moment (landmarking, van
Houwelingen 2007). The exponential pieces make the likelihood that of a Poisson count (Holford 1980; Laird & Olivier 1981).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gemello.base.errors import DataError
from gemello.base.random import child_seed
from gemello.domains.progression.neural import network
from gemello.model.generator import Array

PIECES, FEWEST = 8, 5
PENALTIES = np.geomspace(1e-3, 1.0, 8)
SHARES = np.linspace(0.0, 1.0, 5)


@dataclass(frozen=True)
class Hazard:
    """cuts: (Q + 1,) edges of the pieces since the origin, from 0 to the longest follow-up. level: (Q,) log hazards of the
    pieces. beta: (d,). nets add `share` of their shift."""

    cuts: Array
    level: Array
    beta: Array
    nets: network.Nets
    share: float

    def log_hazard(self, static: Array) -> Array:
        """(n, Q)."""
        out = self.level + (static @ self.beta)[:, None]
        if self.share > 0:
            q = len(self.level)
            rows = np.repeat(static, q, 0)
            shift = 2 * np.tanh(self.nets(_inputs(rows, np.tile(self._clock(), len(static))))[..., 0] / 2)
            out = out + self.share * shift.mean(0).reshape(len(static), q)
        return out

    def cumulative(self, static: Array) -> Array:
        """(n, Q + 1) cumulative hazard at the cuts."""
        pieces = np.exp(np.minimum(self.log_hazard(static), 50.0)) * np.diff(self.cuts)
        return np.column_stack([np.zeros(len(static)), np.cumsum(pieces, 1)])

    def risk(self, static: Array, gaps: Array) -> Array:
        """(n, T) probability of the event within gaps (n, T) since the origin; NaN beyond the longest follow-up."""
        total = self.cumulative(static)
        h = np.stack([np.interp(g, self.cuts, c, right=np.nan) for g, c in zip(gaps, total, strict=True)])
        return -np.expm1(-h)

    def times(self, static: Array, survival: Array) -> Array:
        """Gaps (draws, n) at which survival falls to given values (draws, n); inf beyond the longest follow-up."""
        total = self.cumulative(static)
        target = -np.log(np.maximum(survival, 1e-300))
        out = np.empty(survival.shape)
        for i, c in enumerate(total):
            out[:, i] = np.interp(target[:, i], c, self.cuts, right=np.inf)
        return out

    def _clock(self) -> Array:
        return _middle(self.cuts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {
            "cuts": self.cuts.tolist(), "level": self.level.tolist(), "beta": self.beta.tolist(), "nets": self.nets.to_dict(),
            "share": self.share,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Hazard:
        """The hazard of `to_dict`."""
        cuts, level, beta = (np.array(d[k], float) for k in ("cuts", "level", "beta"))
        return cls(cuts, level, beta, network.Nets.from_dict(d["nets"]), float(d["share"]))


def _middle(cuts: Array) -> Array:
    """Middle of each piece, −1 … 1."""
    return np.linspace(-1.0, 1.0, len(cuts) - 1)


def _inputs(static: Array, clock: Array) -> Array:
    return np.column_stack([static, clock])


def fit(
    name: str, static: Array, gap: Array, seen: NDArray[np.bool_], weight: Array, fold: NDArray[np.int64], *, seed: int,
    recipe: network.Recipe,
) -> tuple[Hazard, Array]:  # fmt: skip
    """A hazard, and the held-out survival (n,) at each row's own gap. Rows are origins: gap (n,) to event or censoring.

    Raises DataError for fewer than five events."""
    events = gap[seen]
    if len(np.unique(events)) < FEWEST:
        raise DataError(f"{len(np.unique(events))} different times of event", column=name, remedy=f"give {FEWEST} or more")
    pieces = int(np.clip(seen.sum() // 10, 2, PIECES))
    inner = np.quantile(events, np.linspace(0, 1, pieces + 1)[1:-1])
    cuts = np.unique(np.concatenate([[0.0], inner[inner > 0], [gap.max() * (1 + 1e-9)]]))
    exposure = np.clip(gap[:, None] - cuts[:-1], 0, np.diff(cuts))  # (n, Q)
    here = exposure > 0
    count = (seen[:, None] & (gap[:, None] > cuts[:-1]) & (gap[:, None] <= cuts[1:])).astype(float)
    row, piece = np.nonzero(here)
    y, log_e, w, f = count[here], np.log(exposure[here]), weight[row], fold[row]
    level, beta, log_hazard = _ridge(static, exposure, count, weight, fold)
    offset = log_e + log_hazard[here]
    v = _inputs(static[row], _middle(cuts)[piece])
    data = {"offset": np.clip(offset, -50, 20), "seen": y}
    nets = network.train(v, data, network.hazard_loss, np.zeros(1), w, f, seed=child_seed(seed, "hazard", name), recipe=recipe)
    shift = 2 * np.tanh(nets(v)[f, np.arange(len(v)), 0] / 2)
    loss = [float(np.sum(w * (np.exp(offset + a * shift) - y * (offset + a * shift)))) for a in SHARES]
    share = float(SHARES[int(np.argmin(loss))])
    h = np.bincount(row, np.exp(offset + share * shift), minlength=len(gap))
    return Hazard(cuts, level, beta, nets, share), np.exp(-h)


def _ridge(x: Array, exposure: Array, count: Array, w: Array, fold: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Log hazards (Q,) of the pieces, coefficients (d,), and held-out log hazards (n, Q), of the penalty with the least held-out
    deviance. x: (n, d); exposure, count: (n, Q); w: (n,)."""
    folds = np.unique(fold)
    start: list[tuple[Array, Array] | None] = [None] * len(folds)
    best: tuple[float, float, Array] | None = None
    for lam in PENALTIES[::-1]:
        held = np.empty(exposure.shape)
        for k, f in enumerate(folds):
            inside = fold != f
            start[k] = level, b = _newton(x[inside], exposure[inside], count[inside], w[inside], lam, start[k])
            held[~inside] = level + (x[~inside] @ b)[:, None]
        loss = float(np.sum(w[:, None] * (exposure * np.exp(np.minimum(held, 30.0)) - count * held)))
        if best is None or loss < best[0]:
            best = loss, float(lam), held
    assert best is not None
    return (*_newton(x, exposure, count, w, best[1], None), best[2])


def _newton(
    x: Array, exposure: Array, count: Array, w: Array, lam: float, start: tuple[Array, Array] | None, rounds: int = 50
) -> tuple[Array, Array]:
    """Penalised maximum likelihood; the penalty is per event, that is relative to what the data say. The levels of the pieces are
    drawn to the common hazard with the weight of one event."""
    q, d = exposure.shape[1], x.shape[1]
    events = float(np.sum(w[:, None] * count))
    common = np.log((events + 0.5) / float(np.sum(w[:, None] * exposure)))
    level, b = (np.full(q, common), np.zeros(d)) if start is None else (start[0].copy(), start[1].copy())
    p = np.concatenate([np.ones(q), np.full(d, lam * events + 1e-9)])
    total = w[:, None] * count
    for _ in range(rounds):
        mu = w[:, None] * exposure * np.exp(np.minimum(level + (x @ b)[:, None], 30.0))
        rest = total - mu
        score = np.concatenate([rest.sum(0), x.T @ rest.sum(1)]) - p * np.concatenate([level - common, b])
        cross = mu.T @ x
        information = np.block([[np.diag(mu.sum(0)), cross], [cross.T, x.T @ (mu.sum(1)[:, None] * x)]]) + np.diag(p)
        step = np.linalg.solve(information, score)
        step *= min(1.0, 2.0 / (np.abs(step).max() + 1e-12))
        level, b = level + step[:q], b + step[q:]
        if np.abs(step).max() < 1e-7:
            break
    return level, b


def censored_score(survival: Array) -> Array:
    """Normal score of an event's time, early events low: Φ⁻¹(1 − S)."""
    return special.ndtri(np.clip(1 - survival, 1e-6, 1 - 1e-6))
