"""`gemello progression …`: train a generator on history, lock it, and forecast persons with it.

The command line hands its output (progress, tables, files) in as `context.obj`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(name="progression", help="Disease-progression twins.", no_args_is_help=True, add_completion=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("train")
def train(
    context: typer.Context,
    history: Annotated[Path, typer.Argument(metavar="HISTORY.yaml", help="What the historical data are.")],
    target: Annotated[
        Path, typer.Option("-o", "--output", metavar="GENERATOR.json", help="Where to write the locked generator.")
    ],
    kind: Annotated[str, typer.Option(help="auto (chosen by held-out score), mixed, latent_time or neural.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of training and folds.")] = 1,
    json: Json = False,
) -> None:
    """Learn how persons go on, choose the generator by held-out score, and lock it in a file with its hash."""
    output = context.obj
    target = output.check_target(target, sources=[history])
    with output.progress("Reading the history") as say:
        from gemello.domains.progression import description, lock, select  # noqa: PLC0415

        learnt = description.read(history).read()
        say(f"Training on {len(learnt)} persons (minutes where a neural generator is tried)")
        found = select.train(learnt, seed=seed, tried=None if kind == "auto" else (kind,))
        scores = found.report.as_dict() if found.report else {}
        digest = lock.write(found.generator, target, history=learnt, seed=seed, scores=scores, notes=found.reason)
    said = {"file": str(target), "sha256": digest, "kind": found.kind, "reason": found.reason, "persons": len(learnt),
            "left_out": dict(found.left_out), "scores": scores}  # fmt: skip
    if json:
        output.to_json(said)
        return
    output.table(
        ("variable", "forecasts", "RMSE", "CRPS", "90 % coverage"), _rows(scores), title=f"Held-out scores of {found.kind}"
    )
    print(f"{found.reason}\n{target}: sha256 {digest}")


def _rows(scores: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(n, s["n"], s["rmse"], s["crps"], s["coverage"]) for n, s in scores.get("variables", {}).items()]


@app.command("forecast")
def forecast(
    context: typer.Context,
    generator: Annotated[Path, typer.Argument(metavar="GENERATOR.json", help="A locked generator.")],
    persons: Annotated[Path, typer.Argument(metavar="PERSONS.yaml", help="The persons, described as a history is.")],
    at: Annotated[list[float], typer.Option("--at", help="Time of the forecast; may be repeated.")],
    known: Annotated[float, typer.Option(help="What was known until this time is seen.")] = 0.0,
    draws: Annotated[int, typer.Option(min=10, max=100_000, help="Draws of each person's future.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 1,
    target: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.csv", help="Where to write the forecasts.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse another generator than this one.")] = None,
    outside: Annotated[bool, typer.Option(help="Forecast persons outside of what was learned from, too.")] = False,
    json: Json = False,
) -> None:
    """Forecast each person: mean, median and 90 % interval of what would be measured, on control."""
    output = context.obj
    out = output.check_target(target, sources=[generator, persons]) if target is not None else None
    from gemello.base.errors import DataError, RefusalError  # noqa: PLC0415

    bad = next((t for t in at if not (math.isfinite(t) and t > known)), None)
    if not math.isfinite(known) or bad is not None:
        value = known if bad is None else bad
        raise DataError("not a time after what is known", column="--at", value=value, remedy="give a time later than --known")
    with output.progress("Reading the generator") as say:
        import numpy as np  # noqa: PLC0415
        import polars as pl  # noqa: PLC0415

        from gemello.domains.progression import description, lock  # noqa: PLC0415

        locked = lock.read(generator, sha256)
        seen = description.read(persons).read(like=locked.generator.variables).until(known)
        strange = locked.generator.check(seen)
        if strange and not outside:
            seen = seen.take(np.array([p not in strange for p in seen.persons]))
        for person, why in list(strange.items())[:20]:
            output.note(f"person {person}: {why}{'' if outside else '; left out (--outside forecasts all)'}")
        if not len(seen):
            raise RefusalError("every person is outside of what was learned from; none is forecast")
        say(f"Forecasting {len(seen)} persons")
        times = np.array(sorted(at))
        rows = []
        for i, p in enumerate(seen.persons):  # one by one: a person's forecast does not depend on who else is forecast
            futures = locked.generator.sample(seen.take(np.array([i])), times, draws=draws, seed=seed)
            for name, values in futures.values.items():
                mean, (low, middle, high) = values[:, 0].mean(axis=0), np.quantile(values[:, 0], (0.05, 0.5, 0.95), axis=0)
                rows += [(p, name, float(t), *(float(v[k]) for v in (mean, middle, low, high))) for k, t in enumerate(times)]
    names = ("person", "variable", "time", "mean", "median", "low90", "high90")
    if out is not None:
        table = pl.DataFrame(rows, schema=names, orient="row")
        output.write_whole(out, table.write_csv)
    if json:
        output.to_json([dict(zip(names, r, strict=True)) for r in rows])
    elif out is None:
        output.table(names, rows, title=f"Forecasts by {locked.kind}, sha256 {locked.hash[:12]}…")
