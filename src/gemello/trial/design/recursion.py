"""Probabilities of crossing the boundaries of a group-sequential trial, by recursive integration over the stages.

Standardised statistics Z_k are jointly normal with mean θ √I_k and covariance √(I_j / I_k), j ≤ k (Jennison & Turnbull 1999,
section 3.1). The density of Z_k among trials that have not stopped before is carried from stage to stage by Gauss–Legendre
quadrature on panels as narrow as the transition kernel (Armitage, McPherson & Rowe 1969), accurate to about 1e-12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
REACH = 9.0  # the normal density beyond 9 standard deviations is 1e-18
NODES, PANEL = 12, 0.9
PANEL_LIMIT, BLOCK = 4000, 256


@dataclass(frozen=True)
class Carried:
    """The density of Z among trials that go on. z: nodes, mass: density times quadrature weight. information: of the stage."""

    z: Array
    mass: Array
    information: float


def step(before: Carried | None, information: float, theta: float) -> Callable[[Array], Array]:
    """The sub-density of Z at a stage, as a function of z, given what was carried over from the stage before."""
    root = np.sqrt(information)
    if before is None:
        return lambda z: np.exp(-0.5 * (z - theta * root) ** 2) / np.sqrt(2 * np.pi)
    gained = information - before.information
    centre = before.z * np.sqrt(before.information) + theta * gained
    scale = root / np.sqrt(gained)

    def density(z: Array) -> Array:
        out = np.empty(len(z))
        for i in range(0, len(z), BLOCK):  # a few megabytes at a time
            u = (z[i : i + BLOCK, None] * root - centre[None, :]) / np.sqrt(gained)
            out[i : i + BLOCK] = np.exp(-0.5 * u**2) @ before.mass
        return out * scale / np.sqrt(2 * np.pi)

    return density


def above(before: Carried | None, information: float, theta: float, bound: float) -> float:
    """P(Z > bound at this stage, not stopped before)."""
    if bound == np.inf:
        return 0.0
    root = np.sqrt(information)
    if before is None:
        return float(special.ndtr(theta * root - bound))
    gained = information - before.information
    u = (before.z * np.sqrt(before.information) + theta * gained - bound * root) / np.sqrt(gained)
    return float(special.ndtr(u) @ before.mass)


def below(before: Carried | None, information: float, theta: float, bound: float) -> float:
    """P(Z < bound at this stage, not stopped before)."""
    if bound == -np.inf:
        return 0.0
    root = np.sqrt(information)
    if before is None:
        return float(special.ndtr(bound - theta * root))
    gained = information - before.information
    u = (bound * root - before.z * np.sqrt(before.information) - theta * gained) / np.sqrt(gained)
    return float(special.ndtr(u) @ before.mass)


def carry(before: Carried | None, information: float, theta: float, low: float, high: float, ahead: float | None) -> Carried:
    """What goes on to the next stage: Z in (low, high). ahead: information of the next stage, None at the last."""
    mean = theta * np.sqrt(information)
    low, high = max(low, mean - REACH), min(high, mean + REACH)
    if not low < high:
        return Carried(np.array([mean]), np.zeros(1), information)
    width = 1.0 if before is None else np.sqrt((information - before.information) / information)
    if ahead is not None:  # the kernel of the next step, seen from here
        width = min(width, np.sqrt((ahead - information) / information))
    panels = int(np.clip(np.ceil((high - low) / (PANEL * width)), 2, PANEL_LIMIT))
    x, w = _legendre(NODES)
    edges = np.linspace(low, high, panels + 1)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    z = (half * x + (edges[1:] + edges[:-1])[:, None] / 2).ravel()
    return Carried(z, step(before, information, theta)(z) * (half * w).ravel(), information)


@lru_cache(maxsize=4)
def _legendre(n: int) -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(n)
    return x, w


def crossing(information: Array, theta: float, low: Array, high: Array) -> tuple[Array, Array]:
    """(K,) probabilities to cross the lower and the upper boundary first at each stage. information, low, high: (K,)."""
    lower, upper = np.zeros(len(information)), np.zeros(len(information))
    before: Carried | None = None
    for k, i in enumerate(information):
        lower[k] = below(before, i, theta, low[k])
        upper[k] = above(before, i, theta, high[k])
        if k + 1 < len(information):
            before = carry(before, i, theta, low[k], high[k], float(information[k + 1]))
    return lower, upper
