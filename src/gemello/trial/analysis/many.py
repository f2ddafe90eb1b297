"""Many simulated trials at once: analysis of covariance with HC3 of each, for operating characteristics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError

Array = NDArray[np.float64]
BLOCK = 60_000  # values of a block of trials; keeps its arrays in the processor's cache


@dataclass(frozen=True)
class ManyAncova:
    """estimates, se, se_model: (trials,) of the arm's coefficient; df: n − k − 2."""

    estimates: Array
    se: Array
    se_model: Array
    df: int

    def rejected(self, level: float = 0.05, model: bool = False) -> float:
        """Share of trials whose two-sided t test of no difference rejects."""
        z = np.abs(self.estimates) / (self.se_model if model else self.se)
        return float(np.mean(z > stats.t.ppf(1 - level / 2, self.df)))


def ancova_many(y: Array, x: Array | None, arm: Array) -> ManyAncova:
    """Least squares of y on 1, x and arm in each of many trials.

    y: (trials, n). x: (trials, n, k), (n, k) shared by all, or None (unadjusted). arm: (trials, n) or (n,), 0 or 1. Columns are
    made orthogonal one after another, the arm last (Frisch, Waugh and Lovell), so no matrix is formed. HC3 as in `linear`.
    Raises DataError for shapes that do not fit, values that are not finite, columns that the others determine (with the trial).
    """
    y, arm = np.asarray(y, float), np.asarray(arm, float)
    if y.ndim != 2:
        raise DataError(f"y has {y.ndim} axes", remedy="give (trials, subjects)")
    trials, n = y.shape
    x = np.empty((n, 0)) if x is None else np.asarray(x, float)
    k = x.shape[-1]
    if arm.shape[-1] != n or x.shape[-2] != n or {arm.ndim - 1, x.ndim - 2} - {0, 1}:
        raise DataError(
            f"y {y.shape}, x {x.shape} and arm {arm.shape} do not fit", remedy="x (…, subjects, k), arm (…, subjects)"
        )
    if n <= k + 2:
        raise DataError(f"{n} subjects for {k + 2} coefficients", remedy="simulate larger trials")
    step = max(1, BLOCK // n)
    out = np.empty((3, trials))
    for at in range(0, trials, step):
        here = slice(at, at + step)
        columns = [x[here, :, j] if x.ndim == 3 else x[None, :, j] for j in range(k)]
        out[:, here] = _block(y[here], columns, arm[here] if arm.ndim == 2 else arm[None], at)
    return ManyAncova(out[0], out[1], out[2], n - k - 2)


def _block(y: Array, columns: list[Array], arm: Array, first: int) -> Array:
    """(3, trials) estimate, HC3 and model-based standard error. Arrays of one row are shared by all trials of the block."""
    leverage: Array = np.full((1, 1), 1 / y.shape[1])
    basis: list[Array] = []
    residual = y - y.mean(axis=1, keepdims=True)
    along = size = np.empty(0)
    for c in [*columns, arm]:
        v, size = _orthogonal(c - c.mean(axis=1, keepdims=True), basis)
        raw = _dot(c, c)
        if len(bad := np.flatnonzero(~(size > 1e-18 * raw))):
            name = "arm" if c is arm else f"x[{len(basis)}]"
            raise DataError(f"trial {first + bad[0] + 1}: {name} cannot be told from the other columns", remedy="leave it out")
        v = v / np.sqrt(size)[:, None]
        basis.append(v)
        leverage = leverage + v * v
        along = _dot(v, residual)
        residual = residual - along[:, None] * v
    if len(bad := np.flatnonzero(leverage.max(axis=1) > 1 - 1e-10)):
        raise DataError(f"trial {first + bad[0] + 1}: one subject alone determines a coefficient", remedy="two an arm at least")
    e2 = residual * residual
    meat = _dot(basis[-1] ** 2 / (1 - leverage) ** 2, e2)
    if len(bad := np.flatnonzero(~np.isfinite(meat))):
        raise DataError(f"trial {first + bad[0] + 1}: no finite standard error", remedy="mend y and x")
    model = e2.sum(axis=1) / (y.shape[1] - len(basis) - 1)
    return np.stack([along / np.sqrt(size), np.sqrt(meat / size), np.sqrt(model / size)])


def _orthogonal(v: Array, basis: list[Array]) -> tuple[Array, Array]:
    """v without its parts along the basis, and its squared length; a second time where the first took most of it away (Kahan)."""
    size = _dot(v, v)
    for _ in range(2 if basis else 0):
        before = size
        for q in basis:
            v = v - _dot(q, v)[:, None] * q
        size = _dot(v, v)
        if (size > 0.25 * before).all():
            break
    return v, size


def _dot(a: Array, b: Array) -> Array:
    """(trials,) inner products of rows."""
    return np.asarray(np.einsum("ti,ti->t", a, b))
