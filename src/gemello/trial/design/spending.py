"""Error spending functions (Lan & DeMets 1983): how much of a level may be spent by information fraction t."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError

Array = NDArray[np.float64]
Spending = Literal["OF", "P", "HSD", "KD"]


def spending(kind: str, level: float, gamma: float = 0.0) -> Callable[[Array], Array]:
    """The function t -> spent. kind: "OF" 2(1 − Φ(z_{1−level/2}/√t)), like O'Brien–Fleming; "P" level·ln(1 + (e − 1)t), like
    Pocock; "HSD" level(1 − e^{−γt})/(1 − e^{−γ}) (Hwang, Shih & DeCani 1990; γ = 0: level·t); "KD" level·t^γ (Kim & DeMets
    1987, γ > 0). Raises DataError for an unknown kind, or a γ that it cannot take."""
    if kind == "OF":
        z = stats.norm.isf(level / 2)
        return lambda t: np.where(t > 0, 2 * stats.norm.sf(z / np.sqrt(np.maximum(t, 1e-300))), 0.0)
    if kind == "P":
        return lambda t: level * np.log1p((np.e - 1) * t)
    if kind == "HSD":
        if not np.isfinite(gamma) or abs(gamma) > 100:
            raise DataError("no parameter of Hwang–Shih–DeCani spending", column="gamma", value=gamma, remedy="give −100 to 100")
        return lambda t: level * (t if abs(gamma) < 1e-10 else np.expm1(-gamma * t) / np.expm1(-gamma))
    if kind == "KD":
        if not 0 < gamma <= 100:
            raise DataError("no power of Kim–DeMets spending", column="gamma", value=gamma, remedy="give a number above 0")
        return lambda t: level * t**gamma
    raise DataError("unknown spending function", value=kind, remedy='"OF", "P", "HSD" or "KD"')
