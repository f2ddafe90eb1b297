"""The torsade metric score: mean qNet at 1, 2, 3 and 4 Cmax, CL 2000 ms, in the CiPA cell (Dutta et al. 2017, Front Physiol
8:616; Li et al. 2019, Clin Pharmacol Ther 105:466).

Doses × samples × drugs are lanes of one run, sent through the solver in chunks so that a long one can be followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.drugs.drug import Binding, Block, Drug, Effects
from gemello.domains.heart.drugs.effect import effect
from gemello.domains.heart.risk import solver

DOSES = (1.0, 2.0, 3.0, 4.0)  # × Cmax
CHUNK = 1024  # lanes sent to the solver at once
MARKERS = ("qnet", "apd50", "apd90", "ead", "repolarised")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Pacer = Callable[[CellModel, Mapping[str, Floats]], Mapping[str, Any]]  # (model, overrides (lanes,)) -> markers and `failed`


@dataclass(frozen=True, eq=False)
class Scored:
    """One drug at all doses: its best values in row 0, its joint samples in the rows after it.

    doses: multiples of Cmax, (doses,). picked: rows of the drug's joint samples, (samples,). qnet: C/F; apd50, apd90: ms; ead:
    a depolarisation after the peak; repolarised: by the end of the beat; failed: the equations could not be solved; each
    (1 + samples, doses).
    """

    drug: Drug
    doses: tuple[float, ...]
    picked: Ints
    qnet: Floats
    apd50: Floats
    apd90: Floats
    ead: Flags
    repolarised: Flags
    failed: Flags

    @property
    def scores(self) -> Floats:
        """Torsade metric score of the best values and of each sample, (1 + samples,), C/F; NaN where a dose failed."""
        return np.asarray(np.where(self.failed, np.nan, self.qnet).mean(axis=1))


def classes_of(score: Any, thresholds: tuple[float, float]) -> Ints:
    """Class of each score: 2 (high) below thresholds[0], 0 (low) from thresholds[1] on, 1 (intermediate) between. C/F.

    Raises DataError for NaN, which would otherwise pass for low.
    """
    x = np.asarray(score, float)
    if np.any(np.isnan(x)):
        raise DataError("a score that is not a number", column="score", remedy="leave out what could not be solved")
    return np.where(x < thresholds[0], 2, np.where(x < thresholds[1], 1, 0)).astype(np.int64)


def run(
    drugs: Sequence[Drug],
    *,
    samples: int = 0,
    seed: int = 0,
    doses: Sequence[float] = DOSES,
    model: CellModel | None = None,
    pacer: Pacer | None = None,
    chunk: int = CHUNK,
    progress: Callable[[str], None] = lambda words: None,
) -> list[Scored]:
    """Every drug at every dose, for its best values and `samples` of its joint samples, to the steady state of 1,000 beats.

    samples: drawn without replacement, all where a drug has no more; a drug without samples has its best values only. doses:
    multiples of Cmax. model: default the CiPA cell. Raises DataError, and what `effect` raises.
    """
    if not drugs:
        raise DataError("no drug to score", remedy="give at least one")
    multiples = np.asarray(doses, float)
    if multiples.ndim != 1 or not len(multiples) or not np.all(np.isfinite(multiples) & (multiples >= 0)):
        raise DataError("impossible doses", column="doses", value=list(doses), remedy="give multiples of Cmax, 0 or more")
    cell = cipa_cell() if model is None else model
    picked = [_pick(d, samples, seed) for d in drugs]
    each = [overrides(d, multiples, p, cell) for d, p in zip(drugs, picked, strict=True)]
    names = sorted({n for e in each for n in e} | {cell.conductances["INa"]})  # one at least, so that the lanes are counted
    sizes = [(1 + len(p)) * len(multiples) for p in picked]
    table = {
        n: np.concatenate([e.get(n, np.full(k, float(cell.parameters[n].value))) for e, k in zip(each, sizes, strict=True)])
        for n in names
    }
    best = np.concatenate([np.arange(k) % (1 + len(p)) == 0 for k, p in zip(sizes, picked, strict=True)])
    out: dict[str, Any] = {}
    for mine, own in ((best, solver.paced), (~best, solver.sampled)):
        lanes = {n: v[mine] for n, v in table.items()}
        for k, v in _in_chunks(cell, lanes, int(mine.sum()), own if pacer is None else pacer, chunk, progress).items():
            out.setdefault(k, np.empty(len(best), v.dtype))[mine] = v
    ends = np.cumsum([0, *sizes])
    return [
        _one(d, tuple(float(m) for m in multiples), p, {k: v[a:b] for k, v in out.items()})
        for d, p, a, b in zip(drugs, picked, ends, ends[1:], strict=False)
    ]


def cipa_cell() -> CellModel:
    """The cell of the CiPA in-silico model."""
    from gemello.domains.heart.cells.cipa.model import cipa  # noqa: PLC0415  (imports JAX)

    return cipa


def _pick(drug: Drug, samples: int, seed: int) -> Ints:
    """Rows of the drug's joint samples to run, in rising order."""
    there = drug.samples.samples if drug.samples is not None else 0
    if samples < 0:
        raise DataError("fewer than no samples", column="samples", value=samples, remedy="give 0 or more")
    if samples >= there:
        return np.arange(there)
    chosen = generator(seed, "torsade samples", drug.name).choice(there, samples, replace=False)
    return np.sort(chosen).astype(np.int64)


