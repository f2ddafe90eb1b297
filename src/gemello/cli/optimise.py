"""`gemello optimise`: a dose and an interval for one subject, or a refusal with its reason."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import output
from gemello.cli.options import numbers_and_names
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
    hours,
    number,
    numbers,
    subject_of,
)
from gemello.cli.simulate import Column, Data, Json, ModelName, Observed, UnitsOption

if TYPE_CHECKING:
    from gemello.model.contract import Model
    from gemello.twin.decide import Decision
    from gemello.twin.goals import Target
    from gemello.twin.mixture import Mixture
    from gemello.twin.regimens import Pharmacy
    from gemello.twin.twin import Twin

PLAIN = {"trough": "trough", "peak": "max", "mean": "mean", "min": "min"}
WHAT = ("auc24", "aucmic", "tmic", *PLAIN)
Report = Annotated[Path | None, typer.Option(metavar="PAGE.html", help="Where to write a page for the bedside.")]
Goals = Annotated[
    list[str],
    typer.Option(
        metavar="WHAT[@OUTPUT]:LOW-HIGH", help="auc24, aucmic, tmic, trough, peak, mean or min and its range: auc24:400-600."
    ),
]
Limits = Annotated[
    list[str], typer.Option(metavar="WHAT[@OUTPUT]:LOW-HIGH:RISK", help="A constraint and the risk allowed: peak:0-40:0.05.")
]


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("optimise")(optimise)


def optimise(
    model_name: ModelName,
    data: Data,
    goal: Goals,
    doses: Annotated[str, typer.Option(metavar="FROM:TO:STEP", help="Doses that can be given, or a list 500,750.")],
    intervals: Annotated[str, typer.Option(help="Dosing intervals that can be given, by commas.")],
    duration: Annotated[str, typer.Option("--durations", "--duration", help="Infusion lengths, by commas; 0 for a bolus.")] = "0",
    loading: Annotated[
        str | None,
        typer.Option(metavar="FROM:TO:STEP", help="First doses to consider, too, or a list; none is always considered."),
    ] = None,
    multiple: Annotated[
        float | None, typer.Option(metavar="SIZE", help="Round doses to whole multiples: a vial, a tablet.")
    ] = None,
    max_daily: Annotated[float | None, typer.Option(help="Most that may be given in any 24 h.")] = None,
    max_rate: Annotated[str | None, typer.Option(metavar="RATE", help='Fastest infusion, such as 900 or "15 mg/min".')] = None,
    port: Annotated[int, typer.Option(min=1, help="Compartment to dose (CMT).")] = 1,
    who: Annotated[str | None, typer.Option("--id", help="The subject; needed where the file has several.")] = None,
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
    steady_state: Annotated[
        bool, typer.Option("--steady-state", help="Goals count in the steady state of each regimen.")
    ] = False,
    limit: Limits = [],  # noqa: B006
    mic: Annotated[float | None, typer.Option(help="Minimum inhibitory concentration, for tmic and aucmic.")] = None,
    unbound: Annotated[float, typer.Option(help="Fraction not bound to protein, for tmic and aucmic.")] = 1.0,
    name: Annotated[str | None, typer.Option("--output-name", help="The output of goals that name none.")] = None,
    covariate: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE", help="A covariate's value from the first new dose on.")
    ] = [],  # noqa: B006
    least_probability: Annotated[float, typer.Option(min=0, max=1, help="Refuse below this probability.")] = 0.5,
    override_domain: Annotated[
        bool, typer.Option("--override-domain", help="Go on for a subject outside the model's population; it is recorded.")
    ] = False,
    override_doubt: Annotated[
        bool, typer.Option("--override-doubt", help="Go on with measurements that contradict the population; it is recorded.")
    ] = False,
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
    report: Report = None,
    json: Json = False,
) -> None:
    """Choose a dose and interval for one subject: the candidate that most probably meets the goal, or a refusal.

    Exit status 2 for a refusal, whose reason is printed.
    """
    target = output.check_target(report, sources=[data]) if report is not None else None
    how = How(set_, fit, units, column, observed, draws, seed, prior_weight, half_life, drift)
    with output.progress("Reading") as say:
        model, subject = subject_of(say, model_name, data, who, how, models, model_weights)
        say("Weighing the candidates")
        from gemello.twin.goals import Constraint  # noqa: PLC0415
        from gemello.twin.regimens import Grid  # noqa: PLC0415

        twin = _first(subject)
        begin = twin.record.last if start is None else start
        every = numbers(intervals, "--intervals")
        span = (begin, begin + hours(model, 24.0)) if steady_state and window is None else _window(model, window, begin, every)
        ask = _Ask(model, span, name, mic, unbound)
        goals = [ask.target(g, "--goal") for g in goal]
        limits = [Constraint(ask.target(c.rpartition(":")[0], "--limit"), number(c.rpartition(":")[2], "--limit")) for c in limit]
        first = [None, *(grid(loading, "--loading") if loading is not None else [])]
        candidates = Grid(
            grid(doses, "--doses"), every, numbers(duration, "--durations"), first, start=begin, port=port,
            pharmacy=_pharmacy(model, port, multiple, max_daily, max_rate),
        )  # fmt: skip
        changes, words = numbers_and_names(covariate, "--covariate")
        if words:
            raise DataError("is not a number", column="--covariate", value="=".join(next(iter(words.items()))),
                            remedy="write it like CLCREAT=30")  # fmt: skip
        options: dict[str, Any] = {
            "constraints": limits, "least_probability": least_probability, "steady_state": steady_state,
            "covariates": changes or None, "override_domain": override_domain, "override_doubt": override_doubt,
        }  # fmt: skip
        decision = subject.optimise(goals, candidates, **options)
        if target is not None:
            say("Writing the report")
            _page(subject, decision, goals, candidates, options, span, seed, target)
    if json:
        output.to_json(_decision_dict(decision))
    else:
        _show(decision)
    raise typer.Exit(0 if decision.chosen is not None else 2)


def _first(subject: Twin | Mixture) -> Twin:
    twins: tuple[Twin, ...] = getattr(subject, "twins", ())
    return twins[0] if twins else subject  # type: ignore[return-value]


def _likeliest(subject: Twin | Mixture) -> Twin:
    """The twin; of several models, the most probable one's."""
    p: tuple[float, ...] = getattr(subject, "probabilities", ())
    return getattr(subject, "twins", ())[p.index(max(p))] if p else _first(subject)


