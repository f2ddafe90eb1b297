"""Tipping point: how much worse would those who left have to be before the conclusion is lost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import brentq

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate
from gemello.trial.missing.imputation import Imputations


@dataclass(frozen=True, eq=False)
class TippingPoint:
    """table: one row a delta (or pair) with columns delta_control, delta_<arm>, estimate, se, lower, upper, p. delta: of the
    active arm alone, where p crosses alpha; None where it does not in the range. in_sd: delta over the SD of the observed
    outcomes at the visit."""

    table: pl.DataFrame
    delta: float | None
    in_sd: float | None
    arm: str
    alpha: float
    words: str


def tipping_point(
    imputed: Imputations,
    arm: str,
    deltas: Sequence[float],
    *,
    control_deltas: Sequence[float] = (0.0,),
    visit: str | None = None,
    alpha: float = 0.05,
) -> TippingPoint:
    """Delta-adjusted analyses over a grid, and the delta of `arm` at which significance is lost (control's delta 0).

    The same imputations are moved, so nothing is drawn anew and p is smooth in delta. deltas, control_deltas: added to values
    that are missing after the event. Raises DataError for an unknown arm, or a conclusion that is not there at delta 0.
    """
    arms = imputed.data.arms
    if arm not in arms[1:]:
        raise DataError("not an active arm", column="arm", value=arm, remedy=f"one of {', '.join(arms[1:])}")
    if not len(deltas):
        raise DataError("no deltas", column="deltas", remedy="give the range to look at")
    k = arms[1:].index(arm)

    def at(active: float, control: float = 0.0) -> Estimate:
        return imputed.shifted({arm: active, arms[0]: control}).analyse(visit=visit)[k]

    rows = []
    for c in control_deltas:
        for d in deltas:
            e = at(float(d), float(c))
            low, high = e.at(1 - alpha).interval
            rows.append({
                "delta_control": float(c), f"delta_{arm}": float(d), "estimate": e.estimate, "se": e.se,
                "lower": low, "upper": high, "p": e.p,
            })  # fmt: skip
    start = at(0.0)
    if start.p >= alpha:
        raise DataError(f"p = {start.p:.3g} at delta 0", column="delta", remedy="there is no conclusion that could tip")
    sign = np.sign(start.estimate)

    def margin(d: float) -> float:
        low, high = at(d).at(1 - alpha).interval
        return float(low if sign > 0 else -high)

    found = None
    for end in sorted({float(min(deltas)), float(max(deltas))} - {0.0}, key=abs):
        if margin(end) < 0 < margin(0.0):
            found = float(brentq(margin, 0.0, end, xtol=1e-6 * abs(end)))
            break
    t = -1 if visit is None else imputed.data.visits.index(visit)
    sd = float(np.nanstd(imputed.data.y[:, t], ddof=1))
    words = f"no delta from {min(deltas):g} to {max(deltas):g} overturns it"
    words = words if found is None else f"lost at a delta of {found:.4g}"
    return TippingPoint(pl.DataFrame(rows), found, None if found is None else found / sd, arm, alpha, words)
