"""A compound in one virtual heart: control and multiples of its Cmax, and what cannot be shown with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.heart.drugs.drug import HERG, Drug, Effects
from gemello.domains.heart.drugs.effect import unblocked
from gemello.domains.heart.organ.cells import paced, templates, unsound, with_drug
from gemello.domains.heart.organ.ecg import Ecg
from gemello.domains.heart.organ.equivalent import fraction_left
from gemello.domains.heart.organ.intervals import Intervals, intervals
from gemello.domains.heart.organ.virtual import VirtualHeart
from gemello.domains.heart.pacing import pace
from gemello.domains.heart.steady import steady

CYCLE = 1000.0  # ms
BEATS = 100  # from the authors' steady state at this cycle length; ToR-ORd under block comes to none within some tens of beats
STEP = 0.5  # ms between points of an action potential
SLOWER = 0.05  # block of INa from which the missing delay of conduction is worth a warning


@dataclass(frozen=True, eq=False)
class Dose:
    """multiple: of Cmax, 0 in control. concentration: nM. apd90: endocardial cell, ms. left: IKr left, 1 without block."""

    multiple: float
    concentration: float
    ecg: Ecg
    intervals: Intervals
    apd90: float
    left: float


@dataclass(frozen=True, eq=False)
class Study:
    """doses: control first, then rising. left_out: (multiple, nM, reason). herg: static, equivalent (dynamic binding turned into
    static block) or none."""

    drug: Drug
    virtual: VirtualHeart
    doses: tuple[Dose, ...]
    left_out: tuple[tuple[float, float, str], ...]
    herg: str

    @property
    def control(self) -> Dose:
        """Without drug."""
        return self.doses[0]

    def change(self, dose: Dose) -> tuple[float, float]:
        """ΔQT and ΔQTcF against control, ms."""
        now, before = dose.intervals, self.control.intervals
        return now.qt - before.qt, now.qtcf - before.qtcf

    @property
    def warnings(self) -> list[str]:
        """What a reader must know of this compound."""
        out = [f"{m:g} × Cmax ({c:.4g} nM) is not shown: {why}" for m, c, why in self.left_out]
        sodium, top = self.drug.point.block.get("INa"), self.doses[-1].concentration
        share = 0.0 if sodium is None else 1.0 - float(unblocked(sodium, top))
        if share > SLOWER:
            real = "conduction slows and QRS widens in a real heart, not here"
            out.append(f"INa is blocked by {100 * share:.0f} % at {top:.4g} nM: {real}")
        if self.herg == "none":
            out.append("nothing is known of block of hERG: it counts as not blocked")
        return [*out, *self.drug.notes_where_static]


def study(
    virtual: VirtualHeart,
    drug: Drug,
    multiples: Sequence[float],
    *,
    pacer: Callable[..., Any] = pace,
    cipa_pacer: Callable[..., Any] = steady,
    say: Callable[[str], None] = lambda _: None,
) -> Study:
    """ECG in control and at each multiple of Cmax, after 100 beats at 1 Hz with the drug.

    Static block of hERG is used where the drug has it, else dynamic binding as equivalent static block (`equivalent`). Doses at
    which cells do not repolarise or have early afterdepolarisations, or no T wave ends, are left out. Raises DataError where none
    remains.
    """
    asked = np.array([0.0, *sorted({float(m) for m in multiples})])
    way, own = herg_of(drug)
    if way == "equivalent":
        say("Dynamic hERG as static block")
        left = np.concatenate([[1.0], fraction_left(drug, asked[1:] * drug.cmax, CYCLE, cipa_pacer)])
    else:
        left = unblocked(drug.point.block[HERG], asked * drug.cmax) if way == "static" else np.ones(len(asked))
    known = np.isfinite(left)
    reasons = {m: "the CiPA cell, from which its hERG block is taken, does not repolarise in time" for m in asked[~known]}
    asked, left = asked[known], left[known]
    say("Pacing cells")
    kinds = virtual.kinds
    parameters = with_drug(kinds, own, asked * drug.cmax, "static" if way == "static" else "auto")
    if way == "equivalent":
        name = kinds.models[0].conductances[HERG]
        parameters[name] = parameters[name] * np.repeat(left, kinds.count)
    out = paced(kinds, parameters, len(asked), pacer, cycle_length=CYCLE, beats=BEATS, trace=STEP)
    why = unsound(kinds, out, CYCLE)
    if why[0]:
        raise DataError(f"without drug {why[0]}", source=f"drug {drug.name}", remedy="an ECG of it means nothing: mend the cells")
    reasons |= {m: w for m, w in zip(asked, why, strict=True) if w}
    well = np.array([not w for w in why])
    apd90 = np.asarray(out.biomarkers["apd90"], float).reshape(-1, kinds.count)[:, 0]
    say("Electrocardiograms")
    found = []
    for m, t, apd, kept in zip(asked[well], templates(out, well, STEP), apd90[well], left[well], strict=True):
        ecg = virtual.ecg(t)
        try:
            measured = intervals(ecg.time, ecg.leads, CYCLE)
        except DataError as e:
            if m == 0.0:
                raise
            reasons[m] = str(e)
            continue
        found.append(Dose(float(m), float(m * drug.cmax), ecg, measured, float(apd), float(kept)))
    left_out = tuple((float(m), float(m * drug.cmax), w) for m, w in sorted(reasons.items()))
    if len(found) < 2:
        raise DataError(
            f"no dose can be shown: {'; '.join(f'{m:g} × Cmax: {w}' for m, _, w in left_out)}",
            source=f"drug {drug.name}",
            remedy=f"give lower multiples by --doses, such as {min(multiples) / 10:g}",
        )  # fmt: skip
    return Study(drug, virtual, tuple(found), left_out, way)


def herg_of(drug: Drug) -> tuple[str, Drug]:
    """How its hERG block is had, and the drug as the heart's cells take it."""
    if HERG in drug.point.block:
        return "static", drug
    if drug.point.binding is None:
        return "none", drug
    return "equivalent", replace(drug, point=Effects(drug.point.block, None), samples=None)
