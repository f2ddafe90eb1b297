"""A compound in one virtual heart: control and multiples of its Cmax, and what cannot be shown with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.heart.drugs.drug import HERG, Drug, Effects
from gemello.domains.heart.drugs.effect import unblocked
from gemello.domains.heart.organ.cells import Kinds, beats
from gemello.domains.heart.organ.cloud import Booleans, Floats
from gemello.domains.heart.organ.ecg import Ecg
from gemello.domains.heart.organ.equivalent import fraction_left
from gemello.domains.heart.organ.intervals import Intervals, intervals
from gemello.domains.heart.organ.recovery import Templates
from gemello.domains.heart.organ.virtual import VirtualHeart
from gemello.domains.heart.pacing import pace
from gemello.domains.heart.steady import steady

CYCLE = 1000.0  # ms
BEATS = 100  # from the authors' steady state at this cycle length; ToR-ORd under block comes to none within some tens of beats
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
        return [*out, *self.drug.notes]


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
    which cells do not repolarise or no T wave ends are left out. Raises DataError where none remains.
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
    once = _Once(pacer, virtual.kinds, left if way == "equivalent" else np.ones(len(left)))
    herg = "static" if way == "static" else "auto"
    templates, well = _templates(once, own, asked * drug.cmax, herg, virtual.kinds)
    reasons |= {m: f"a cell does not repolarise within {CYCLE:g} ms" for m in asked[~well]}
    say("Electrocardiograms")
    found = []
    for m, t, apd, kept in zip(asked[well], templates, once.apd90[well], left[well], strict=True):
        ecg = virtual.ecg(t)
        try:
            measured = intervals(ecg.time, ecg.leads, CYCLE)
        except DataError as e:
            if m == 0.0:
                raise
            reasons[m] = str(e)
            continue
        found.append(Dose(float(m), float(m * drug.cmax), ecg, measured, float(apd), float(kept)))
    out = tuple((float(m), float(m * drug.cmax), why) for m, why in sorted(reasons.items()))
    if len(found) < 2:
        raise DataError(
            f"no dose can be shown: {out[0][2]}", source=f"drug {drug.name}", remedy="give lower multiples by --doses"
        )
    return Study(drug, virtual, tuple(found), out, way)


def herg_of(drug: Drug) -> tuple[str, Drug]:
    """How its hERG block is had, and the drug as the heart's cells take it."""
    if HERG in drug.point.block:
        return "static", drug
    if drug.point.binding is None:
        return "none", drug
    return "equivalent", replace(drug, point=Effects(drug.point.block, None), samples=None)


class _Once:
    """A pacer that multiplies IKr by `left` (doses,), and keeps what came out, so that bad doses can be taken out of it."""

    def __init__(self, pacer: Callable[..., Any], kinds: Kinds, left: Floats) -> None:
        self.pacer, self.left = pacer, left
        self.out: Any = None
        self.count = len(kinds.models) * kinds.levels

    def __call__(self, model: Any, parameters: Any, **options: Any) -> Any:
        name = model.conductances[HERG]
        scaled = np.asarray(parameters[name]) * np.repeat(self.left, self.count)
        self.out = self.pacer(model, {**parameters, name: scaled}, **options)
        return self.out

    @property
    def apd90(self) -> Floats:
        """Of the first endocardial cell at each dose, ms."""
        return np.asarray(self.out.biomarkers["apd90"], float).reshape(-1, self.count)[:, 0]

    @property
    def well(self) -> Booleans:
        """(doses,) at which every cell is at rest at the end of the beat, the measure of `beats`."""
        rest = ~np.asarray(self.out.failed, bool) & (np.asarray(self.out.trace.voltage)[:, -1] < -60.0)
        return np.asarray(rest.reshape(-1, self.count).all(1))

    def only(self, doses: Booleans) -> Callable[..., Any]:
        """A pacer that gives the same results of these doses."""
        lanes = np.repeat(doses, self.count)
        trace = SimpleNamespace(time=self.out.trace.time, voltage=self.out.trace.voltage[lanes])
        return lambda *_, **__: SimpleNamespace(failed=self.out.failed[lanes], trace=trace)


def _templates(once: _Once, drug: Drug, concentrations: Floats, herg: str, kinds: Kinds) -> tuple[list[Templates], Booleans]:
    """Action potentials of the doses whose cells repolarise, and which these are."""
    try:
        every = beats(kinds, drug, concentrations, herg=herg, cycle_length=CYCLE, number=BEATS, pacer=once)
        return every, np.ones(len(concentrations), bool)
    except DataError:
        if once.out is None or once.well.all() or not once.well[0]:
            raise
    well = once.well
    return beats(kinds, drug, concentrations[well], herg=herg, cycle_length=CYCLE, pacer=once.only(well)), well
