"""`gemello assimilate` and `gemello optimise`: twins of the subjects of a data set, their forecasts and doses."""

from __future__ import annotations

import json as json_format
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import output
from gemello.cli.options import numbers_and_names
from gemello.cli.simulate import Column, Data, Json, ModelName, Observed, UnitsOption, read

if TYPE_CHECKING:
    from gemello.model.contract import Model
    from gemello.model.population import PopulationParameters
    from gemello.twin.decide import Decision
    from gemello.twin.goals import Target
    from gemello.twin.twin import Twin

Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A population parameter's value.")]
FitFile = Annotated[Path | None, typer.Option("--fit", metavar="FIT.json", help="Population from gemello fit -o FIT.json.")]
Draws = Annotated[int, typer.Option(min=100, max=100_000, help="Draws of the posterior.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
Report = Annotated[Path | None, typer.Option(metavar="TWIN.html", help="Where to write a report (one subject).")]
Who = Annotated[str | None, typer.Option("--id", help="The subject; needed where the file has several.")]
STATISTICS = {"auc24": "increment", "trough": "trough", "peak": "max", "mean": "mean"}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("assimilate")(assimilate)
    app.command("optimise")(optimise)


def assimilate(
    model_name: ModelName,
    data: Data,
    who: Annotated[str | None, typer.Option("--id", help="One subject only.")] = None,
    set_: Set = [],  # noqa: B006  (typer copies it)
    fit: FitFile = None,
    times: Annotated[
        str | None, typer.Option(metavar="FROM:TO:STEP", help="Times to forecast; 24 h beyond the record by default.")
    ] = None,
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
    targets = [output.check_target(p, sources=[data]) if p is not None else None for p in (out, report)]
    grid = None if times is None else _grid(times)
    with output.progress("Reading") as say:
        _, twins = _twins(say, model_name, data, who, set_, fit, units, column, observed, draws, seed)
        if targets[1] is not None and len(twins) > 1:
            raise DataError("a report is about one subject", column="--report", remedy="choose it with --id")
        forecasts = []
        if targets[0] is not None or targets[1] is not None or times is not None or json:
            say("Forecasting")
            from gemello.twin.forecast import forecast_many  # noqa: PLC0415

            forecasts = [forecast_many([t], [None], times=_horizon(t, grid), seed=seed)[0] for t in twins]
    if targets[0] is not None:
        import polars as pl  # noqa: PLC0415

        output.write_whole(targets[0], lambda p: pl.concat([f.frame() for f in forecasts]).write_csv(p))
    if targets[1] is not None:
        from gemello.report import twin_report  # noqa: PLC0415

        output.write_whole(targets[1], lambda p: twin_report(twins[0], forecasts[0], None, path=p))
    if json:
        output.to_json([_twin_dict(t, f) for t, f in zip(twins, forecasts, strict=True)])
        return
    for t in twins:
        b = t.posterior
        print(f"\nsubject {t.id}: {b.observations} values, {b.ess:.0f} effective draws, ln evidence {b.log_evidence:.3f}")
        frame = b.table()
        output.table(frame.columns, frame.rows())
        if b.doubt:
            output.note(f"subject {t.id}: {b.doubt}")


def optimise(
    model_name: ModelName,
    data: Data,
    goal: Annotated[
        list[str], typer.Option(metavar="WHAT:LOW-HIGH", help="auc24, trough, peak or mean with its range: auc24:400-600.")
    ],
    doses: Annotated[str, typer.Option(metavar="FROM:TO:STEP", help="Doses that can be given, or a list 500,750.")],
    intervals: Annotated[str, typer.Option(help="Dosing intervals that can be given, by commas.")],
    duration: Annotated[str, typer.Option(help="Infusion lengths, by commas; 0 for a bolus.")] = "0",
    port: Annotated[int, typer.Option(min=1, help="Compartment to dose (CMT).")] = 1,
    who: Who = None,
    set_: Set = [],  # noqa: B006  (typer copies it)
    fit: FitFile = None,
    start: Annotated[float | None, typer.Option(help="Time of the first new dose; the end of the record by default.")] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="FROM,TO",
            help="When the goal counts, after the first new dose; by default the second day (longer for long intervals).",
        ),
    ] = None,
    limit: Annotated[
        list[str], typer.Option(metavar="WHAT:LOW-HIGH:RISK", help="A constraint and the risk allowed: peak:0-40:0.05.")
    ] = [],  # noqa: B006
    name: Annotated[str | None, typer.Option("--output-name", help="The output of trough, peak and mean.")] = None,
    least_probability: Annotated[float, typer.Option(min=0, max=1, help="Refuse below this probability.")] = 0.5,
    override_domain: Annotated[
        bool, typer.Option("--override-domain", help="Go on for a subject outside the model's population; it is recorded.")
    ] = False,
    override_doubt: Annotated[
        bool, typer.Option("--override-doubt", help="Go on with measurements that contradict the population; it is recorded.")
    ] = False,
    draws: Draws = 2000,
    seed: Seed = 0,
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    report: Report = None,
    json: Json = False,
) -> None:
    """Choose a dose and interval for one subject: the candidate that most probably meets the goal, or a refusal.

    Exit status 2 for a refusal, whose reason is printed.
    """
    target = output.check_target(report, sources=[data]) if report is not None else None
    with output.progress("Reading") as say:
        model, twins = _twins(say, model_name, data, who, set_, fit, units, column, observed, draws, seed)
        if len(twins) > 1:
            raise DataError(
                "the file has several subjects", column="--id", remedy=f"choose one of {', '.join(t.id for t in twins[:8])}"
            )
        say("Weighing the candidates")
        from gemello.twin.goals import Constraint  # noqa: PLC0415
        from gemello.twin.regimens import Grid  # noqa: PLC0415

        twin = twins[0]
        begin = twin.record.last if start is None else start
        every = _list(intervals, "--intervals")
        span = _window(model, window, begin, every)
        goals = [_target(model, g, "--goal", span, name) for g in goal]
        limits = [
            Constraint(_target(model, c.rpartition(":")[0], "--limit", span, name), _number(c.rpartition(":")[2], "--limit"))
            for c in limit
        ]
        grid = Grid(_grid(doses, "--doses"), every, _list(duration, "--duration"), start=begin, port=port)
        decision = twin.optimise(
            goals, grid, constraints=limits, least_probability=least_probability, override_domain=override_domain,
            override_doubt=override_doubt,
        )  # fmt: skip
        if target is not None:
            from gemello.report import twin_report  # noqa: PLC0415

            say("Writing the report")
            plan = None if decision.chosen is None else decision.schedule
            ahead = twin.forecast(plan, times=_horizon(twin, None, until=span[1]), seed=seed)
            output.write_whole(target, lambda p: twin_report(twin, ahead, decision, path=p))
    if json:
        output.to_json(_decision_dict(decision))
    else:
        _show(decision)
    raise typer.Exit(0 if decision.chosen is not None else 2)


# ---- shared ------------------------------------------------------------------------------------------------------------
def _twins(
    say: Any, model_name: str, data: Path, who: str | None, set_: list[str], fit: Path | None, units: list[str],
    column: list[str], observed: list[str], draws: int, seed: int,
) -> tuple[Model, tuple[Twin, ...]]:  # fmt: skip
    """The model, and a twin for each subject (or the one asked for) that has assimilated its data."""
    from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

    use_cpu_devices()
    from gemello.model import registry  # noqa: PLC0415
    from gemello.twin.twin import assimilate_subjects  # noqa: PLC0415

    model = registry.get(model_name)
    values, bind = numbers_and_names(set_)
    if bind:
        raise DataError(
            "is not a number", column="--set", value=next(iter(bind.values())), remedy="a twin's population is numbers"
        )
    parameters = _population(model, values, fit)
    dataset = read(model, data, column, units, {}, observed)
    subjects = [s for s in dataset.subjects if who is None or s.id == who]
    if not subjects:
        raise DataError("no such subject", source=str(data), column="--id", value=who, remedy="give an ID of the file")
    say(f"Assimilating {len(subjects)} subject{'s' if len(subjects) > 1 else ''}")
    return model, assimilate_subjects(model, parameters, subjects, draws=draws, seed=seed)


def _population(model: Model, values: dict[str, float], fit: Path | None) -> PopulationParameters:
    from gemello.model.population import PopulationParameters  # noqa: PLC0415

    if fit is None:
        return PopulationParameters.of(model, values)
    try:
        if fit.stat().st_size > 50_000_000:
            raise ValueError("larger than 50 MB")
        said = json_format.loads(fit.read_text(encoding="utf-8"))
        if said["model"] != model.name:
            raise ValueError(f"a fit of {said['model']}")
        theta = {k: float(v) for k, v in said["theta"].items()} | values
        sigma = {k: float(v) for k, v in said["sigma"].items()}
        matrix = [[float(v) for v in row] for row in said["omega"]["matrix"]]
        etas = tuple(str(e) for e in said["omega"]["etas"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(
            f"not a fit of {model.name} ({e})", source=str(fit), column="--fit", remedy="give what gemello fit -o wrote"
        ) from None
    if etas != model.parameters.eta_names:
        raise DataError("other etas than the model's", source=str(fit), column="--fit", remedy="fit anew with this version")
    return PopulationParameters.of(model, {**theta, **sigma}, matrix, source=f"fit {fit.name}")


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError("is not a number", column=option, value=text, remedy="give a number") from None
    if not math.isfinite(value):
        raise DataError("is not a finite number", column=option, value=text, remedy="give a number")
    return value


def _list(text: str, option: str) -> list[float]:
    return [_number(t, option) for t in text.split(",")]


def _grid(text: str, option: str = "--times") -> list[float]:
    """FROM:TO:STEP (both ends included) or a list."""
    parts = text.split(":")
    if len(parts) == 1:
        return _list(text, option)
    if len(parts) != 3:
        raise DataError("is not FROM:TO:STEP", column=option, value=text, remedy="write it like 250:3000:250")
    first, last, step = (_number(p, option) for p in parts)
    if not (step > 0 and last >= first and (last - first) / step <= 10_000):
        raise DataError("is not a grid", column=option, value=text, remedy="give FROM <= TO, STEP above 0, at most 10,000 steps")
    return [round(first + k * step, 9) for k in range(int((last - first) / step + 1e-9) + 1)]


def _hours(model: Model, hours: float) -> float:
    from gemello.base.units import factor  # noqa: PLC0415

    return hours * factor("h", model.time_unit, "time")


def _horizon(twin: Twin, grid: list[float] | None, until: float | None = None) -> list[float]:
    if grid is not None:
        return grid
    end = twin.record.last + _hours(twin.model, 24.0) if until is None else until
    return [end * k / 200 for k in range(201)]


def _window(model: Model, text: str | None, begin: float, intervals: list[float]) -> tuple[float, float]:
    """When the goal counts: by default the second of the shortest periods of whole days that hold every interval a whole
    number of times, so that no interval is favoured."""
    if text is None:
        day = _hours(model, 24.0)
        whole = lambda n: all(i > 0 and abs(n * day / i - round(n * day / i)) < 1e-9 for i in intervals)  # noqa: E731
        period = next((n * day for n in range(1, 15) if whole(n)), None)
        if period is None:
            raise DataError("no window of whole days holds these intervals a whole number of times", column="--intervals",
                            value=",".join(f"{i:g}" for i in intervals), remedy="give --window FROM,TO")  # fmt: skip
        return begin + period, begin + 2 * period
    parts = _list(text, "--window")
    if len(parts) != 2 or not 0 <= parts[0] < parts[1]:
        raise DataError("is not FROM,TO", column="--window", value=text, remedy="write it like 24,48")
    return begin + parts[0], begin + parts[1]


def _target(model: Model, text: str, option: str, span: tuple[float, float], name: str | None) -> Target:
    """A target from WHAT:LOW-HIGH, where LOW or HIGH may be left out."""
    from gemello.twin.goals import Target  # noqa: PLC0415

    what, _, range_ = text.partition(":")
    if range_.startswith("-") and range_.count("-") > 1:
        raise DataError("a negative bound", column=option, value=text, remedy="give bounds of 0 or more")
    low, dash, high = range_.partition("-")
    if what not in STATISTICS or not dash or not (low or high):
        raise DataError(
            "is not WHAT:LOW-HIGH",
            column=option,
            value=text,
            remedy=f"use {', '.join(STATISTICS)}, like auc24:400-600 or trough:10-",
        )
    bounds: Any = {"low": _number(low, option)} if low else {}
    bounds |= {"high": _number(high, option)} if high else {}
    if what == "auc24":
        if "auc" not in [o.name for o in model.outputs]:
            raise DataError(f"{model.name} has no output auc", column=option, value=text, remedy="use trough, peak or mean")
        return Target("auc", "increment", span, per=_hours(model, 24.0), **bounds)
    first = next((o.name for o in model.outputs if o.residual is not None), model.outputs[0].name)
    statistic: Any = STATISTICS[what]
    return Target(name or first, statistic, span, **bounds)


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


def _decision_dict(d: Decision) -> dict[str, Any]:
    return {
        "id": d.id,
        "goals": list(d.goals),
        "chosen": None if d.chosen is None else d.chosen.candidate.label,
        "dose": getattr(d.chosen.candidate.regimen, "dose", None) if d.chosen is not None else None,
        "interval": getattr(d.chosen.candidate.regimen, "interval", None) if d.chosen is not None else None,
        "probability": None if d.chosen is None else d.chosen.probability,
        "probability_error": None if d.chosen is None else d.chosen.error,
        "refused": d.refused,
        "outside": list(d.outside),
        "overridden": d.overridden,
        "candidates": d.frame().to_dicts() if d.table else [],
        "provenance": d.provenance.to_dict(),
    }


def _show(d: Decision) -> None:
    best = sorted(d.table, key=lambda a: (a.feasible, a.probability), reverse=True)[:10]
    rows = [
        (a.candidate.label, a.probability, a.error, a.expected[0].median, a.expected[0].low, a.expected[0].high, a.feasible)
        for a in best
    ]
    print(f"subject {d.id}: {'; '.join(d.goals)}\n")
    output.table(("candidate", "probability", "Monte Carlo error", "median", "5 %", "95 %", "within limits"), rows)
    for words in d.outside:
        output.note(f"outside the model's population: {words}; overridden")
    if d.chosen is None:
        print(f"\nrefused: {d.refused}")
    else:
        print(f"\nrecommended: {d.chosen.candidate.label}; meets the goal with probability {d.chosen.probability:.2f}")
