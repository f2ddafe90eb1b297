"""`gemello simulate`: predictions of a model at every record of a data set."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import output
from gemello.cli.options import numbers_and_names, pairs

if TYPE_CHECKING:
    from gemello.formats.nonmem import Dataset
    from gemello.model.contract import Model

# Options that every command with a data set has.
ModelName = Annotated[
    str, typer.Argument(help="A model (see gemello models), or a FILE.toml or path/file.py:name of your own.", metavar="MODEL")
]
Data = Annotated[Path, typer.Argument(help="A NONMEM data set, CSV.", metavar="DATA.csv")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="A parameter's value, or the data column that holds it.")
]
UnitsOption = Annotated[
    list[str], typer.Option("--units", metavar="COL=UNIT", help="Unit of a column, such as DV=ng/mL; then for all.")
]
Column = Annotated[list[str], typer.Option("--column", metavar="ROLE=COL", help="The file's name for a column, such as DV=conc.")]
Observed = Annotated[
    list[str], typer.Option("--observed", metavar="CMT=OUTPUT", help="What observations of a compartment measured.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("simulate")(simulate)


def read(
    model: Model,
    data: Path,
    columns: list[str],
    units: list[str],
    bind: dict[str, str],
    observed: list[str],
    *,
    quarantine: bool = False,
) -> Dataset:
    """The data set, from what the command line says about it; its notes go to standard error."""
    from gemello.formats import nonmem  # noqa: PLC0415

    said = pairs(observed, "--observed", "2=cp")
    wrong = [k for k in said if not k.isdecimal()]
    if wrong:
        raise DataError(
            "is not the number of a compartment", column="--observed", value=wrong[0], remedy="write it like --observed 2=cp"
        )
    out = nonmem.read(
        data, model, columns=pairs(columns, "--column", "DV=conc"), units=pairs(units, "--units", "DV=ng/mL") or None, bind=bind,
        observed={int(k): v for k, v in said.items()}, quarantine=quarantine,
    )  # fmt: skip
    for text in (*out.notes, *(f"left out {reason}" for _, reason in out.excluded)):
        output.note(text)
    return out


def simulate(
    model_name: ModelName,
    data: Data,
    set_: Set = [],  # noqa: B006  (typer copies it)
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    method: Annotated[
        str | None, typer.Option(help="closed, expm, tsit5, rodas5p, rush_larsen, auto or discrete; the model's own by default.")
    ] = None,
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance of the adaptive methods.")] = None,
    population: Annotated[bool, typer.Option("--population", help="Draw individuals and residual errors (column DV).")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of --population.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.csv", help="Where to write; standard output by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Predict every output of a model at every record of a NONMEM data set.

    Writes ID, TIME and EVID and one column per output, in the order of the data set, in the model's units.
    """
    begun = time.perf_counter()
    to_file = out is not None and str(out) != "-"
    target = output.check_target(out, sources=[data]) if out is not None and to_file else None
    if rtol is not None and not 1e-14 <= rtol <= 0.1:
        raise DataError("is not a relative tolerance", column="--rtol", value=rtol, remedy="give one from 1e-14 to 0.1")
    values, bind = numbers_and_names(set_)
    with output.progress("Reading") as say:
        from gemello.model import registry  # noqa: PLC0415

        model = registry.get(model_name)
        dataset = read(model, data, column, units, bind, observed)
        say(f"Simulating {len(dataset)} subjects")
        done = _run(model, dataset, values, seed, population, bind=bind, method=method, rtol=rtol)
    if target is not None:
        from gemello.formats import nonmem  # noqa: PLC0415

        output.write_whole(target, lambda path: nonmem.write(path, dataset.subjects, done.columns))
    _report(done, time.perf_counter() - begun, target, json)


@dataclass(frozen=True)
class _Done:
    """A simulation and what it was asked."""

    model: Model
    dataset: Dataset
    values: dict[str, float]
    columns: dict[str, Any]  # outputs, and DV where drawn, (subjects, records)
    seed: int | None

    @property
    def units(self) -> dict[str, str]:
        """Units of the outputs."""
        return {o.name: o.unit for o in self.model.outputs}


def _run(model: Model, dataset: Dataset, values: dict[str, float], seed: int | None, population: bool, **how: Any) -> _Done:
    from gemello.cli import draws  # noqa: PLC0415
    from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415
    from gemello.model.simulate import simulate as solve  # noqa: PLC0415

    use_cpu_devices()
    if not population:
        if seed is not None:
            output.note("nothing is drawn without --population, so the seed is not used")
        found = solve(model, dataset.subjects, values, **how).check()
        return _Done(model, dataset, values, found.outputs, None)
    seed = draws.seed_of(seed)
    found = solve(model, dataset.subjects, values, etas=draws.draw_etas(model, dataset.subjects, seed), **how).check()
    drawn = draws.draw_measurements(model, dataset.subjects, found.outputs, values, seed)
    return _Done(model, dataset, values, {**found.outputs, "DV": drawn}, seed)


def _summary(done: _Done, seconds: float, target: Path | None) -> dict[str, Any]:
    from gemello.base.provenance import Provenance  # noqa: PLC0415

    model, dataset = done.model, done.dataset
    table = model.parameters.with_values(done.values)
    return {
        "model": model.name,
        "subjects": len(dataset),
        "records": dataset.records,
        "seconds": round(seconds, 3),
        "seed": done.seed,
        "units": {"TIME": model.time_unit, **done.units},
        "columns": dict(dataset.columns),
        "notes": list(dataset.notes),
        "output": str(target) if target else None,
        "provenance": Provenance.collect(model, parameters=table, data=dataset.hash, seed=done.seed).to_dict(),
    }


def _report(done: _Done, seconds: float, target: Path | None, json: bool) -> None:
    from gemello.formats import nonmem  # noqa: PLC0415

    subjects = done.dataset.subjects
    if json:
        said = _summary(done, seconds, target)
        if target is None:
            said["table"] = nonmem.frame(subjects, done.columns).to_dict(as_series=False)
        output.to_json(said, compact=target is None)
        return
    if target is None:
        nonmem.write(sys.stdout, subjects, done.columns)
    shown = ", ".join(f"{n} in {u}" for n, u in done.units.items())
    drawn = f", seed {done.seed}" if done.seed is not None else ""
    size = f"{done.dataset.records} records of {len(subjects)} subjects"
    line = f"{size}, {shown}, time in {done.model.time_unit}{drawn}, {seconds:.1f} s"
    print(f"{line} -> {target}" if target else line, file=sys.stdout if target else sys.stderr)
