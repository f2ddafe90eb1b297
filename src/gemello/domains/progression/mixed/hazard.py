"""Time to an event: a penalised Cox regression on scaled baseline values and Breslow's baseline hazard.

Partial likelihood with Efron's ties (Efron 1977, J Am Stat Assoc 72:557), ridge penalty chosen by cross-validated partial
likelihood (Verweij & van Houwelingen 1993, Stat Med 12:2305).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.domains.progression.mixed.ridge import folds
from gemello.domains.progression.plain import numbers

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
PENALTIES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e4)
FOLDS, LEAST_EVENTS = 5, 5


@dataclass(frozen=True)
class Hazard:
    """coefficients (p,) of x less `centre`; times (events,) and cumulative baseline hazard at them."""

    coefficients: Array
    centre: Array
    times: Array
    cumulative: Array

    def risk(self, x: Array) -> Array:
        """(n,) log hazard ratio against the mean person of training."""
        return np.asarray((x - self.centre) @ self.coefficients)

    def survival(self, x: Array, times: Array) -> Array:
        """(n, T) probability to be without the event; after the last event of training as at it."""
        at = np.searchsorted(self.times, times, side="right")
        base = np.concatenate([[0.0], self.cumulative])[at]
        return np.exp(-np.exp(self.risk(x))[:, None] * base)

    def draw(self, x: Array, since: Array, uniform: Array) -> Array:
        """(draws, n) times of the event, given none until `since` (n,); inf where later than the last event of training."""
        start = np.concatenate([[0.0], self.cumulative])[np.searchsorted(self.times, since, side="right")]
        need = start + -np.log(uniform) * np.exp(-self.risk(x))
        at = np.searchsorted(self.cumulative, need)
        return np.concatenate([self.times, [np.inf]])[at]

    def to_dict(self) -> dict[str, Any]:
        """Plain."""
        return {k: getattr(self, k).tolist() for k in ("coefficients", "centre", "times", "cumulative")}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], covariates: int) -> Hazard:
        """The hazard of `to_dict`, of so many covariates."""
        size = {"coefficients": covariates, "centre": covariates, "times": len(d["times"]), "cumulative": len(d["times"])}
        return cls(**{k: numbers(d[k], n) for k, n in size.items()})


def fit(x: Array, time: Array, seen: Mask, seed: int) -> Hazard:
    """x: (n, p) complete. Raises nothing: with fewer than 5 events the hazard is that of the mean person."""
    p = x.shape[1]
    centre = x.mean(axis=0)
    x = x - centre
    penalty = _penalty(x, time, seen, seed) if seen.sum() >= LEAST_EVENTS and p else PENALTIES[-1]
    b = newton(x, time, seen, penalty) if p and seen.any() else np.zeros(p)
    risk = np.exp(x @ b)
    at = np.unique(time[seen])
    step = np.array([np.sum(seen & (time == t)) / np.sum(risk[time >= t]) for t in at])
    return Hazard(b, centre, at, np.cumsum(step))


def _penalty(x: Array, time: Array, seen: Mask, seed: int) -> float:
    fold = folds(len(x), FOLDS, seed, "hazard")
    score = np.zeros(len(PENALTIES))
    for f in range(FOLDS):
        inside = fold != f
        if not seen[inside].any():
            continue
        for i, p in enumerate(PENALTIES):
            b = newton(x[inside], time[inside], seen[inside], p)
            score[i] += partial(x, time, seen, b)[0] - partial(x[inside], time[inside], seen[inside], b)[0]
    return PENALTIES[int(np.argmax(score))]


def newton(x: Array, time: Array, seen: Mask, penalty: float) -> Array:
    """Coefficients (p,) at the maximum of the penalised partial likelihood, by Newton steps that are halved where they fail."""
    b = np.zeros(x.shape[1])
    value, gradient, hessian = partial(x, time, seen, b)
    value -= 0.5 * penalty * float(b @ b)
    for _ in range(50):
        step = np.linalg.solve(hessian + penalty * np.eye(len(b)), gradient - penalty * b)
        for _ in range(30):
            new = b + step
            v, g, h = partial(x, time, seen, new)
            v -= 0.5 * penalty * float(new @ new)
            if v >= value - 1e-12:
                break
            step = 0.5 * step
        gain, b, value, gradient, hessian = v - value, new, v, g, h
        if gain < 1e-8:
            break
    return b


def partial(x: Array, time: Array, seen: Mask, b: Array) -> tuple[float, Array, Array]:
    """Log partial likelihood, its gradient (p,) and minus its Hessian (p, p); Efron's ties."""
    order = np.argsort(-time, kind="stable")
    x, time, seen = x[order], time[order], seen[order]
    lp = x @ b
    top = float(lp.max())
    w = np.exp(lp - top)
    s0, s1 = np.cumsum(w), np.cumsum(w[:, None] * x, axis=0)
    s2 = np.cumsum(w[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)
    value, gradient, hessian = 0.0, np.zeros(len(b)), np.zeros((len(b), len(b)))
    for t in np.unique(time[seen]):
        last = int(np.searchsorted(-time, -t, side="right")) - 1
        here = seen & (time == t)
        d = int(here.sum())
        tied0, tied1 = w[here].sum(), (w[here, None] * x[here]).sum(axis=0)
        tied2 = (w[here, None, None] * x[here][:, :, None] * x[here][:, None, :]).sum(axis=0)
        value += float(lp[here].sum())
        gradient += x[here].sum(axis=0)
        for k in range(d):
            share = k / d
            a0, a1, a2 = s0[last] - share * tied0, s1[last] - share * tied1, s2[last] - share * tied2
            value -= float(np.log(a0)) + top
            gradient -= a1 / a0
            hessian += a2 / a0 - np.outer(a1, a1) / a0**2
    return value, gradient, hessian
