"""Separation: coefficients that run away because a combination of columns tells the outcomes apart (Albert and Anderson,
Biometrika 1984). Found by a linear programme (Konis, DPhil thesis, Oxford 2007): a direction that no row speaks against and
some row speaks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from gemello.base.errors import DataError

Array = NDArray[np.float64]


class SeparatedError(DataError):
    """Columns that separate the outcomes. direction: (k,) in which the likelihood rises for ever; rows: (n,) which it tells
    apart."""

    def __init__(self, found: Separation, names: tuple[str, ...], what: str) -> None:
        self.direction, self.rows = found.direction, found.rows
        named = [n for n, b in zip(names, found.direction, strict=True) if b != 0]
        named = [n for n in named if n != "(Intercept)" and "|" not in n] or named
        words = f"{', '.join(named[:6])} separate{'s' if len(named) == 1 else ''} {what}: the coefficient has no finite estimate"
        super().__init__(words, column=named[0], remedy="merge levels or leave it out")


@dataclass(frozen=True)
class Separation:
    """direction: (k,) of the coefficients; rows: (n,) whose linear predictor it moves."""

    direction: Array
    rows: NDArray[np.bool_]


def separating(rows: Array, names: tuple[str, ...], fixed: Array | None = None) -> Separation | None:
    """A direction of few columns that separates, or None where the estimates are finite.

    rows: (n, k) each row of the design, signed so that moving its linear predictor up can only raise the likelihood. fixed: (m,
    k) rows whose linear predictor must not move. names: (k,); thresholds and the intercept count as no column.
    """
    scale = np.maximum(np.abs(rows).max(axis=0, initial=0), 1e-300)
    a, k = rows / scale, rows.shape[1]
    still = np.zeros((0, k)) if fixed is None else fixed / scale
    free = [n == "(Intercept)" or "|" in n for n in names]
    bounds = [(-1, 1)] * k
    most = optimize.linprog(-a.sum(axis=0), -a, np.zeros(len(a)), still, np.zeros(len(still)), bounds, method="highs")
    if not most.success or -most.fun < 1e-6:
        return None
    # of all such directions the one with the least absolute coefficients: β = up − down, the rows' total movement given
    both, total = np.hstack([-a, a]), np.hstack([a.sum(axis=0), -a.sum(axis=0)])
    equal = np.vstack([np.hstack([still, -still]), total])
    cost = np.tile(np.where(free, 1e-3, 1.0), 2)
    least = optimize.linprog(cost, both, np.zeros(len(a)), equal, np.r_[np.zeros(len(still)), float(len(a))], method="highs")
    beta = least.x[:k] - least.x[k:] if least.success else most.x
    direction = np.where(np.abs(beta) > 1e-7 * np.max(np.abs(beta)), beta, 0)
    return Separation(direction / scale, a @ direction > 1e-6 * np.max(np.abs(direction)))


def of_binary(x: Array, y: Array, names: tuple[str, ...]) -> Separation | None:
    """Separation of a binary outcome. x: (n, k), y: (n,)."""
    return separating(x * (2 * y - 1)[:, None], names)


def of_counts(x: Array, y: Array, names: tuple[str, ...]) -> Separation | None:
    """Separation of zero counts from the others, under a log link."""
    found = separating(-x[y == 0], names, x[y > 0])
    if found is None:
        return None
    rows = np.zeros(len(y), bool)
    rows[y == 0] = found.rows
    return Separation(found.direction, rows)
