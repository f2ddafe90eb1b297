"""A drug at a concentration, in a cell: the overrides of the cell's parameter table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.drugs.drug import HERG, KT, Block, Drug, Effects

BINDING = ("Kmax", "Ku", "n", "halfmax", "Vhalf", "D")  # parameters of a cell with dynamic hERG, besides Kt
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lanes:
    """Drugs × doses × samples in a row. parameters: overrides by name, each (lanes,). drug, dose, sample: (lanes,) indices;
    concentration: (lanes,), nM. shape: (drugs, doses, samples); a result (lanes,) becomes a table by `reshape(shape)`."""

    parameters: dict[str, Array]
    drug: NDArray[np.int64]
    dose: NDArray[np.int64]
    sample: NDArray[np.int64]
    concentration: Array
    shape: tuple[int, int, int]


def unblocked(block: Block, concentration: ArrayLike) -> Array:
    """Fraction of the current that is left: 1/(1 + (C/IC50)^h). C and IC50 in nM, broadcast against each other."""
    c = np.asarray(concentration, float)
    return np.asarray(1.0 / (1.0 + (c / np.asarray(block.ic50)) ** np.asarray(block.h)))


def dynamic(model: CellModel) -> bool:
    """Whether the cell has states of dynamic drug binding to hERG."""
    return all(name in model.parameters for name in (*BINDING, "Kt"))


def effect(
    drug: Drug,
    concentration: ArrayLike,
    model: CellModel,
    *,
    effects: Effects | None = None,
    herg: str = "auto",
    base: Mapping[str, Any] | None = None,
) -> dict[str, Array]:
    """Overrides {parameter: (lanes,)} of `model`'s table for `drug` at `concentration` (nM; a number, or (lanes,)).

    effects: parameters to use instead of the drug's best ones, such as `drug.samples`; arrays (samples,) then meet the
    concentrations elementwise. herg: "dynamic", "static", or "auto" (dynamic where the drug has it). base: values, (lanes,) or
    numbers, of parameters that already differ from the table (a population); block multiplies them.

    Raises DataError for a negative concentration, UnsupportedError for a channel that the cell lacks, and where dynamic hERG
    would be lost: a cell without it must be asked for static block by herg="static".
    """
    try:
        c = np.atleast_1d(np.asarray(concentration, float))
    except (TypeError, ValueError):
        c = np.full(1, np.nan)
    if c.ndim != 1 or not c.size:
        raise DataError(
            f"concentrations of shape {c.shape}",
            source=f"drug {drug.name}",
            remedy="give a number, or a list of one for each lane",
        )
    if not np.all(np.isfinite(c) & (c >= 0)):
        raise DataError(
            "not a concentration",
            source=f"drug {drug.name}",
            value=c[~(np.isfinite(c) & (c >= 0))][0],
            remedy="give nM, 0 or more",
        )
    part = drug.point if effects is None else effects
    base = {} if base is None else base
    sizes = {n for n in (len(c), part.samples, *(np.size(v) for v in base.values())) if n > 1}
    if len(sizes) > 1:
        raise DataError(
            f"{' and '.join(map(str, sorted(sizes)))} lanes at once", source=f"drug {drug.name}",
            remedy="give concentrations, samples and base of one length, or set them up by lanes()",
        )  # fmt: skip
    way = _way(drug.name, part, model, herg)
    found: dict[str, Array] = {}
    for channel, block in part.block.items():
        if channel == HERG and way != "static":
            continue
        if channel not in model.conductances:
            raise UnsupportedError(f"cell {model.name} has no current {channel}, which {drug.name} blocks; leave the channel out")
        name = model.conductances[channel]
        before = found[name] if name in found else np.asarray(base.get(name, model.parameters[name].value), float)
        found[name] = before * unblocked(block, c)
    if way == "dynamic" and part.binding is not None:
        b = part.binding
        found |= dict(zip(BINDING, (np.asarray(v, float) for v in (*b, c)), strict=True))
        if model.parameters["Kt"].value != KT:  # some tables have 0 there, for the cell without drug
            found["Kt"] = np.asarray(KT)
    if not found:
        return {}
    shape = np.broadcast_shapes(*(v.shape for v in found.values()), c.shape)
    return {name: np.broadcast_to(v, shape).copy() for name, v in found.items()}


def _untouched(model: CellModel, name: str) -> float:
    """Value of a parameter without drug."""
    return 0.0 if name == "D" else model.parameters[name].value


def _way(name: str, part: Effects, model: CellModel, herg: str) -> str:
    """dynamic, static or none: how hERG block acts."""
    if herg not in ("auto", "dynamic", "static"):
        raise DataError("unknown way of hERG block", column="herg", value=herg, remedy="use auto, dynamic or static")
    if herg == "static":
        if HERG not in part.block:
            raise UnsupportedError(f"{name} has no static block of {HERG}; give its IC50 and Hill, or use the cell cipa")
        return "static"
    if part.binding is not None:
        if not dynamic(model):
            static = 'ask for static block by herg="static"' if HERG in part.block else "give a static IC50 and Hill too"
            raise UnsupportedError(
                f"cell {model.name} has no dynamic hERG, which {name} binds to; use the cell cipa, or {static}"
            )
        return "dynamic"
    if herg == "dynamic":
        raise UnsupportedError(f"{name} has no dynamic hERG parameters; fit them to a Milnes protocol, or use static block")
    return "static" if HERG in part.block else "none"


def lanes(
    drugs: Sequence[Drug],
    multiples: Sequence[float],
    model: CellModel,
    *,
    samples: int = 0,
    herg: str = "auto",
) -> Lanes:
    """All of `drugs` at `multiples` of their Cmax, with the first `samples` joint samples of each (0: best values), as lanes.

    Parameters that one drug does not change have the table's values in its lanes. Raises DataError where a drug has too few
    samples, and as `effect` does.
    """
    if not drugs or not multiples:
        raise DataError("nothing to simulate", remedy="give at least one drug and one multiple of Cmax")
    if samples < 0:
        raise DataError("fewer than no samples", column="samples", value=samples, remedy="give 0 or more")
    several = max(samples, 1)
    shape = (len(drugs), len(multiples), several)
    at = np.repeat(np.asarray(multiples, float), several)
    which = np.tile(np.arange(several), len(multiples))
    each = []
    for d in drugs:
        have = d.samples.samples if d.samples is not None else 0
        if samples > have:
            raise DataError(
                f"{have} joint samples, {samples} asked for", source=f"drug {d.name}", remedy="ask for fewer, or fit it"
            )
        part = d.samples.take(which) if d.samples is not None and samples else d.point
        each.append(effect(d, at * d.cmax, model, effects=part, herg=herg))
    names = sorted({n for e in each for n in e})
    size = len(at)
    parameters = {n: np.concatenate([e[n] if n in e else np.full(size, _untouched(model, n)) for e in each]) for n in names}
    drug, dose, sample = (np.ascontiguousarray(v).reshape(-1) for v in np.indices(shape))
    cmax = np.array([d.cmax for d in drugs])
    return Lanes(parameters, drug, dose, sample, np.asarray(multiples, float)[dose] * cmax[drug], shape)
