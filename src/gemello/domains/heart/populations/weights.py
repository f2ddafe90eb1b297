"""Weights of cells under which their markers are distributed as measured ones; distances between distributions; intervals.

The weights are the ones nearest to equal (least Kullback-Leibler divergence) whose weighted shares below the deciles of each
marker, and whose products of two standardised markers, are those of the data: calibration weighting by exponential tilting
(Deville & Särndal, J Am Stat Assoc 87:376, 1992, case 2 (raking); Deming & Stephan 1940).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm

from gemello.base.errors import DataError

DECILES = np.linspace(0.1, 0.9, 9)
RIDGE = 1e-3  # of the dual: a mismatch of a share is tolerated where cells are missing, rather than a few cells taken for all
Floats = NDArray[np.float64]


def tilted(markers: dict[str, Floats], data: dict[str, Floats]) -> Floats:
    """Weights (cells,), of sum 1. markers: of the cells, (cells,); data: of the same names, (traces,). DataError if empty."""
    ours, theirs = _features(markers, data)
    if not len(ours):
        raise DataError("no cell to weight", remedy="sample more cells, or a wider range")
    target = theirs.mean(axis=0)
    centred = ours - target

    def dual(multipliers: Floats) -> tuple[float, Floats]:
        z = centred @ multipliers
        top = float(z.max())
        e = np.exp(z - top)
        total = float(e.sum())
        return top + float(np.log(total)) + 0.5 * RIDGE * float(multipliers @ multipliers), (
            centred.T @ e / total + RIDGE * multipliers
        )

    found = minimize(dual, np.zeros(centred.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    z = centred @ found.x
    w = np.exp(z - z.max())
    return np.asarray(w / w.sum(), float)


def _features(markers: dict[str, Floats], data: dict[str, Floats]) -> tuple[Floats, Floats]:
    """What must agree in the mean: (cells, features), (traces, features)."""
    out: tuple[list[Floats], list[Floats]] = ([], [])
    z = {}
    for name, values in data.items():
        cuts = np.quantile(values, DECILES)
        z[name] = tuple((v - values.mean()) / values.std() for v in (markers[name], values))
        for k, v in enumerate((markers[name], values)):
            out[k].append((np.asarray(v)[:, None] <= cuts).astype(float))
    for a, b in combinations(data, 2):
        for k in (0, 1):
            out[k].append((z[a][k] * z[b][k])[:, None])
    return np.concatenate(out[0], axis=1), np.concatenate(out[1], axis=1)


def effective(weights: Floats) -> float:
    """Kish's effective sample size, (Σw)²/Σw²."""
    return float(weights.sum() ** 2 / np.sum(weights**2))


def quantile(values: Floats, weights: Floats, q: Floats | float) -> Floats:
    """Weighted quantiles: inverse of the weighted distribution function, linear between the middles of its steps."""
    order = np.argsort(values)
    w = weights[order] / weights.sum()
    return np.asarray(np.interp(q, np.cumsum(w) - 0.5 * w, values[order]), float)


def kolmogorov(values: Floats, weights: Floats, data: Floats) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of the weighted cells from the data, and the distance that two samples of one distribution, as
    large as the effective sizes, exceed in 1 of 20 (asymptotic)."""
    points = np.concatenate([values, data])
    order = np.argsort(values)
    below = np.concatenate([[0.0], np.cumsum(weights[order]) / weights.sum()])
    ours = below[np.searchsorted(values[order], points, side="right")]
    theirs = np.searchsorted(np.sort(data), points, side="right") / data.size
    return float(np.max(np.abs(ours - theirs))), float(1.3581 * np.sqrt(1.0 / effective(weights) + 1.0 / data.size))


def wilson(share: float, size: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of `size` (an effective number, too; J Am Stat Assoc 22:209, 1927)."""
    z = float(norm.ppf(0.5 + 0.5 * level))
    middle, half = share + z * z / (2 * size), z * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))
