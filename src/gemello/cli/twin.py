"""`gemello assimilate`: twins of the subjects of a data set, and their forecasts. `gemello optimise` has a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import optimise as doses
from gemello.cli import output
from gemello.cli.patient import (
    Draws,
    Drift,
    FitFile,
    HalfLife,
    How,
    Models,
    ModelWeights,
    PriorWeight,
    Seed,
    Set,
    grid,
    horizon,
    subject_of,
    twins_of,
)
from gemello.cli.simulate import Column, Data, Json, ModelName, Observed, UnitsOption

if TYPE_CHECKING:
    from gemello.twin.mixture import Mixture
    from gemello.twin.twin import Twin

Report = Annotated[Path | None, typer.Option(metavar="TWIN.html", help="Where to write a report (one subject).")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file and of `optimise`."""
    app.command("assimilate")(assimilate)
    doses.add_to(app)


def assimilate(
    model_name: ModelName,
    data: Data,
    who: Annotated[str | None, typer.Option("--id", help="One subject only.")] = None,
    set_: Set = [],  # noqa: B006  (typer copies it)
    fit: FitFile = None,
    times: Annotated[
        str | None, typer.Option(metavar="FROM:TO:STEP", help="Times to forecast; 24 h beyond the record by default.")
    ] = None,
    prior_weight: PriorWeight = 1.0,
    half_life: HalfLife = None,
    drift: Drift = None,
    models: Models = None,
    model_weights: ModelWeights = None,
    draws: Draws = 2000,
    seed: Seed = 0,
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FORECAST.csv", help="Where to write the forecast quantiles.")
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Build each subject's twin from its measurements; show its parameters with intervals, and forecast.

    The forecast goes on with the doses that the data set holds, future ones included.
    """
    targets = output.check_targets((out, report), sources=[data])
    at = None if times is None else grid(times)
    how = How(set_, fit, units, column, observed, draws, seed, prior_weight, half_life, drift)
    with output.progress("Reading") as say:
        if models is not None:
            _, subject = subject_of(say, model_name, data, who, how, models, model_weights)
            _averaged(subject, at, targets, json, seed)  # type: ignore[arg-type]
            return
        if model_weights is not None:
            raise DataError("weights of one model", column="--model-weights", value=model_weights, remedy="give --models, too")
        _, twins = twins_of(say, model_name, data, who, how)
        if targets[1] is not None and len(twins) > 1:
            raise DataError("a report is about one subject", column="--report", remedy="choose it with --id")
        forecasts = []
        if targets[0] is not None or targets[1] is not None or times is not None or json:
            say("Forecasting")
            from gemello.twin.forecast import forecast_many  # noqa: PLC0415

            forecasts = [forecast_many([t], [None], times=horizon(t, at), seed=seed)[0] for t in twins]
    if targets[0] is not None:
        _write(targets[0], forecasts)
    if targets[1] is not None:
        from gemello.report import twin_report  # noqa: PLC0415

        output.write_whole(targets[1], lambda p: twin_report(twins[0], forecasts[0], None, path=p))
    if json:
        output.to_json([_twin_dict(t, f) for t, f in zip(twins, forecasts, strict=True)])
        return
    for t in twins:
        _show(t)


def _write(target: Path, forecasts: list[Any]) -> None:
    import polars as pl  # noqa: PLC0415

    output.write_whole(target, lambda p: pl.concat([f.frame() for f in forecasts]).write_csv(p))


def _averaged(mixture: Mixture, at: list[float] | None, targets: list[Path | None], json: bool, seed: int) -> None:
    """What several models say together of one subject."""
    if targets[1] is not None:
        raise DataError("a report of several models", column="--report", remedy="gemello optimise writes one")
    f = None
    if targets[0] is not None or at is not None or json:
        f = mixture.forecast(times=horizon(mixture.twins[0], at), seed=seed)
    if targets[0] is not None and f is not None:
        _write(targets[0], [f.mixture])
    shares = dict(zip(mixture.names, mixture.probabilities, strict=True))
    if json and f is not None:
        between = {n: f.between(n) for n in f.mixture.outputs}
        parts = [_twin_dict(t, None) for t in mixture.twins]
        whole = {
            "id": mixture.id,
            "probabilities": shares,
            "twins": parts,
            "forecast": _forecast_dict(f.mixture),
            "between": between,
        }
        output.to_json(whole)
        return
    print(f"\nsubject {mixture.id}: probability of each model, given the levels")
    rows = [
        (n, p, w, t.posterior.log_evidence) for (n, p), w, t in zip(shares.items(), mixture.prior, mixture.twins, strict=True)
    ]
    output.table(("model", "probability", "before the levels", "ln evidence"), rows)
    for t in mixture.twins:
        _show(t)


def _show(t: Twin) -> None:
    b = t.posterior
    print(f"\nsubject {t.id}: {b.observations} values, {b.ess:.0f} effective draws, ln evidence {b.log_evidence:.3f}")
    frame = b.table()
    output.table(frame.columns, frame.rows())
    outside = [f"{words}, the population that {t.model.name} was built on" for words in t.outside()]
    for words in (*b.assumed, *b.cautions, *outside, *([b.doubt] if b.doubt else [])):
        output.note(f"subject {t.id}: {words}")


def _twin_dict(twin: Twin, forecast: Any) -> dict[str, Any]:
    b = twin.posterior
    frame = b.table(every=True)
    return {
        "id": twin.id,
        "model": twin.model.name,
        "observations": b.observations,
        "etas": dict(zip(b.names, b.mode, strict=True)),
        "map": b.individual_mode,
        "parameters": frame.to_dicts(),
        "effective_draws": b.ess,
        "khat": b.khat,
        "log_evidence": b.log_evidence,
        "doubt": b.doubt,
        "assumed": list(b.assumed),
        "cautions": list(b.cautions),
        "outside": list(twin.outside()),
        "forecast": None if forecast is None else _forecast_dict(forecast),
        "provenance": b.provenance.to_dict(),
    }


def _forecast_dict(f: Any) -> dict[str, Any]:
    out = {}
    for name, o in f.outputs.items():
        kinds = {"prediction": o.prediction, "measurement": o.measurement}
        out[name] = {"unit": o.unit, **{k: None if b is None else b.quantiles for k, b in kinds.items()}}
    return {"time": f.time, "time_unit": f.time_unit, "levels": f.levels, "outputs": out, "notes": list(f.notes)}
