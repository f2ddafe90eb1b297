"""Static hERG block in place of dynamic binding, for cells that have no states of it.

The CiPA cell (Li 2017) is paced to its steady state with the drug bound to its hERG channel, and with less and less of IKr in
place of any drug. The fraction left is the part of IKr with which APD90 is that under the drug. In another cell the conductance
of IKr is multiplied by it.

What is lost: binding goes on in the heart's own cells along their own action potentials, mid cells' being longer and epicardial
cells' shorter. For drugs that leave the channel slowly (dofetilide, cisapride, bepridil) the fraction is that of unbound
channels, which hardly changes within a beat. Others (sotalol, ranolazine, quinidine) bind during the beat, block the end of
repolarisation more than its beginning, and one number stands for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from gemello.base.errors import DataError
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.drugs.drug import HERG, Drug, Effects
from gemello.domains.heart.drugs.effect import effect
from gemello.domains.heart.steady import steady

Floats = NDArray[np.float64]
LEFT = np.geomspace(1.0, 0.05, 14)  # of IKr, at which APD90 is tabulated


def fraction_left(
    drug: Drug, concentration: ArrayLike, cycle_length: float = 1000.0, pacer: Callable[..., Any] = steady
) -> Floats:
    """IKr left at each concentration (nM, (doses,)) in the CiPA cell at `cycle_length` ms: (doses,).

    NaN where the CiPA cell does not repolarise under the drug, or later than with 5 % of IKr. Raises DataError for a drug without
    dynamic hERG.
    """
    if drug.point.binding is None:
        raise DataError("has no dynamic hERG", source=f"drug {drug.name}", remedy="use its static block")
    doses = np.atleast_1d(np.asarray(concentration, float))
    alone = Drug(drug.name, drug.cmax, Effects({}, drug.point.binding))
    bound = effect(alone, np.concatenate([np.zeros(len(LEFT)), doses]), cipa)
    name = cipa.conductances[HERG]
    conductance = cipa.parameters[name].value * np.concatenate([LEFT, np.ones(len(doses))])
    paced = pacer(cipa, bound | {name: conductance}, cycle_length=cycle_length)
    fit = ~np.asarray(paced.failed, bool) & (np.asarray(paced.biomarkers["repolarised"]) > 0.0)
    return inverted(np.where(fit, np.asarray(paced.biomarkers["apd90"], float), np.nan), len(doses))


def inverted(apd90: Floats, doses: int) -> Floats:
    """Fraction left of the last `doses` of apd90 (LEFT, then doses; ms, NaN where there is none) by those at LEFT."""
    table, asked = apd90[: len(LEFT)], apd90[len(LEFT) :]
    usable = np.isfinite(table) & (table >= np.fmax.accumulate(table))  # from where it falls again, the cell beats otherwise
    end = len(LEFT) if usable.all() else int(np.argmin(usable))
    if end < 2:
        raise DataError("the CiPA cell does not repolarise without drug", value=f"APD90 {table[0]:g} ms", remedy="pace it slower")
    longer, left = np.unique(table[:end], return_index=True)
    out = np.full(doses, np.nan)
    there = np.isfinite(asked) & (asked <= longer[-1])
    out[there] = np.exp(PchipInterpolator(longer, np.log(LEFT[left]))(np.maximum(asked[there], longer[0])))
    return out
