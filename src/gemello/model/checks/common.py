"""What the checks share: how one fails, and how numbers are compared."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from gemello.model.checks.probe import Probe

EXACT = 1e-10  # agreement of two exact ways to the same number, relative to the largest


class BrokenError(Exception):
    """A check that fails; the message is its detail."""


def demand(fine: Any, detail: str) -> None:
    if not fine:
        raise BrokenError(detail)


def within(error: float, allowed: float, what: str = "largest relative difference") -> str:
    words = f"{what} {error:.1e}, {allowed:.0e} allowed"
    demand(error <= allowed, words)  # false for NaN
    return words


def relative(a: Any, b: Any) -> float:
    """Largest difference of two sets of arrays, relative to the largest value of each; infinite where one is not finite."""
    worst = 0.0
    if not jax.tree.leaves(b):
        raise ValueError("nothing to compare")
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(left, float), np.asarray(right, float)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return math.inf
        worst = max(worst, float(np.abs(x - y).max(initial=0.0) / (np.abs(y).max(initial=0.0) or 1.0)))
    return worst


def adaptive_method(x: Probe) -> str:
    """An adaptive solver for the model: its own, or the one for its stiffness (`auto` compiles both)."""
    own = x.model.default_method()
    return own if own in ("tsit5", "rodas5p", "rush_larsen") else "tsit5" if x.scales.slow < 1000 * x.scales.fast else "rodas5p"


def absolute(x: Probe, part: float) -> float:
    return part * min([1.0, *x.scales.amounts])
