"""How well estimates are known: from the Hessian and the scores of the objective, in layout coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gemello.inference.layout import Layout

FLAT = 1e-4  # curvature below which a direction is not known: a standard error above 140 on the log scale
BOUNDARY = 0.05  # curvature along log SD below which a variance is at its boundary, 0: a standard error above 6


def at_boundary(
    shape: Layout, x: NDArray[np.float64], hessian: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(x,) diagonal elements of OMEGA's factor that are 0 as far as the data can tell, and which of them are whole variances."""
    alone = {b[0] for b in shape.blocks if len(b) == 1}
    first = len(shape) - len(shape.elements) - len(shape.changing)
    edge, zero = np.zeros(len(shape), bool), np.zeros(len(shape), bool)
    for k, (i, j) in enumerate(shape.elements, start=first):
        if i == j and shape.log_diagonal:
            edge[k] = abs(hessian[k, k]) < BOUNDARY
        elif i == j:
            edge[k] = abs(x[k]) < 1e-3 and shape.etas[i] in alone  # a singular block is no edge in this coordinate
        zero[k] = edge[k] and shape.etas[i] in alone
    for k in range(len(shape) - len(shape.changing), len(shape)):
        edge[k] = zero[k] = abs(hessian[k, k]) < BOUNDARY if shape.log_diagonal else abs(x[k]) < 1e-3
    return edge, zero


def unknown(shape: Layout, hessian: NDArray[np.float64], edge: NDArray[np.bool_]) -> str:
    """Which parameters the data do not tell apart, in words; empty where all are known."""
    if not np.isfinite(hessian).all():
        return "no curvature of the objective could be had"
    inside = hessian[np.ix_(~edge, ~edge)]
    size, directions = np.linalg.eigh(inside)
    if not len(size) or size[0] > max(FLAT, 1e-9 * size[-1]):
        return ""
    names = np.array(shape.names)[~edge][np.abs(directions[:, 0]) > 0.3]
    what = "these data do not tell" if size[0] > -1e-2 else "this is no minimum along"
    return f"{what} {', '.join(names)}" + (" apart" if len(names) > 1 and size[0] > -1e-2 else "")


def covariance(
    hessian: NDArray[np.float64], gradient: NDArray[np.float64], slope: NDArray[np.float64],
    edge: NDArray[np.bool_], zero: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], str]:  # fmt: skip
    """Covariance of the natural estimates, coordinates at an edge held there: R⁻¹SR⁻¹, or 2R⁻¹ with too few subjects for S.

    NaN for variances that are 0.
    """
    inside = ~edge
    inverse, scores, slope = np.linalg.inv(hessian[np.ix_(inside, inside)]), gradient[:, inside], slope[:, inside]
    sandwich = len(gradient) > len(hessian)
    covariance = slope @ (inverse @ (scores.T @ scores) @ inverse if sandwich else 2.0 * inverse) @ slope.T
    covariance[zero, :] = covariance[:, zero] = np.nan
    return covariance, "sandwich" if sandwich else "R"
