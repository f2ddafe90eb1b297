"""Covariance structures of repeated measures, each in the parameters of SAS PROC MIXED (REPEATED / TYPE=).

Kenward and Roger's covariance of the fixed effects depends on the parametrisation through its second derivatives, so the
parameters here are those of SAS: variances and covariances for `us`, `cs` and `toep` (linear: no second derivatives), variances
and correlations for the rest. v: variances (visits,); all formulas hold for visits i, j in their order.

| name | covariance of visits i and j | parameters |
|---|---|---|
| us | s_ij | s_ij, i ≥ j |
| cs | c + r (i = j) | c, r |
| csh | √(v_i v_j) ρ (i ≠ j) | v, ρ |
| ar1, arh1 | v ρ^|i−j|, √(v_i v_j) ρ^|i−j| | v, ρ |
| toep | c_|i−j| | c_0, c_1, … |
| toeph | √(v_i v_j) ρ_|i−j| | v, ρ_1, … |
| ad, adh | ante-dependence of order 1: v, or √(v_i v_j), times ρ_i ρ_i+1 … ρ_j−1 | v, ρ_1, … |
| spexp | v exp(−d/θ), d the distance of the visits' times | v, θ |
| sppow | v ρ^d | v, ρ |
| spgau | v exp(−d²/θ²) | v, θ |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Name = Literal["us", "cs", "csh", "ar1", "arh1", "toep", "toeph", "ad", "adh", "spexp", "sppow", "spgau"]
NAMES: tuple[Name, ...] = ("us", "cs", "csh", "ar1", "arh1", "toep", "toeph", "ad", "adh", "spexp", "sppow", "spgau")
SPATIAL = ("spexp", "sppow", "spgau")
EVERY_PAIR = ("us",)
EVERY_LAG = ("toep", "toeph")
EVERY_VISIT = ("us", "csh", "arh1", "toeph", "adh")  # a variance for every visit
Parts = tuple[Array, Array, Array | None]  # value (…, m, m), first (…, q, m, m) and second (…, q, q, m, m) derivatives
Correlations = Callable[[Array, Any], Parts]


@dataclass(frozen=True)
class Covariance:
    """One structure. names: (q,) of its parameters. parts(theta, place): value and derivatives at every pattern of `place`:
    visit numbers (patterns, m), distances (patterns, m, m) for the spatial ones, or Z (patterns, m, effects) for random
    effects. Second derivatives are None where they vanish. start(v, r): parameters from variances (visits,) and a correlation."""

    name: str
    names: tuple[str, ...]
    parts: Callable[[Array, Any], Parts]
    start: Callable[[Array, float], Array]


def structure(name: Name, visits: tuple[str, ...], distance: float = 1.0) -> Covariance:
    """A structure over visits. distance: a typical one between times, for the start of the spatial ones."""
    t = len(visits)
    if name == "us":
        return _linear(name, *_pairs(visits), lambda v, r: _compound(v, r)[np.tril_indices(t)])
    if name == "cs":
        return _linear(
            name, ("covariance", "residual"), np.stack([np.ones((t, t)), np.eye(t)]),
            lambda v, r: np.array([r, 1 - r]) * v.mean(),
        )  # fmt: skip
    if name == "toep":
        bands = np.stack([_band(t, k) for k in range(t)])
        return _linear(name, tuple(f"lag {k}" for k in range(t)), bands, lambda v, r: v.mean() * np.array([1.0] + [r] * (t - 1)))
    if name in SPATIAL:
        return _spatial(name, distance)
    c, how = _CORRELATIONS[name]
    count = 1 if c == 1 else t - 1
    rho = ("rho",) if c == 1 else tuple(f"rho {k}" for k in range(1, t))
    alone = name in ("ar1", "ad")
    names = (("variance",) if alone else tuple(f"variance {v}" for v in visits)) + rho[: t - 1]
    whole = _homogeneous if alone else _heterogeneous

    def start(v: Array, r: float) -> Array:
        return np.concatenate([[v.mean()] if alone else v, np.full(min(count, t - 1), r)])

    def parts(theta: Array, place: Any) -> Parts:
        full = whole(theta, how(theta[1 if alone else t :], t))
        return at_visits(full, place)

    return Covariance(name, names, parts, start)


def random_effects(names: tuple[str, ...]) -> Covariance:
    """Z D Z' + r I: parameters D_ij (i ≥ j) and the residual variance r. place: Z (patterns, m, effects)."""
    k = len(names)
    labels, pairs = _pairs(names)

    def parts(theta: Array, place: Any) -> Parts:
        first = np.einsum("pia,qab,pjb->pqij", place, pairs, place, optimize=True)
        eye = np.broadcast_to(np.eye(place.shape[1]), (len(place), 1, place.shape[1], place.shape[1]))
        first = np.concatenate([first, eye], axis=1)
        return np.einsum("q,pqij->pij", theta, first), first, None

    def start(v: Array, r: float) -> Array:
        return np.append(r * np.diag(v)[np.tril_indices(k)], 1 - r)

    return Covariance("random effects", (*labels, "residual"), parts, start)


def at_visits(full: Parts, place: Ints) -> Parts:
    """Parts over all visits, at patterns (patterns, m) of them."""
    rows, cols = place[:, :, None], place[:, None, :]
    value, first, second = full
    return (
        value[rows, cols],
        np.moveaxis(first[:, rows, cols], 0, 1),
        None if second is None else np.moveaxis(second[:, :, rows, cols], 2, 0),
    )


# ---- linear ones ---------------------------------------------------------------------------------------------------------
def _linear(name: str, names: tuple[str, ...], basis: Array, start: Callable[[Array, float], Array]) -> Covariance:
    def parts(theta: Array, place: Any) -> Parts:
        return at_visits((np.tensordot(theta, basis, 1), basis, None), place)

    return Covariance(name, names, parts, start)