def _page(
    subject: Twin | Mixture, decision: Decision, goals: list[Target], candidates: Any, options: dict[str, Any],
    span: tuple[float, float], seed: int, path: Path,
) -> None:  # fmt: skip
    """The page for the bedside: forecast under the recommendation, what would change it, when to measure next."""
    from gemello.report import bedside_report  # noqa: PLC0415
    from gemello.twin.sensitivity import next_level, reconsider  # noqa: PLC0415

    twin = _first(subject)
    plan = None if decision.chosen is None else decision.schedule
    times = horizon(twin, None, plan, span[1])
    found = subject.forecast(plan, times=times, seed=seed)
    others = reconsider(subject, goals, candidates, decision, **options) if decision.table else None
    told = None
    if plan is not None:
        begin = float(plan.time[0])
        end = span[0] if span[0] > begin else span[1]  # before the goal's window, so that it can still be met
        possible = [begin + k * (end - begin) / 96 for k in range(1, 97)]
        told = next_level(_likeliest(subject), plan, goals[0], possible)
    ahead: Any = getattr(found, "mixture", found)
    output.write_whole(
        path,
        lambda p: bedside_report(subject, ahead, decision, path=p, goals=goals, reconsidered=others, informative=told),
    )


def _pharmacy(model: Model, port: int, multiple: float | None, daily: float | None, rate: str | None) -> Pharmacy:
    from gemello.twin.regimens import Pharmacy  # noqa: PLC0415

    fastest = None
    if rate is not None:
        text, _, unit = rate.strip().partition(" ")
        fastest = number(text, "--max-rate")
        if unit and port <= len(model.ports):
            from gemello.base.units import factor  # noqa: PLC0415

            fastest *= factor(unit.strip(), f"{model.ports[port - 1].unit}/{model.time_unit}", "--max-rate")
    return Pharmacy(multiple, daily, fastest)


