"""`gemello trial …`: trials analysed by their protocol.

The command line hands its output (progress, tables, files) in as `context.obj`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="trial", help="Randomised trials, analysed with digital twins.", no_args_is_help=True, add_completion=False
)


@app.callback()
def trial() -> None:
    """Randomised trials, analysed with digital twins."""


@app.command("analyse")
def analyse(
    context: typer.Context,
    protocol: Annotated[Path, typer.Argument(metavar="PROTOCOL.yaml", help="The analysis part of the protocol.")],
    report: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write the dossier.")
    ] = None,
    adam: Annotated[
        Path | None,
        typer.Option("--adam", metavar="FOLDER", help="Write analysis data and results as ADaM (XPT)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Analyse a trial as its protocol says: unadjusted, covariate-adjusted and score-adjusted side by side.

    Tells which method ran, the effective sample size gained, sensitivity analyses, and what an external control arm would have
    said, where the protocol asks. A prognostic score that fails the drift or calibration gate is refused, with the reason.
    """
    output = context.obj
    with output.progress("Reading the protocol") as say:
        from gemello.trial import dossier  # noqa: PLC0415
        from gemello.trial import protocol as protocols  # noqa: PLC0415
        from gemello.trial.analyse import analyse as run  # noqa: PLC0415

        plan = protocols.read(protocol)
        read = [plan.data, *([plan.score.generator] if plan.score and plan.score.generator else [])]
        read += [plan.external.file] if plan.external else []
        target = output.check_target(report, sources=[protocol, *read]) if report is not None else None
        say(f"Analysing {plan.title}")
        found = run(plan, progress=say)
        if target is not None:
            say("Writing the dossier")
            output.write_whole(target, lambda p: dossier.write(found, path=p))
    if adam is not None:
        from gemello.trial.adam import write as write_adam  # noqa: PLC0415

        for path in write_adam(found, adam):
            output.note(f"written: {path}")
    if json:
        output.to_json(found.as_dict())
        return
    columns, rows = dossier.printed(found)
    output.table(columns, rows, title=plan.title)
    for line in found.words:
        print(line)
    for line in found.warnings:
        output.note(line)
    if target is not None:
        print(f"Dossier: {target.resolve()}")
