"""Scales on which variables are learned: a continuous variable as it is or by its logarithm, counts by log(1 + x), levels by
rank.

A discrete value stands for the interval between the midpoints to its neighbours, so that one continuous distribution serves all
kinds: P(level k) = F(upper edge) − F(lower edge), the outermost edges open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from gemello.base.errors import DataError
from gemello.model.generator import Array, Variable

COUNT_LIMIT = 2_000  # support of a count in expectations


@dataclass(frozen=True)
class Scale:
    """How one variable is learned. transform: "identity", "log", "log1p" or "rank". center, spread: of the transformed values.
    low, high: of what was seen. levels: of a discrete one."""

    name: str
    kind: str
    transform: str
    center: float
    spread: float
    low: float
    high: float
    lower: float
    upper: float
    levels: tuple[float, ...] = ()

    @property
    def discrete(self) -> bool:
        """Whether values are levels or counts."""
        return self.kind != "continuous"

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return asdict(self) | {"levels": list(self.levels), "lower": plain_bound(self.lower), "upper": plain_bound(self.upper)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Scale:
        """The scale of `to_dict`."""
        bounds = {"lower": read_bound(d["lower"], -np.inf), "upper": read_bound(d["upper"], np.inf)}
        return cls(**{**d, "levels": tuple(float(v) for v in d["levels"]), **bounds})

    def forward(self, x: Array) -> Array:
        """Values to the learned scale, NaN staying NaN; a level unknown to the scale lies between its neighbours."""
        return (self._transformed(x) - self.center) / self.spread

    def _transformed(self, x: Array) -> Array:
        if self.transform == "log":
            return np.log(np.maximum(x, self.low * 1e-3))
        if self.transform == "log1p":
            return np.log1p(np.maximum(x, -0.5))
        if self.transform == "rank":
            out = np.interp(x, self.levels, np.arange(len(self.levels), dtype=float))
            return np.where(np.isnan(x), np.nan, out)
        return np.asarray(x, float)

    def edges(self, x: Array) -> tuple[Array, Array]:
        """Interval of the learned scale that a discrete value stands for."""
        if self.transform == "rank":
            r = np.round(self._transformed(x))
            low = np.where(r <= 0, -np.inf, r - 0.5)
            high = np.where(r >= len(self.levels) - 1, np.inf, r + 0.5)
        else:
            k = np.round(x)
            low, high = np.where(k <= 0, -np.inf, np.log1p(np.maximum(k - 0.5, -0.5))), np.log1p(k + 0.5)
        return (low - self.center) / self.spread, (high - self.center) / self.spread

    def support(self) -> Array:
        """(L,) values that a discrete variable takes; counts to well above the largest seen."""
        if self.transform == "rank":
            return np.array(self.levels)
        top = min(self.upper, 3 * self.high + 10, COUNT_LIMIT + self.high)
        return np.arange(0.0, top + 1)

    def backward(self, v: Array) -> Array:
        """From the learned scale to values that can occur."""
        t = v * self.spread + self.center
        if self.transform == "rank":
            return np.array(self.levels)[np.clip(np.round(t), 0, len(self.levels) - 1).astype(int)]
        if self.transform == "log1p":
            return np.clip(np.round(np.expm1(np.minimum(t, 700.0))), 0.0, self.upper)
        x = np.exp(np.minimum(t, 700.0)) if self.transform == "log" else t
        return np.clip(x, self.lower, self.upper)


def plain_bound(bound: float) -> float | None:
    """A bound as JSON has it: None where there is none."""
    return float(bound) if np.isfinite(bound) else None


def read_bound(bound: float | None, none: float) -> float:
    """The bound of `plain_bound`."""
    return none if bound is None else float(bound)


def learn_scale(variable: Variable, x: Array) -> Scale:
    """The scale of a variable from its values. Raises DataError where none is seen or they do not suit its kind."""
    seen = x[~np.isnan(x)]
    if not len(seen):
        raise DataError("never seen", column=variable.name, remedy="leave the variable out")
    if not np.all(np.isfinite(seen)):
        raise DataError("infinite value", column=variable.name, remedy="mend it or make it missing")
    levels: tuple[float, ...] = ()
    if variable.kind == "count":
        if np.any(seen < 0) or np.any(seen != np.round(seen)):
            bad = float(seen[(seen < 0) | (seen != np.round(seen))][0])
            raise DataError(
                "no count", column=variable.name, value=bad, remedy="give whole numbers from 0, or call it continuous"
            )
        transform = "log1p"
    elif variable.kind in ("ordinal", "binary"):
        levels = tuple(sorted({float(v) for v in (variable.levels or np.unique(seen))}))
        if variable.kind == "binary":
            levels = tuple(sorted({0.0, 1.0} | set(levels))) if not variable.levels else levels
        unknown = sorted(set(seen.tolist()) - set(levels))
        if unknown:
            raise DataError("not among the levels", column=variable.name, value=unknown[0], remedy=f"levels are {levels}")
        if len(levels) > 50 or (variable.kind == "binary" and len(levels) != 2):
            raise DataError(
                f"{len(levels)} levels for a {variable.kind} variable", column=variable.name, remedy="call it continuous"
            )
        transform = "rank"
    else:
        transform = "log" if _wants_logarithm(seen) else "identity"
    plain = Scale(
        variable.name, variable.kind, transform, 0.0, 1.0, float(seen.min()), float(seen.max()), float(variable.lower),
        float(variable.upper), levels,
    )  # fmt: skip
    t = plain._transformed(seen)
    spread = float(t.std())
    return Scale(**{**asdict(plain), "center": float(t.mean()), "spread": spread if spread > 1e-12 else 1.0, "levels": levels})


def _wants_logarithm(seen: Array) -> bool:
    """Positive values over more than a decade whose logarithms are the more symmetrical."""
    if seen.min() <= 0 or len(seen) < 20:
        return False
    low, high = np.quantile(seen, (0.05, 0.95))
    return bool(high > 8 * low and abs(stats.skew(np.log(seen))) < 0.7 * abs(stats.skew(seen)))