class _Ask:
    """Reads goals: WHAT[@OUTPUT]:LOW-HIGH, where LOW or HIGH may be left out."""

    def __init__(self, model: Model, span: tuple[float, float], name: str | None, mic: float | None, unbound: float) -> None:
        self.model, self.span, self.name, self.mic, self.unbound = model, span, name, mic, unbound

    def target(self, text: str, option: str) -> Target:
        from gemello.twin.goals import Target, time_above_mic  # noqa: PLC0415

        what, low, high = self._read(text, option)
        bounds: Any = {"low": low, "high": high}
        kind, _, own = what.partition("@")
        first = next((o.name for o in self.model.outputs if o.residual is not None), self.model.outputs[0].name)
        of = own or self.name or first
        self.model.output_index(of)
        if kind in ("auc24", "aucmic"):
            return self._area(kind, of, bool(own or self.name), option, bounds)
        if kind == "tmic":
            return time_above_mic(of, self._mic(option), self.span, unbound=self.unbound, **bounds)
        statistic: Any = PLAIN[kind]
        return Target(of, statistic, self.span, name=f"{kind} of {of}", **bounds)

    def _read(self, text: str, option: str) -> tuple[str, float, float]:
        what, _, range_ = text.partition(":")
        if range_.startswith("-") and range_.count("-") > 1:
            raise DataError("a negative bound", column=option, value=text, remedy="give bounds of 0 or more")
        low, dash, high = range_.partition("-")
        if what.partition("@")[0] not in WHAT or not dash or not (low or high):
            raise DataError(
                "is not WHAT:LOW-HIGH",
                column=option,
                value=text,
                remedy=f"use {', '.join(WHAT)}, like auc24:400-600 or trough:10-",
            )
        return what, number(low, option) if low else -math.inf, number(high, option) if high else math.inf

    def _area(self, kind: str, of: str, named: bool, option: str, bounds: Any) -> Target:
        """An area for 24 h: from the accumulator `auc` where the model has one, unless an output is named."""
        from gemello.twin.goals import auc24  # noqa: PLC0415

        accumulated = not named and "auc" in [o.name for o in self.model.outputs]
        day = hours(self.model, 24.0)
        mic = self._mic(option) if kind == "aucmic" else 1.0
        out = auc24("auc" if accumulated else of, self.span, day, accumulated=accumulated, mic=mic, **bounds)
        if kind == "auc24":
            return out
        free = "f" if self.unbound < 1 else ""
        return replace(out, scale=out.scale * self.unbound, name=f"{free}AUC24/MIC (MIC {mic:g})", unit=self.model.time_unit)

    def _mic(self, option: str) -> float:
        if self.mic is None:
            raise DataError("needs the MIC", column=option, remedy="give --mic")
        if not (0 < self.unbound <= 1 and self.mic > 0):
            raise DataError("impossible", column="--mic or --unbound", value=f"{self.mic:g}, {self.unbound:g}",
                            remedy="give a MIC above 0, and a fraction above 0, at most 1")  # fmt: skip
        return self.mic


def _window(model: Model, text: str | None, begin: float, intervals: list[float]) -> tuple[float, float]:
    """When the goal counts: by default the second of the shortest periods of whole days that hold every interval a whole
    number of times, so that no interval is favoured."""
    if text is None:
        day = hours(model, 24.0)
        whole = lambda n: all(i > 0 and abs(n * day / i - round(n * day / i)) < 1e-9 for i in intervals)  # noqa: E731
        period = next((n * day for n in range(1, 15) if whole(n)), None)
        if period is None:
            raise DataError("no window of whole days holds these intervals a whole number of times", column="--intervals",
                            value=",".join(f"{i:g}" for i in intervals), remedy="give --window FROM,TO")  # fmt: skip
        return begin + period, begin + 2 * period
    parts = numbers(text, "--window")
    if len(parts) != 2 or not 0 <= parts[0] < parts[1]:
        raise DataError("is not FROM,TO", column="--window", value=text, remedy="write it like 24,48")
    return begin + parts[0], begin + parts[1]


def _decision_dict(d: Decision) -> dict[str, Any]:
    return {
        "id": d.id,
        "goals": list(d.goals),
        "chosen": None if d.chosen is None else d.chosen.candidate.label,
        "dose": getattr(d.chosen.candidate.regimen, "dose", None) if d.chosen is not None else None,
        "interval": getattr(d.chosen.candidate.regimen, "interval", None) if d.chosen is not None else None,
        "duration": getattr(d.chosen.candidate.regimen, "duration", None) if d.chosen is not None else None,
        "loading": getattr(d.chosen.candidate.regimen, "loading", None) if d.chosen is not None else None,
        "probability": None if d.chosen is None else d.chosen.probability,
        "probability_error": None if d.chosen is None else d.chosen.error,
        "refused": d.refused,
        "outside": list(d.outside),
        "overridden": d.overridden,
        "assumed": list(d.assumed),
        "models": dict(d.models),
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
        output.note(f"overridden: {words}")
    for words in d.assumed:
        output.note(f"assumed: {words}")
    for model, p in d.models:
        output.note(f"model {model} has probability {p:.2f}, given the levels")
    if d.chosen is None:
        print(f"\nrefused: {d.refused}")
    else:
        print(f"\nrecommended: {d.chosen.candidate.label}; meets the goal with probability {d.chosen.probability:.2f}")
