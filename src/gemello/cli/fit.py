"""`gemello fit`: population parameters from a data set."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import curve, output
from gemello.cli.options import numbers_and_names
from gemello.cli.simulate import Column, Data, Json, ModelName, Observed, UnitsOption, read

if TYPE_CHECKING:
    from gemello.inference.result import Fit
    from gemello.model.contract import Model
    from gemello.model.schedule import Subject


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("fit")(fit)


def fit(
    model_name: ModelName,
    data: Data,
    method: Annotated[str, typer.Option(help="fo, foce, focei, laplace, saem, imp or bayes.")] = "focei",
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A start value, a fixed parameter's value, or the column that holds it."
        ),
    ] = [],  # noqa: B006  (typer copies it)
    estimate: Annotated[str | None, typer.Option(help="Names to estimate, by commas; the table's choice by default.")] = None,
    omega: Annotated[
        str | None, typer.Option(help="diagonal, full, or blocks such as CL+V,KA; the table's choice by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of saem, imp and bayes.")] = 0,
    solver: Annotated[
        str | None,
        typer.Option(help="Of equations without closed form: auto, tsit5 (not stiff, compiles sooner) or rodas5p."),
    ] = None,
    setting: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=NUMBER",
            help="Of saem: burn_in, smooth, chains; of imp: draws, max_iterations; of bayes: warmup, draws, chains.",
        ),
    ] = [],  # noqa: B006
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FIT.json", help="Where to write the fit as JSON.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FIT.html", help="Where to write a report.")] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="TABLE.csv", help="Where to write predictions and residuals of every observation.")
    ] = None,
    json: Json = False,
) -> None:
    """Estimate population parameters, with standard errors, from the data of many subjects.

    A subject whose data cannot be used is left out, by name. Exit status 1 if the fit does not converge.
    """
    targets = output.check_targets((out, report, table), sources=[data])
    start, bind = numbers_and_names(set_)
    settings = _settings(method, setting)
    with curve.fitting("Reading", method) as (say, told):
        from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

        use_cpu_devices()
        from gemello.inference import population  # noqa: PLC0415
        from gemello.model import registry  # noqa: PLC0415

        model = registry.get(model_name)
        dataset = read(model, data, column, units, bind, observed, quarantine=True)
        if not len(dataset):
            raise DataError("no subject's data can be used", source=str(data), remedy="mend what is named above")
        say(f"Fitting {model.name} to {len(dataset)} subjects by {method.upper()}")
        found = population.fit(
            model, dataset.subjects, method, start=start, bind=bind, estimate=_names(estimate), omega=_blocks(omega),
            seed=seed, settings=settings, solver=solver, excluded=dataset.excluded, notes=dataset.notes, report=told,
        )  # fmt: skip
    _write(found, targets, model, dataset.subjects, bind)
    if json:
        output.to_json(found.to_dict())
    else:
        _show(found)
    found.check()


def _write(found: Fit, targets: list[Path | None], model: Model, subjects: Sequence[Subject], bind: dict[str, str]) -> None:
    import json  # noqa: PLC0415

    if targets[0] is not None:
        text = json.dumps(found.to_dict() | {"bound": bind}, indent=1, allow_nan=False)
        output.write_whole(targets[0], lambda p: p.write_text(text, encoding="utf-8"))
    if targets[1] is not None:
        from gemello.report import fit_report  # noqa: PLC0415

        output.write_whole(
            targets[1], lambda p: fit_report(found, model, [s for s in subjects if s.id in found.ids], path=p, bind=bind)
        )
    if targets[2] is not None:
        from gemello.inference.residuals import goodness  # noqa: PLC0415

        frame = goodness(model, found, [s for s in subjects if s.id in found.ids], bind=bind).frame()
        output.write_whole(targets[2], lambda p: frame.write_csv(p, null_value="."))


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [n.strip() for n in text.split(",") if n.strip()]
    if not names:
        raise DataError("names nothing", column="--estimate", value=text, remedy="give names by commas, such as CL,V")
    return names


SETTINGS = {"saem": ("burn_in", "smooth", "chains"), "imp": ("draws", "max_iterations"), "bayes": ("warmup", "draws", "chains")}


MOST = 1_000_000


def _settings(method: str, given: list[str]) -> dict[str, int]:
    values, _ = numbers_and_names(given, "--setting")
    known = SETTINGS.get(method, ())
    for text in given:
        name = text.partition("=")[0]
        if name not in known or not 1 <= values.get(name, 0) <= MOST or values[name] != int(values[name]):
            allowed = (
                f"a whole number up to {MOST:,} for one of {', '.join(known)}" if known else "none: this method has no settings"
            )
            raise DataError(f"no setting of {method}", column="--setting", value=text, remedy=f"give {allowed}")
    return {k: int(v) for k, v in values.items()}


def _blocks(text: str | None) -> Any:
    if text is None or text in ("diagonal", "full"):
        return text
    return [[n.strip() for n in block.split("+")] for block in text.split(",")]


def _show(found: Fit) -> None:
    if found.posterior is not None:
        ends, p = found.posterior.quantiles(), found.posterior
        rows = [(n, found.estimates[n], found.se[n], *ends[n], p.rhat[n], p.ess_bulk[n]) for n in found.names]
        output.table(("parameter", "mean", "SD", "5 %", "median", "95 %", "R-hat", "bulk ESS"), rows)
        print("\npriors: " + "; ".join(p.priors))
    else:
        rows = []
        for name in found.names:
            value, se = found.estimates[name], found.se[name]
            rows.append((name, value, se, 100 * se / abs(value) if value else float("nan")))
        output.table(("parameter", "estimate", "standard error", "RSE %"), rows)
        by = {"saem": "importance sampling", "imp": "importance sampling"}.get(found.method, found.method.upper())
        error = f" ± {found.objective_error:.2f}" if found.objective_error else ""
        print(f"\nobjective {found.objective:.4f}{error} ({by}, without constants)")
    beside = f" and {found.censored} beyond a limit" if found.censored else ""
    print(f"{len(found.ids)} subjects, {found.observations} observations{beside}, {found.iterations} iterations; {found.message}")
    shrunk = ", ".join(f"{k} {100 * v:.0f} %" for k, v in found.shrinkage.items() if math.isfinite(v))
    if shrunk:
        print(f"shrinkage of etas: {shrunk}")
    for who, why in found.excluded:
        print(f"left out: subject {who}: {why}", file=sys.stderr)
