"""A course in time by its values at knots, linear between them: the basis of means and of person's deviations.

With knots at the visits of a protocol that is a mean and an unstructured covariance by visit, with two knots a random intercept
and slope; irregular visits get knots at quantiles of their times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST, LEAST_PERSONS = 8, 5


def place(time: Array, person: NDArray[np.int64]) -> Array:
    """Knots for visits at these times after 0: the visits of a protocol where they are few, else quantiles, as many as the
    median person has visits (2 to 6)."""
    distinct, counts = np.unique(time, return_counts=True)
    persons = np.unique(person).size
    usable = distinct[counts >= min(LEAST_PERSONS, max(2, persons // 4))]
    if len(distinct) <= MOST and len(usable):
        return usable
    per_person = np.median(np.unique(person, return_counts=True)[1])
    number = int(np.clip(per_person, 2, min(6, max(2, persons // 10))))
    at = np.quantile(time, np.linspace(0.02, 0.98, number))
    return np.unique(at)


def hats(time: Array, knots: Array) -> Array:
    """(n, 1 + K) weights of time 0 and of each knot; constant after the last knot."""
    grid = np.concatenate([[0.0], knots])
    t = np.clip(time, 0.0, grid[-1])
    right = np.clip(np.searchsorted(grid, t, side="left"), 1, len(grid) - 1)
    share = (t - grid[right - 1]) / (grid[right] - grid[right - 1])
    out = np.zeros((len(t), len(grid)))
    rows = np.arange(len(t))
    out[rows, right] = share
    out[rows, right - 1] += 1.0 - share
    return out
