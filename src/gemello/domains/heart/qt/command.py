"""`gemello heart qt`: the concentration-QTc analysis of a file, and its report.

The command line hands its output (progress, tables, files) in as `context.obj`, for a domain knows nothing of the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import ConvergenceError, DataError, SolverError

if TYPE_CHECKING:
    from gemello.domains.heart.qt.coverage import HeldOut
    from gemello.domains.heart.qt.e14 import Analysis


def qt(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Concentrations and QTcF by subject, treatment and time.")],
    at: Annotated[
        list[float], typer.Option("--at", metavar="CONC", help="Predict ΔΔQTcF at this concentration, too; may be repeated.")
    ] = [],  # noqa: B006  (typer copies it)
    column: Annotated[
        list[str], typer.Option(metavar="ROLE=NAME", help="Which column plays a role, such as CONC=PLASMA; may be repeated.")
    ] = [],  # noqa: B006
    unit: Annotated[str | None, typer.Option(help="Unit of the concentrations, such as ng/mL.")] = None,
    treatment: Annotated[str | None, typer.Option(help="The active treatment, where the file has several.")] = None,
    known: Annotated[float, typer.Option(help="Hours of the drug day that a twin sees before it forecasts.")] = 2.0,
    twins: Annotated[bool, typer.Option(help="Follow a twin of every subject in the report (a minute).")] = True,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    report: Annotated[Path | None, typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write a report.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Concentration-QTc analysis of ICH E14: is an effect of 10 ms excluded?

    The linear mixed-effects model of the white paper, mean ΔΔQTcF by time, and checks of the assumptions.
    """
    output = context.obj
    target = output.check_target(report, sources=[data]) if report is not None else None
    if not 0 <= known < math.inf:
        raise DataError("is no number of hours", column="--known", value=known, remedy="give 0 or more")
    with output.progress("Reading") as say:
        from gemello.domains.heart.qt import e14, records  # noqa: PLC0415

        study = records.read(data, columns=_columns(column), unit=unit, treatment=treatment)
        say("Fitting the linear mixed-effects model")
        found = e14.analyse(study, at, seed=seed)
        if target is not None:
            held, words, problem = _follow(found, known, seed, say) if twins else (None, "", "")
            _write(found, held, words, known, target, output)
    if json:
        output.to_json(found.to_dict())
    else:
        _show(found, output)
    if target is not None:
        if problem:
            output.note(problem)
        output.note(f"report: {target}")


def _columns(given: Sequence[str]) -> dict[str, str]:
    out = {}
    for text in given:
        role, sign, name = (part.strip() for part in text.partition("="))
        if not (role and sign and name):
            raise DataError(
                "is not of the form ROLE=NAME", column="--column", value=text, remedy="write it like --column CONC=PLASMA"
            )
        out[role] = name
    return out


def _follow(found: Analysis, known: float, seed: int, say: Callable[[str], None]) -> tuple[HeldOut | None, str, str]:
    """Forecasts of every subject, the model in words, and what went wrong instead."""
    from gemello.domains.heart.qt.coverage import follow  # noqa: PLC0415
    from gemello.domains.heart.qt.twins import model_for  # noqa: PLC0415
    from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

    use_cpu_devices()
    model, why = model_for(found)
    try:
        return follow(model, found.study, known, seed=seed, progress=say), f"{model.name}, {why}", ""
    except (ConvergenceError, SolverError, DataError) as e:
        return None, "", f"no twins in the report: {e}"


def _write(found: Analysis, held: HeldOut | None, words: str, known: float, target: Path, output: Any) -> None:
    from gemello.domains.heart.qt.report import qt_report  # noqa: PLC0415

    output.write_whole(target, lambda p: qt_report(found, path=p, twins=held, twin_model=words, known=known))


def _show(a: Analysis, output: Any) -> None:
    from gemello.domains.heart.qt.report import verdict  # noqa: PLC0415

    unit = a.study.unit
    rows = [(p.label, p.concentration, p.contrast.value, p.contrast.low, p.contrast.high) for p in a.predictions]
    output.table(("exposure", f"concentration {unit}", "ΔΔQTcF ms", "90 % lower", "90 % upper"), rows)
    print()
    times = [(t.dose, t.time, t.concentration, t.mean, t.low, t.high, t.drug, t.placebo) for t in a.by_time]
    heads = (
        "dose",
        "time h",
        f"mean concentration {unit}",
        "mean ΔΔQTcF ms",
        "90 % lower",
        "90 % upper",
        "on drug",
        "on placebo",
    )
    output.table(heads, times)
    s = a.slope
    ends = f"90 % interval {s.low:.5g} to {s.high:.5g}"
    print(f"\nslope {s.value:.5g} ms per {unit} ({ends}); treatment effect at 0: {a.intercept.value:.2f} ms")
    print(f"largest mean ΔΔQTcF {a.peak.mean:.1f} ms ({a.peak.low:.1f} to {a.peak.high:.1f}) at {a.peak.time:g} h")
    print(verdict(a))
    for n in a.notes:
        output.note(n)