def _pairs(names: tuple[str, ...]) -> tuple[tuple[str, ...], Array]:
    """Labels and symmetric basis (q, t, t) of the entries of a symmetric matrix, row by row of its lower triangle."""
    t = len(names)
    i, j = np.tril_indices(t)
    basis = np.zeros((len(i), t, t))
    basis[np.arange(len(i)), i, j] = basis[np.arange(len(i)), j, i] = 1.0
    return tuple(names[a] if a == b else f"{names[a]}, {names[b]}" for a, b in zip(i, j, strict=True)), basis


def _band(t: int, k: int) -> Array:
    return (np.abs(np.subtract.outer(np.arange(t), np.arange(t))) == k).astype(float)


def _compound(v: Array, r: float) -> Array:
    s = np.sqrt(v)
    return np.outer(s, s) * (r + (1 - r) * np.eye(len(v)))


# ---- variances times correlations -----------------------------------------------------------------------------------------
def _homogeneous(theta: Array, correlation: Parts) -> Parts:
    r, dr, ddr = correlation
    v, c = theta[0], len(dr)
    first = np.concatenate([r[None], v * dr])
    second = np.zeros((1 + c, 1 + c, *r.shape))
    second[0, 1:] = second[1:, 0] = dr
    if ddr is not None:
        second[1:, 1:] = v * ddr
    return v * r, first, second


def _heterogeneous(theta: Array, correlation: Parts) -> Parts:
    r, dr, ddr = correlation
    t, c = len(r), len(dr)
    v = theta[:t]
    scale = np.sqrt(np.outer(v, v))
    eye = np.eye(t)
    a = 0.5 * (eye[:, :, None] + eye[:, None, :]) / v[:, None, None]  # d log √(v_i v_j) / d v_k, (k, i, j)
    value = scale * r
    first = np.concatenate([a * value, scale * dr])
    second = np.zeros((t + c, t + c, t, t))
    second[:t, :t] = value * (a[:, None] * a[None] - (eye / v)[:, :, None, None] * a[None])
    second[:t, t:] = a[:, None] * (scale * dr)[None]
    second[t:, :t] = np.swapaxes(second[:t, t:], 0, 1)
    if ddr is not None:
        second[t:, t:] = scale * ddr
    return value, first, second


def _equal(rho: Array, t: int) -> Parts:
    off = 1 - np.eye(t)
    return np.eye(t) + (rho[0] if t > 1 else 0.0) * off, off[None][: t - 1], None


def _power(rho: Array, t: int) -> Parts:
    d = np.abs(np.subtract.outer(np.arange(t), np.arange(t))).astype(float)
    x = rho[0] if t > 1 else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(d > 0, d * x ** np.maximum(d - 1, 0), 0.0)
        second = np.where(d > 1, d * (d - 1) * x ** np.maximum(d - 2, 0), 0.0)
    return x**d, first[None][: t - 1], second[None, None][: t - 1]


def _bands(rho: Array, t: int) -> Parts:
    bands = np.stack([_band(t, k) for k in range(t)])
    return np.eye(t) + np.tensordot(rho, bands[1:], 1), bands[1:], None


def _ante(rho: Array, t: int) -> Parts:
    """Products of the correlations of neighbours: their derivatives leave the factors out (no division, so 0 is no trouble)."""
    c = t - 1
    value, first, second = np.eye(t), np.zeros((c, t, t)), np.zeros((c, c, t, t))
    for i in range(t):
        for j in range(i):
            between = list(range(j, i))
            value[i, j] = value[j, i] = np.prod(rho[j:i])
            for a in between:
                rest = [k for k in between if k != a]
                first[a, i, j] = first[a, j, i] = np.prod(rho[rest])
                for b in rest:
                    second[a, b, i, j] = second[a, b, j, i] = np.prod(rho[[k for k in rest if k != b]])
    return value, first, second


_CORRELATIONS: dict[str, tuple[int, Callable[[Array, int], Parts]]] = {
    "csh": (1, _equal), "ar1": (1, _power), "arh1": (1, _power), "toeph": (0, _bands), "ad": (0, _ante), "adh": (0, _ante),
}  # fmt: skip


# ---- spatial ones ----------------------------------------------------------------------------------------------------------
def _spatial(name: str, distance: float) -> Covariance:
    def correlation(x: float, d: Array) -> tuple[Array, Array, Array]:
        if name == "spexp":
            r = np.exp(-d / x)
            return r, r * d / x**2, r * (d**2 / x**4 - 2 * d / x**3)
        if name == "sppow":
            r = x**d
            return r, d * r / x, d * (d - 1) * r / x**2
        r = np.exp(-((d / x) ** 2))
        return r, 2 * r * d**2 / x**3, r * (4 * d**4 / x**6 - 6 * d**2 / x**4)

    def parts(theta: Array, place: Any) -> Parts:
        v, x = theta
        if not x > 0:
            x = np.nan  # outside the structure: no covariance, and the step is taken back
        r, dr, ddr = correlation(x, place)
        first = np.stack([r, v * dr], axis=1)
        second = np.stack([np.stack([0 * r, dr], 1), np.stack([dr, v * ddr], 1)], 1)
        return v * r, first, second

    def start(v: Array, r: float) -> Array:
        x = {"spexp": distance / -np.log(r), "sppow": r ** (1 / distance), "spgau": distance / np.sqrt(-np.log(r))}[name]
        return np.array([v.mean(), x])

    return Covariance(name, ("variance", "rho" if name == "sppow" else "range"), parts, start)
