"""`gemello heart population`: a drug in a population of hearts, women and men.

The command line hands its output (progress, tables, files) in as `context.obj`, for a domain knows nothing of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError

if TYPE_CHECKING:
    from gemello.domains.heart.cells.cell import CellModel
    from gemello.domains.heart.drugs.drug import Drug
    from gemello.domains.heart.populations.calibrate import Pacer
    from gemello.domains.heart.populations.measured import Measured
    from gemello.domains.heart.populations.population import Population
    from gemello.domains.heart.populations.response import Response

MODELS = ("torord_endo", "torord_epi", "ohara_rudy_endo", "ohara_rudy_epi", "ohara_rudy_cipa", "tt2006_endo", "tt2006_epi")
MOST_CELLS = 100_000
HIGHEST = 1e4  # x Cmax
BUNDLE = 40  # cells whose action potentials are drawn
HEADS = ("hearts", "x Cmax", "nM", "cells", "abnormal", "share", "95 % low", "95 % high", "ΔAPD90 ms", "95 % low", "95 % high")
INTERVALS = ("share", "share_low", "share_high", "change", "change_low", "change_high")


@dataclass(frozen=True, eq=False)
class Run:
    """All of one run."""

    pooled: Population
    groups: dict[str, Population]
    responses: tuple[Response, ...]
    notes: tuple[str, ...] = ()


def population(
    context: typer.Context,
    compound: Annotated[Path, typer.Argument(metavar="COMPOUND.yaml", help="The compound: its block of channels and Cmax.")],
    cells: Annotated[int, typer.Option(help="Candidates to sample; some are accepted.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    model: Annotated[str, typer.Option(help=f"Cell: {', '.join(MODELS)}.")] = "torord_endo",
    dose: Annotated[
        list[float], typer.Option("--dose", metavar="X", help="Multiple of Cmax; may be repeated. Default: 1, 3, 10, 30.")
    ] = [],  # noqa: B006  (typer copies it)
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="Where to keep the population (.parquet, .csv).")
    ] = None,
    report: Annotated[Path | None, typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write a report.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Share of virtual hearts, women's and men's, whose repolarisation a compound makes abnormal, by dose.

    Cells are sampled, held against 58 human action potentials, weighted, and paced with the drug at each dose.
    """
    output = context.obj
    if not 1 <= cells <= MOST_CELLS:
        raise DataError("impossible number", column="--cells", value=cells, remedy=f"give 1 to {MOST_CELLS}")
    bad = [d for d in dose if not 0.0 < d <= HIGHEST]
    if bad:
        raise DataError("impossible doses", column="--dose", value=bad[0], remedy=f"give numbers above 0, up to {HIGHEST:g}")
    if save is not None and save.suffix not in (".parquet", ".csv"):
        raise DataError("unknown kind of file", column="--save", value=save.name, remedy="write a .parquet or a .csv")
    wanted = [p for p in (report, save) if p is not None]
    targets = iter(output.check_targets(wanted, sources=[compound]) if wanted else ())
    page, kept = (next(targets) if p is not None else None for p in (report, save))
    with output.progress("Reading") as say:
        from gemello.base.random import check_seed  # noqa: PLC0415
        from gemello.domains.heart.drugs import compound as reader  # noqa: PLC0415
        from gemello.domains.heart.drugs.effect import effect  # noqa: PLC0415
        from gemello.domains.heart.populations import measured  # noqa: PLC0415
        from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

        use_cpu_devices()
        check_seed(seed)
        cell, data = cell_of(model), measured.read()
        drugs = reader.read(compound, seed=seed).drugs
        if len(drugs) != 1:
            raise DataError(f"{len(drugs)} compounds", source=compound.name, remedy="give one compound")
        effect(drugs[0], drugs[0].cmax, cell, herg=herg_of(drugs[0]))  # refuses early what the cell cannot have
        found = run(drugs[0], cell, data, cells=cells, seed=seed, doses=dose, say=say)
        if page is not None:
            say("Writing the report")
            write(output, page, found, cell, data)
        if kept is not None:
            found.pooled.save(kept)
    if json:
        output.to_json(to_dict(found))
    else:
        show(output, found)
    for p in (page, kept):
        if p is not None:
            output.note(f"written: {p}")


