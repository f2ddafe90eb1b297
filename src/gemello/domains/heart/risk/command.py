"""`gemello heart risk`: the torsade risk of one compound, or of many.

The command line hands its output (progress, tables, files) in as `context.obj`, for a domain knows nothing of the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError, GemelloError, SolverError

if TYPE_CHECKING:
    from gemello.base.provenance import Provenance
    from gemello.domains.heart.drugs.drug import Drug
    from gemello.domains.heart.drugs.vintage import Vintage
    from gemello.domains.heart.risk.assess import Risk
    from gemello.domains.heart.risk.traces import Traces

MOST_SAMPLES = 100_000
GRID = 5  # ms, of the action potentials in JSON
HEADS = ("compound", "class", "P(low)", "P(intermediate)", "P(high)", "score C/F", "2.5 %", "97.5 %", "settled", "warnings")


def risk(
    context: typer.Context,
    compounds: Annotated[Path, typer.Argument(metavar="COMPOUND.yaml", help="One compound (.yaml), or many (.csv).")],
    samples: Annotated[
        int, typer.Option(help="Joint samples of the assay's parameters to run; a compound without samples has none.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    vintage: Annotated[
        str | None, typer.Option(help="Whose thresholds: lab2020 or validation2018; the compound's own, else lab2020.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="REPORT.html", help="Where to write the report; of many compounds, a folder."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: all numbers, by dose, and action potentials.")] = False,
) -> None:
    """Risk class of a compound from its ion-channel block: probability, interval, action potentials, report.

    Without --out and --json the report is written beside you as NAME-risk.html. Exit status 2 for a file that cannot be used; of
    many compounds, those that cannot be used are listed, and the others go on.
    """
    output = context.obj
    if not 0 <= samples <= MOST_SAMPLES:
        raise DataError("impossible number", column="--samples", value=samples, remedy=f"give 0 to {MOST_SAMPLES}")
    with output.progress("Reading") as say:
        from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

        use_cpu_devices()
        say(f"Reading {compounds.name}")
        drugs, of, rejected = read(compounds, vintage, seed)
        targets = _targets(output, drugs, compounds, out, json)
        tried = attempted(drugs, of, samples, seed, say)
        faults = [m for m in tried if isinstance(m, SolverError)]
        if len(faults) == len(tried):
            raise faults[0]
        rejected += [(d.name, str(m)) for d, m in zip(drugs, tried, strict=True) if isinstance(m, SolverError)]
        kept = [(m, d, t) for m, d, t in zip(tried, drugs, targets, strict=True) if not isinstance(m, SolverError)]
        made, targets = [m for m, _, _ in kept], [t for _, _, t in kept]
        for (found, traces, stamp), drug, target in kept:
            if target is not None:
                say(f"Writing {target.name}")
                _write(output, target, found, drug, of, traces, stamp, compounds.name)
    if json:
        shown = [found.to_dict() | _beside(traces, stamp) for found, traces, stamp in made]
        many = compounds.suffix.lower() == ".csv"
        output.to_json({"compounds": shown, "rejected": rejected} if many else shown[0])
    else:
        _show(output, [m[0] for m in made], targets)
    for who, why in rejected:
        output.note(f"left out: {who}: {why}")


def read(path: Path, vintage: str | None, seed: int) -> tuple[list[Drug], Vintage, list[tuple[str, str]]]:
    """Compounds, the vintage that judges them, and those that cannot be used with the reason. Raises DataError where none can."""
    from gemello.base.random import check_seed  # noqa: PLC0415
    from gemello.domains.heart.drugs import compound  # noqa: PLC0415
    from gemello.domains.heart.drugs.drug import HERG  # noqa: PLC0415
    from gemello.domains.heart.drugs.vintage import empty  # noqa: PLC0415

    check_seed(seed)
    named = None if vintage is None else empty(vintage)
    reading = compound.read(path, seed=seed, strict=path.suffix.lower() != ".csv")
    own = sorted({d.vintage or "lab2020" for d in reading.drugs})
    if named is None and len(own) > 1:
        raise DataError(
            f"compounds of {' and '.join(own)}, each with thresholds of its own", source=path.name, column="vintage",
            remedy="give a file for each, or say --vintage, which leaves out those of others",
        )  # fmt: skip
    of = named or empty(own[0])
    if of.thresholds is None:
        raise DataError("has no thresholds", source=f"vintage {of.name}", remedy="use lab2020 or validation2018")
    drugs, rejected, faults = [], list(reading.rejected), []
    for d in reading.drugs:
        try:
            if HERG in d.unmeasured:
                raise DataError(
                    "nothing given on hERG, which decides the class", source=f"drug {d.name}", column="herg",
                    remedy="give herg:, or IKr: none under channels where it was measured and no block seen",
                )  # fmt: skip
            drugs.append(of.adopt(d))
        except GemelloError as e:
            faults.append(e)
            rejected.append((d.name, str(e)))
    if not drugs:
        raise faults[0]
    return drugs, of, rejected


def assessed(
    drugs: Sequence[Drug], vintage: Vintage, samples: int, seed: int, say: Callable[[str], None]
) -> list[tuple[Risk, Traces, Provenance]]:
    """`attempted`, where all must succeed. Raises SolverError."""
    out = []
    for made in attempted(drugs, vintage, samples, seed, say):
        if isinstance(made, SolverError):
            raise made
        out.append(made)
    return out


def attempted(
    drugs: Sequence[Drug], vintage: Vintage, samples: int, seed: int, say: Callable[[str], None]
) -> list[tuple[Risk, Traces, Provenance] | SolverError]:
    """Verdict, action potentials and provenance of each drug; the error where the equations of one could not be solved."""
    from gemello.base.provenance import Provenance  # noqa: PLC0415
    from gemello.domains.heart.risk import score  # noqa: PLC0415
    from gemello.domains.heart.risk.assess import assess  # noqa: PLC0415
    from gemello.domains.heart.risk.traces import traces  # noqa: PLC0415

    cell = score.cipa_cell()
    found = score.run(drugs, samples=samples, seed=seed, model=cell, progress=say)
    say("Action potentials")
    courses = traces(drugs, model=cell)
    out: list[tuple[Risk, Traces, Provenance] | SolverError] = []
    for s, t in zip(found, courses, strict=True):
        stamp = Provenance.collect(cell, data=_numbers(s.drug), seed=seed)
        try:
            out.append((assess(s, vintage), t, stamp))
        except SolverError as e:  # of many compounds, the others go on
            out.append(e)
    return out


def _numbers(drug: Drug) -> dict[str, Any]:
    """All numbers of a compound by name, for its hash."""
    out: dict[str, Any] = {"cmax": drug.cmax}
    for kind, part in (("point", drug.point), ("samples", drug.samples)):
        if part is not None:
            out |= {f"{kind} {c} {n}": v for c, b in part.block.items() for n, v in b._asdict().items()}
            out |= {f"{kind} herg {n}": v for n, v in (part.binding._asdict() if part.binding else {}).items()}
    return out


# ---- what is shown -------------------------------------------------------------------------------------------------
def _targets(output: Any, drugs: Sequence[Drug], source: Path, out: Path | None, json: bool) -> list[Path | None]:
    """Where each report goes; None where none is wanted."""
    if out is None and json:
        return [None] * len(drugs)
    if source.suffix.lower() != ".csv":
        return list(output.check_targets([out or Path(f"{_slug(drugs[0].name)}-risk.html")], sources=[source]))
    folder = Path() if out is None else out
    if not os.path.isdir(folder):  # Path raises for a name that no disk can hold
        raise DataError(
            "no such folder", source=str(folder), column="--out", remedy="of many compounds, name a folder that exists"
        )
    names = [_slug(d.name) for d in drugs]
    unique: list[str] = []
    for i, n in enumerate(names):
        wanted = n if names.count(n) == 1 else f"{n}-{i + 1}"
        while wanted in unique or (wanted != n and wanted in names):
            wanted += "-x"
        unique.append(wanted)
    return list(output.check_targets([folder / f"{n}-risk.html" for n in unique], sources=[source]))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "compound"


def _write(
    output: Any, target: Path, found: Risk, drug: Drug, vintage: Vintage, traces: Traces, stamp: Provenance, source: str
) -> None:
    from gemello.domains.heart.risk import report  # noqa: PLC0415
    from gemello.domains.heart.risk.reference import reference  # noqa: PLC0415

    report.write(found, drug, vintage, traces, stamp, path=target, reference=reference(vintage.name), source=source)


def _beside(traces: Traces, stamp: Provenance) -> dict[str, Any]:
    """What JSON has beside the verdict: the control, the action potentials, provenance."""
    return {
        "control": {"qNet_C_per_F": traces.qnet, "APD90_ms": float(traces.apd90[0])},
        "action_potentials": {
            "time_ms": traces.time[::GRID],
            "voltage_mV": [[round(float(v), 2) for v in row[::GRID]] for row in traces.voltage],
            "order": "control, then the doses",
        },
        "provenance": stamp.to_dict(),
    }


def _show(output: Any, found: Sequence[Risk], targets: Sequence[Path | None]) -> None:
    """Verdicts as tables."""
    from gemello.domains.heart.risk import report  # noqa: PLC0415

    if len(found) == 1:
        r = found[0]
        print(f"{r.name}: {report.choice(r)}")
        print("\n".join(report.verdict(r)) + "\n")
        rows = [(d.multiple, d.concentration, d.qnet, d.apd90, "yes" if d.ead else "no", "no" if d.unrepolarised else "yes")
                for d in r.doses]  # fmt: skip
        output.table(("x Cmax", "nM", "qNet C/F", "APD90 ms", "EAD", "repolarised"), rows)
    else:
        output.table(HEADS, [_row(r) for r in found])
    for r in found:
        for w in r.warnings:
            output.note(w if len(found) == 1 else f"{r.name}: {w}")
    for t in targets:
        if t is not None:
            print(f"Report: {t}")


def _row(r: Risk) -> tuple[Any, ...]:
    from gemello.domains.heart.risk.assess import CLASSES  # noqa: PLC0415

    p = [n.value for n in r.probabilities] if r.probabilities is not None else [None] * 3
    ends = [None if n is None else n.value for n in (r.low, r.high)]
    middle = r.score if r.median is None else r.median.value
    settled = {True: "yes", False: "no", None: ""}[r.settled]
    return (r.name, CLASSES[r.risk], *p, middle, *ends, settled, len(r.warnings))