def overrides(drug: Drug, multiples: Floats, picked: Ints, model: CellModel) -> dict[str, Floats]:
    """Parameters of all lanes of one drug, (doses · (1 + samples),): samples vary fastest, the best values first, so that cells
    with action potentials of like length lie side by side and share their steps."""
    at = np.repeat(multiples * drug.cmax, 1 + len(picked))
    if not len(picked) or drug.samples is None:
        return {n: np.asarray(v, float) for n, v in effect(drug, at, model).items()}
    rows = np.tile(np.arange(1 + len(picked)), len(multiples))
    every = _beside(drug.point, drug.samples.take(picked)).take(rows)
    return {n: np.asarray(v, float) for n, v in effect(drug, at, model, effects=every).items()}


def _beside(point: Effects, drawn: Effects) -> Effects:
    """Best values and samples as one, (1 + samples,)."""
    block = {c: Block(*(np.append(p, d) for p, d in zip(b, drawn.block[c], strict=True))) for c, b in point.block.items()}
    if point.binding is None or drawn.binding is None:
        return Effects(block, None)
    return Effects(block, Binding(*(np.append(p, d) for p, d in zip(point.binding, drawn.binding, strict=True))))


def _in_chunks(
    model: CellModel, table: Mapping[str, Floats], lanes: int, pacer: Pacer, chunk: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Markers of all lanes, chunk by chunk."""
    parts: list[Mapping[str, Any]] = []
    for start in range(0, lanes, chunk):
        here = slice(start, min(start + chunk, lanes))
        if lanes > chunk or not start:
            progress(f"Pacing cells: {start} of {lanes}" if start else f"Pacing {lanes} cells at CL {solver.CYCLE:g} ms")
        parts.append(pacer(model, {n: v[here] for n, v in table.items()}))
    return {k: np.concatenate([np.asarray(p[k]) for p in parts]) for k in (*MARKERS, "failed")} if parts else {}


def _one(drug: Drug, doses: tuple[float, ...], picked: Ints, out: Mapping[str, Any]) -> Scored:
    def shaped(name: str, kind: type) -> Any:
        return np.asarray(out[name]).reshape(len(doses), 1 + len(picked)).T.astype(kind)

    numbers = [shaped(n, float) for n in MARKERS[:3]]
    flags = [shaped(n, bool) for n in (*MARKERS[3:], "failed")]
    return Scored(drug, doses, picked, *numbers, *flags)