def cell_of(name: str) -> CellModel:
    """The cell of that name. Raises DataError."""
    from gemello.domains.heart.cells.cipa.model import cipa  # noqa: PLC0415
    from gemello.domains.heart.cells.ohara_rudy import model as ohara_rudy  # noqa: PLC0415
    from gemello.domains.heart.cells.ten_tusscher import model as ten_tusscher  # noqa: PLC0415
    from gemello.domains.heart.cells.torord import model as torord  # noqa: PLC0415

    every = (torord.endo, torord.epi, ohara_rudy.endo, ohara_rudy.epi, cipa, ten_tusscher.endo, ten_tusscher.epi)
    found = {c.name: c for c in every}
    if name not in found:
        raise DataError("no such cell", column="--model", value=name, remedy=f"use one of {', '.join(MODELS)}")
    return found[name]


def run(
    drug: Drug,
    cell: CellModel,
    data: Measured,
    *,
    cells: int,
    seed: int,
    doses: Sequence[float] = (),
    say: Callable[[str], None] = lambda _: None,
    pacer: Pacer | None = None,
) -> Run:
    """Calibrate, part by sex, give the drug. hERG is static wherever the drug has a static block, as every cell can have it."""
    from gemello.domains.heart import pacing  # noqa: PLC0415
    from gemello.domains.heart.populations.calibrate import calibrate  # noqa: PLC0415
    from gemello.domains.heart.populations.response import DOSES, respond  # noqa: PLC0415
    from gemello.domains.heart.populations.sexes import SEXES, of_sex  # noqa: PLC0415

    way = pacer or pacing.pace
    say(f"Calibrating {cells} cells")
    pooled = calibrate(cell, data, cells=cells, seed=seed, pacer=way)
    groups, responses = {}, []
    for sex in SEXES:
        say(f"{drug.name} in {pooled.cells} hearts, {sex}")
        groups[sex] = of_sex(pooled, cell, sex, pacer=way)
        herg = herg_of(drug)
        responses.append(respond(groups[sex], drug, cell, multiples=tuple(sorted(doses)) or DOSES, herg=herg, pacer=way))
    return Run(pooled, groups, tuple(responses), drug.notes_where_static)


def herg_of(drug: Drug) -> str:
    """How its hERG block acts here: static wherever it has a static block, as every cell can have it."""
    from gemello.domains.heart.drugs.drug import HERG  # noqa: PLC0415

    return "static" if HERG in drug.point.block else "auto"


def course(pooled: Population, cell: CellModel) -> tuple[Any, Any]:
    """One more beat of cells drawn by weight: time after the upstroke (points,) ms, potential (cells, points) mV."""
    import numpy as np  # noqa: PLC0415

    from gemello.base.random import generator  # noqa: PLC0415
    from gemello.domains.heart.pacing import pace  # noqa: PLC0415

    seed = pooled.provenance.seed or 0
    drawn = pooled.take(generator(seed, "drawn").choice(pooled.cells, size=BUNDLE, p=pooled.weights))
    paced = pace(cell, drawn.parameters, cycle_length=pooled.cycle_length, state=drawn.start(cell), trace=1.0)
    assert paced.trace is not None
    up = float(np.mean(paced.trace.time[np.argmax(paced.trace.voltage > -40.0, axis=1)]))
    return paced.trace.time - up, paced.trace.voltage


def write(output: Any, target: Path, found: Run, cell: CellModel, data: Measured) -> None:
    """The report."""
    from gemello.domains.heart.populations import report as page  # noqa: PLC0415
    from gemello.report.words import sentence  # noqa: PLC0415

    lines = course(found.pooled, cell)
    told = [sentence(n) for n in found.notes]
    parts = (found.pooled, found.groups, found.responses, data, lines)
    output.write_whole(target, lambda p: page.write(*parts, path=p, assumed=told))


def to_dict(found: Run) -> dict[str, Any]:
    """For JSON."""
    p = found.pooled
    return {
        "drug": found.responses[0].drug,
        "model": p.model,
        "cells": {"sampled": p.sampled, "accepted": p.cells, "effective": p.effective},
        "apd90_ms": {sex: dict(zip(("mean", "error"), g.mean("apd90"), strict=True)) for sex, g in found.groups.items()},
        "doses": {r.sex: [asdict(d) for d in r.doses] for r in found.responses},
        "notes": list(found.notes),
        "provenance": p.provenance.to_dict(),
    }


def show(output: Any, found: Run) -> None:
    """Tables."""
    from gemello.domains.heart.populations.report import sentences  # noqa: PLC0415

    rows = [
        (r.sex, d.multiple, d.concentration, d.cells, d.abnormal, *(getattr(d, n) for n in INTERVALS))
        for r in found.responses
        for d in r.doses
    ]  # fmt: skip
    print("\n".join(sentences(found.pooled, found.groups, found.responses)) + "\n")
    output.table(HEADS, rows)
    for words in found.notes:
        output.note(words)
