"""`gemello heart ecg`: a compound's ECG in a virtual heart.

The command line hands its output (progress, tables, files) in as `context.obj`, for a domain knows nothing of the command line.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError

if TYPE_CHECKING:
    from gemello.base.provenance import Provenance
    from gemello.domains.heart.drugs.drug import Drug
    from gemello.domains.heart.organ.study import Study
    from gemello.domains.heart.organ.virtual import VirtualHeart

MOST_DOSES, HIGHEST = 20, 1e4
GRID = 2.0  # ms, of the leads in JSON
HEADS = ("x Cmax", "nM", "QRS ms", "QT ms", "QTcF ms", "ΔQT ms", "ΔQTcF ms", "endo APD90 ms", "IKr left")


def ecg(
    context: typer.Context,
    compound: Annotated[Path, typer.Argument(metavar="COMPOUND.yaml", help="The compound: its block of channels and Cmax.")],
    heart: Annotated[Path, typer.Option("--heart", metavar="FOLDER", help="Folder with the node cloud of a heart.")],
    spacing: Annotated[float, typer.Option(help="Edge of a voxel, mm.")] = 1.5,
    doses: Annotated[str, typer.Option(metavar="X,X,…", help="Multiples of Cmax.")] = "1,2,3,4",
    json: Annotated[bool, typer.Option("--json", help="Print JSON: all numbers and the leads.")] = False,
    report: Annotated[Path | None, typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write a report.")] = None,
) -> None:
    """QRS, QT and the 12 leads of a virtual heart, in control and under a compound.

    Cells of the wall are paced at 1 Hz with the compound at each dose, and the heart of the node cloud turns their action
    potentials into an ECG. Nothing is drawn by chance.
    """
    output = context.obj
    multiples = _multiples(doses)
    target = output.check_target(report, sources=[compound]) if report is not None else None
    with output.progress("Reading") as say:
        from gemello.domains.heart.organ.study import study  # noqa: PLC0415
        from gemello.domains.heart.organ.virtual import prepare  # noqa: PLC0415
        from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

        use_cpu_devices()
        drug = _drug(compound)
        if not os.path.isdir(heart):  # Path raises for a name that no disk can hold
            raise DataError("no such folder", source=str(heart), column="--heart", remedy="give the folder of a node cloud")
        say(f"Preparing the heart of {heart.name}")
        virtual = prepare(heart, spacing=spacing)
        found = study(virtual, drug, multiples, say=say)
        stamp = _stamp(virtual, drug)
        if target is not None:
            say(f"Writing {target.name}")
            _write(output, target, found, stamp, compound.name, heart.name)
    if json:
        output.to_json(to_dict(found, stamp))
    else:
        show(output, found)
    if target is not None:
        output.note(f"report: {target}")


def _multiples(text: str) -> list[float]:
    """Multiples of Cmax of a text such as 1,2,3,4. Raises DataError."""
    remedy = f"give at most {MOST_DOSES} numbers above 0, up to {HIGHEST:g}, such as 1,2,3,4"
    try:
        out = [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError("not numbers with commas between them", column="--doses", value=text, remedy=remedy) from None
    bad = [v for v in out if not (math.isfinite(v) and 0.0 < v <= HIGHEST)]
    if bad:
        raise DataError("not a multiple of Cmax", column="--doses", value=bad[0], remedy=f"{remedy}; control is always there")
    if len(out) > MOST_DOSES:
        raise DataError("too many doses", column="--doses", value=len(out), remedy=remedy)
    return sorted(set(out))


def _drug(path: Path) -> Drug:
    """The one compound of a file. Only its best values are used, so raw tables are not fitted more often than needed."""
    from gemello.domains.heart.drugs import compound as reader  # noqa: PLC0415

    drugs = reader.read(path, draws=1, refits=1).drugs
    if len(drugs) != 1:
        raise DataError(f"{len(drugs)} compounds", source=path.name, remedy="give one compound")
    return drugs[0]


def _stamp(virtual: VirtualHeart, drug: Drug) -> Provenance:
    from gemello.base.provenance import Provenance  # noqa: PLC0415

    data = {f"{c} {n}": v for c, b in drug.point.block.items() for n, v in b._asdict().items()}
    data |= {f"herg {n}": v for n, v in (drug.point.binding._asdict() if drug.point.binding else {}).items()}
    shape = {"activation": virtual.activation, "field": virtual.field, "weight": virtual.weight}
    return Provenance.collect(virtual.kinds.models[0], data={"cmax": drug.cmax, **data, **shape})


def _write(output: Any, target: Path, found: Study, stamp: Provenance, source: str, heart: str) -> None:
    from gemello.domains.heart.organ import report  # noqa: PLC0415

    output.write_whole(target, lambda p: report.write(found, stamp, path=p, source=source, heart=heart))


def to_dict(found: Study, stamp: Provenance) -> dict[str, Any]:
    """For JSON. Names carry units."""
    from gemello.domains.heart.organ.ecg import LEADS  # noqa: PLC0415
    from gemello.domains.heart.organ.report import thinned  # noqa: PLC0415

    doses = []
    for d in found.doses:
        i, (dqt, dqtcf) = d.intervals, found.change(d)
        drawn = thinned(d.ecg, GRID)
        numbers = {"x_cmax": d.multiple, "concentration_nM": d.concentration, "QRS_ms": i.qrs, "QT_ms": i.qt, "QTcF_ms": i.qtcf}
        numbers |= {"delta_QT_ms": dqt, "delta_QTcF_ms": dqtcf, "endo_APD90_ms": d.apd90, "IKr_left": d.left}
        leads = {name: [round(float(v), 5) for v in row] for name, row in zip(LEADS, drawn.leads, strict=True)}
        doses.append(numbers | {"time_ms": drawn.time, "leads_mV": leads})
    heart = found.virtual.heart
    return {
        "compound": found.drug.name,
        "hERG": found.herg,
        "heart": {"volume_mL": heart.volume, "spacing_mm": heart.spacing, "voxels": len(found.virtual.activation)},
        "doses": doses,
        "left_out": [{"x_cmax": m, "concentration_nM": c, "reason": why} for m, c, why in found.left_out],
        "warnings": found.warnings,
        "provenance": stamp.to_dict(),
    }


def show(output: Any, found: Study) -> None:
    """The table, and what to know of it."""
    rows = []
    for d in found.doses:
        i = d.intervals
        change = found.change(d) if d.multiple else (None, None)
        times = (round(v, 1) if v is not None else None for v in (i.qrs, i.qt, i.qtcf, *change, d.apd90))
        rows.append((d.multiple, d.concentration, *times, round(d.left, 3)))
    output.table(HEADS, rows)
    if found.herg == "equivalent":
        output.note("dynamic hERG as the static block that gives the CiPA cell the same APD90")
    for w in found.warnings:
        output.note(w)
