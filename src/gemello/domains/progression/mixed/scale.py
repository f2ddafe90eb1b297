"""Scales on which a variable is near to normal with a constant spread: identity, square root, logarithm, arcsine.

The scale is chosen on training data by the Gaussian profile likelihood of what is left after a regression, with the Jacobian of
the transformation (Box & Cox 1964, J R Stat Soc B 26:211, section 3, at λ = 1, 1/2 and 0), and kept simple: another scale than
the identity must gain 2 units of log-likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemello.model.generator import Variable

Array = NDArray[np.float64]
Form = Literal["identity", "sqrt", "log", "arcsine"]
GAIN = 2.0
ROOM = 0.5  # ranges of the values seen, by which a forecast may go beyond them
FEW = 10  # levels up to which a variable is cut from a latent normal one


@dataclass(frozen=True)
class Scale:
    """z = (g(y) − centre) / spread. origin: value at which g starts (sqrt, log) or the lower bound (arcsine); width: shift inside
    of the logarithm, or the distance of the bounds (arcsine). low, high: bounds of values. step: 1 where values are whole."""

    form: Form = "identity"
    origin: float = 0.0
    width: float = 1.0
    centre: float = 0.0
    spread: float = 1.0
    low: float = -np.inf
    high: float = np.inf
    step: float = 0.0

    def forward(self, y: Array) -> Array:
        """Scaled values; NaN stays."""
        return (self._raw(np.asarray(y, float)) - self.centre) / self.spread

    def backward(self, z: Array) -> Array:
        """Values of scaled ones, within the bounds, rounded where they are whole."""
        raw = np.asarray(z, float) * self.spread + self.centre
        if self.form == "sqrt":
            y = self.origin + np.maximum(raw, 0.0) ** 2
        elif self.form == "log":
            y = self.origin - self.width + np.exp(np.minimum(raw, 700.0))
        elif self.form == "arcsine":
            y = self.origin + self.width * np.sin(np.clip(raw, 0.0, np.pi / 2)) ** 2
        else:
            y = raw
        y = np.clip(y, self.low, self.high)
        return np.round(y / self.step) * self.step if self.step else y

    def slope(self, y: Array) -> Array:
        """log |g'(y)|, the Jacobian, with values at the very edge moved in by half of the smallest distance from it."""
        x = np.asarray(y, float)
        if self.form == "identity":
            return np.zeros_like(x)
        if self.form == "sqrt":
            d = _off_edge(x - self.origin)
            return -np.log(2.0) - 0.5 * np.log(d)
        if self.form == "log":
            return -np.log(x - self.origin + self.width)
        p = np.clip((x - self.origin) / self.width, 0.0, 1.0)
        inside = _off_edge(np.minimum(p, 1 - p))
        return np.asarray(-np.log(2.0 * self.width) - 0.5 * np.log(inside * (1 - inside)))

    def _raw(self, y: Array) -> Array:
        if self.form == "sqrt":
            return np.sqrt(np.maximum(y - self.origin, 0.0))
        if self.form == "log":
            return np.log(np.maximum(y - self.origin + self.width, 1e-300))
        if self.form == "arcsine":
            return np.arcsin(np.sqrt(np.clip((y - self.origin) / self.width, 0.0, 1.0)))
        return y

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; a bound that there is not is None."""
        bound = lambda v: float(v) if np.isfinite(v) else None  # noqa: E731
        numbers = {k: float(getattr(self, k)) for k in ("origin", "width", "centre", "spread", "step")}
        return {"form": self.form, **numbers, "low": bound(self.low), "high": bound(self.high)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scale:
        """The scale of `to_dict`."""
        d = dict(data)
        low, high = d.pop("low"), d.pop("high")
        return cls(**d, low=-np.inf if low is None else low, high=np.inf if high is None else high)


def _off_edge(d: Array) -> Array:
    """Distances from an edge, those of 0 replaced by half of the smallest above 0."""
    above = d[d > 0]
    return np.maximum(d, 0.5 * above.min() if above.size else 1.0)


def choose(
    v: Variable,
    y: Array,
    residual: Callable[[Callable[[Array], Array]], Array] | None = None,
    group: NDArray[np.int64] | None = None,
) -> Scale:
    """The scale of a variable from its values y (n,) (NaN: missing; at least 2 seen).

    residual(g): what is left (n,) of g(y) after the regression that matters; default: after the mean. group: (n,) of a residual,
    each with a variance of its own (times); default: one.
    """
    seen = y[np.isfinite(y)]
    step = 1.0 if v.kind == "count" or (v.kind == "ordinal" and np.all(seen == np.round(seen))) else 0.0
    best, found = -np.inf, Scale(low=v.lower, high=v.upper, step=step)
    for s in _candidates(v, seen, step):
        left = residual(s._raw) if residual else s._raw(seen) - np.mean(s._raw(seen))
        number = np.bincount(group) if group is not None else np.array([len(left)])
        square = np.bincount(group, left**2) if group is not None else np.array([np.sum(left**2)])
        if np.any(square[number > 0] <= 0):
            continue
        score = float(-0.5 * number[number > 0] @ np.log(square[number > 0] / number[number > 0]) + np.sum(s.slope(seen)))
        if score > best + GAIN:
            best, found = score, s
    raw = found._raw(seen)
    spread, room = float(np.std(raw)), ROOM * float(np.ptp(seen))
    low, high = max(found.low, float(seen.min()) - room), min(found.high, float(seen.max()) + room)
    return Scale(found.form, found.origin, found.width, float(np.mean(raw)), spread if spread > 0 else 1.0, low, high, step)


def _candidates(v: Variable, seen: Array, step: float) -> list[Scale]:
    """Scales that the values allow, the simplest first."""
    bounds: dict[str, Any] = {"low": v.lower, "high": v.upper, "step": step}
    low = v.lower if np.isfinite(v.lower) else 0.0 if seen.min() >= 0 else None
    if v.kind == "count":
        low, bounds["low"] = 0.0, max(v.lower, 0.0)
    out = [Scale(**bounds)]
    if v.kind == "binary" or low is None or np.unique(seen).size < 4:
        return out
    out.append(Scale("sqrt", low, **(bounds | {"low": max(v.lower, low)})))
    if v.kind == "count" or seen.min() > low:  # a heap of values at the edge is no tail of a logarithm
        out.append(Scale("log", low, 0.5 if v.kind == "count" else 0.0, **(bounds | {"low": max(v.lower, low)})))
    if np.isfinite(v.lower) and np.isfinite(v.upper) and v.kind != "count":
        out.append(Scale("arcsine", v.lower, v.upper - v.lower, **bounds))
    return out
