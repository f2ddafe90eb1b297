"""One page about one patient, for the person who prescribes: levels, dose, probability, risks, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemello.model.schedule import DOSE, RESET_AND_DOSE, Schedule
from gemello.report import figures, render, svg
from gemello.report.chart import BLUE, GREEN, GREY, Chart, Mark, Points, Zone
from gemello.report.tables import Table, probability
from gemello.report.words import axis, number, percent, with_unit
from gemello.twin.assess import Assessed
from gemello.twin.decide import Decision
from gemello.twin.forecast import Forecast
from gemello.twin.goals import Target
from gemello.twin.mixture import Mixture
from gemello.twin.sensitivity import Informative
from gemello.twin.timing import dose_times
from gemello.twin.twin import Twin

ALTERNATIVES = 4  # candidates shown beside the recommended one
WIDTH = 720  # px of a picture
NAMES = {"at": "value", "max": "peak", "min": "lowest value"}


@dataclass(frozen=True)
class Advice:
    """The large words of the page."""

    refused: bool
    choice: str
    sentences: tuple[str, ...]


def bedside_report(
    subject: Twin | Mixture,
    forecast: Forecast,
    decision: Decision,
    *,
    path: Path | str,
    goals: Sequence[Target] = (),
    reconsidered: Mapping[str, Decision] | None = None,
    informative: Informative | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> Path:
    """Write the page of one patient (A4 when printed, no scripts); returns the path. The file appears whole or not at all.

    forecast: under the recommendation, or as things go on where it is refused. goals: those of the decision. reconsidered: the
    same decision with other information, `decision` first (`gemello.twin.sensitivity.reconsider`). informative: what a further
    level would tell. labels: what outputs are, by name. Raises DataError where the file cannot be written.
    """
    twins = subject.twins if isinstance(subject, Mixture) else (subject,)
    twin, words = twins[0], labels or {}
    charts = [_levels(twin, forecast, goals, words)]
    if decision.table and goals:
        charts.append(_forest(twin, decision, goals[0]))
    told = {
        "title": title or f"Patient {subject.id}",
        "model": " + ".join(f"{t.model.card.title or t.model.name} ({t.model.name} {t.model.version})" for t in twins),
        "who": _who(twins),
        "levels": f"{_given(twin)} {_measured(twin)}",
        "advice": advice(twin, decision, goals),
        "pictures": [svg.render(c, f"figure-{k}", WIDTH) for k, c in enumerate(charts, start=1)],
        "alternatives": alternatives_table(decision, goals),
        "changes": changes_table(reconsidered) if reconsidered else None,
        "next": _next(twin, informative, goals),
        "cautions": cautions(twins, decision, forecast),
        "stamp": _stamp(decision, twins),
    }
    return render.write("bedside.html", told, path)


# ---- words ---------------------------------------------------------------------------------------------------------
def advice(twin: Twin, d: Decision, goals: Sequence[Target] = ()) -> Advice:
    """What is recommended, how sure that is, and what may go wrong. goals: those of the decision."""
    if d.chosen is None:
        best = max((a for a in d.table if a.feasible), key=lambda a: a.probability, default=None)
        more = (
            ()
            if best is None
            else (f"The best of {len(d.table)} candidates: {best.candidate.label}, {percent(best.probability)}.",)
        )
        course = "The picture shows how it goes on without a new dose."
        return Advice(True, "No dose is recommended", (f"{d.refused}.", *more, course))
    c = d.chosen
    wanted = [
        f"{w.split(' at least')[0].split(' at most')[0]} is {_range(twin, g)}" for w, g in zip(d.goals, goals, strict=False)
    ]
    out = [f"Probability {percent(c.probability)} that {' and '.join(wanted or d.goals)}."]
    for e in c.expected:
        missed = [f"{words} {percent(p)}" for words, p in (("too low", e.below), ("too high", e.above)) if p > 0]
        what = e.label.split(" at least")[0].split(" at most")[0]
        chance = f"; {', '.join(missed)}" if missed else ""
        out.append(f"Expected {what}: {number(e.median, 3)} (90 % interval {number(e.low, 3)} to {number(e.high, 3)}){chance}.")
    out += [f"Risk that “{r.label}” is missed: {percent(r.probability)} (allowed {percent(r.limit)})." for r in c.risks]
    first = dose_times(c.candidate.schedule)
    if len(first):
        out.append(f"First dose at {number(float(first[0]), 6)} {twin.model.time_unit} on the clock of the record.")
    near = [a for a in shown(d) if a is not c and a.feasible and c.probability - a.probability <= 2 * np.hypot(c.error, a.error)]
    if near:
        out.append(f"As good within the accuracy of this calculation: {'; '.join(a.candidate.label for a in near)}.")
    return Advice(False, c.candidate.label, tuple(out))


def _range(twin: Twin, g: Target) -> str:
    """What a goal wants, in words."""
    unit = g.unit_of(twin.model.outputs[twin.model.output_index(g.output)].unit, twin.model.time_unit).replace("*", "·")
    low, high = np.isfinite(g.low), np.isfinite(g.high)
    words = (
        f"{number(g.low)} to {number(g.high)}"
        if low and high
        else f"at least {number(g.low)}"
        if low
        else f"at most {number(g.high)}"
    )
    return words if unit == "1" else f"{words} {unit}"


def cautions(twins: Sequence[Twin], d: Decision, forecast: Forecast) -> list[str]:
    """All that a reader must know before the dose is given: doubts, ranges, overrides, assumptions."""
    out = [f"Made at the user's own judgement although: {w}." for w in d.outside]
    out += [f"Assumed: {w}." for w in d.assumed]
    known = " ".join(out)
    for t in twins:
        found = [*t.outside(), *([t.posterior.doubt] if t.posterior.doubt else []), *t.posterior.cautions]
        out += [f"{w}." for w in found if w not in known]
    told = " ".join(out)
    out += [f"{n}." for n in forecast.notes if n not in told and not (d.models and n.startswith("average of "))]
    if d.models:
        out.append("Models averaged: " + ", ".join(f"{n} {percent(p)}" for n, p in d.models) + " (probability given the levels).")
    if not twins[0].posterior.observations:
        out.append("No level has been measured: the dose is that of a typical patient with these covariates.")
    return out


def _who(twins: Sequence[Twin]) -> list[str]:
    """Covariates that hold now, in words, those outside a model's population marked."""
    out: dict[str, str] = {}
    for t in twins:
        held = {**t.covariates, **t.posterior.covariates}
        for c in t.model.covariates:
            if c.name in held:
                mark = "" if c.lower <= held[c.name] <= c.upper else f" (outside {number(c.lower)} to {number(c.upper)})"
                out[c.name] = f"{c.name} {with_unit(float(held[c.name]), c.unit)}{mark}"
    return list(out.values())


def _given(twin: Twin) -> str:
    """The doses of the record, equal ones at equal intervals together."""
    s, unit = twin.record.schedule.written_out() if len(twin.record) else Schedule(), twin.model.time_unit
    runs: list[tuple[str, list[float]]] = []
    for i in np.flatnonzero((s.evid == DOSE) | (s.evid == RESET_AND_DOSE)):
        port, amount, rate = twin.model.ports[max(int(s.port[i]), 1) - 1], float(s.amount[i]), float(s.rate[i])
        if port.kind != "dose":
            continue
        what = with_unit(amount, port.unit) + (f" over {number(amount / rate)} {unit}" if rate > 0 and amount > 0 else "")
        what += f" in steady state (every {number(float(s.interval[i]))} {unit})" if s.steady_state[i] else ""
        same = bool(runs) and runs[-1][0] == what
        if same and (len(runs[-1][1]) == 1 or np.isclose(s.time[i] - runs[-1][1][-1], runs[-1][1][1] - runs[-1][1][0])):
            runs[-1][1].append(float(s.time[i]))
        else:
            runs.append((what, [float(s.time[i])]))
    each = [
        f"{w} at {number(t[0], 6)} {unit}" if len(t) == 1 else
        f"{w} every {number(t[1] - t[0])} {unit} from {number(t[0], 6)} to {number(t[-1], 6)} {unit}"
        for w, t in runs
    ]  # fmt: skip
    return f"Given: {'; '.join(each[-8:])}." if each else "No dose so far."


def _measured(twin: Twin) -> str:
    s, unit = twin.record.schedule, [o.unit for o in twin.model.outputs]
    each = [
        f"{with_unit(float(s.value[i]), unit[int(s.output[i])])} at {number(float(s.time[i]), 6)} {twin.model.time_unit}"
        for i in np.flatnonzero(s.measured)
    ]
    return f"Levels: {'; '.join(each[-8:])}." if each else "No levels."


def _next(twin: Twin, found: Informative | None, goals: Sequence[Target]) -> str:
    """When to measure next."""
    if found is None or not goals:
        return ""
    if found.most < 0.01:
        return f"A further level would say next to nothing of {goals[0].title}."
    return (
        f"Best time for the next level: {number(found.best, 4)} {twin.model.time_unit}. It would remove about "
        f"{percent(found.most)} of the remaining variance of {goals[0].title}."
    )


def _stamp(d: Decision, twins: Sequence[Twin]) -> str:
    p = d.provenance
    source = "; ".join(dict.fromkeys(t.parameters.source for t in twins))
    parts = [
        f"model {p.model} {p.model_version}",
        f"population: {source}",
        f"parameters {p.parameter_hash}",
        f"data {p.data_hash}",
    ]
    parts += [f"seed {p.seed}"] if p.seed is not None else []
    return ", ".join([*parts, f"gemello {p.gemello}, JAX {p.jax}, made {p.created} UTC"])


# ---- tables --------------------------------------------------------------------------------------------------------
def shown(d: Decision) -> list[Assessed]:
    """The recommended candidate and the best others, best first; of those that differ in infusion length only, the best."""
    table = sorted(d.table, key=lambda a: (a is not d.chosen, not a.feasible, -a.probability, a.candidate.total))
    out: dict[Any, Assessed] = {}
    for a in table:
        r = a.candidate.regimen
        out.setdefault(a.candidate.label if r is None else (r.dose, r.interval, r.loading, r.port), a)
    return list(out.values())[: ALTERNATIVES + 1]


def short(a: Assessed) -> str:
    """The candidate without units, for a chart."""
    r = a.candidate.regimen
    if r is None:
        return a.candidate.label if len(a.candidate.label) <= 36 else f"{a.candidate.label[:35]}…"
    first = f"{r.loading:g}, then " if r.loading is not None else ""
    return f"{first}{r.dose:g} every {r.interval:g}" + (f" over {r.duration:g}" if r.duration else "")


def alternatives_table(d: Decision, goals: Sequence[Target]) -> Table | None:
    """The candidates considered, the recommended one marked."""
    if not d.table:
        return None
    names = [g.title for g in goals]
    rows = []
    for a in shown(d):
        cells = [f"{number(e.median, 3)} ({number(e.low, 3)} to {number(e.high, 3)})" for e in a.expected]
        risks = [f"{percent(r.probability)}{'' if r.kept else ' — too large'}" for r in a.risks]
        models = [percent(p) for p in a.by_model]
        rows.append((a.candidate.label, probability(a), *cells, *risks, *models))
    risk_names = [f"risk: {r.label}" for r in d.table[0].risks]
    model_names = [f"if {n.rpartition('_')[2]}" for n, _ in d.models] if d.table[0].by_model else []
    columns = ("dose", "probability", *[f"{n}, median (90 %)" for n in names], *risk_names, *model_names)
    marked = frozenset({0}) if d.chosen is not None else frozenset()
    caption = f"Considered: the best of {len(d.table)} candidates, each with its best infusion length"
    return Table(caption, columns, tuple(rows), frozenset({1}), marked)


def changes_table(reconsidered: Mapping[str, Decision]) -> Table:
    """What would be recommended if something were different, and how the present choice would then do."""
    decisions = list(reconsidered.items())
    now = decisions[0][1].chosen
    rows = []
    for name, d in decisions[1:]:
        same = next((a for a in d.table if now is not None and a.candidate.label == now.candidate.label), None)
        choice = d.chosen.candidate.label if d.chosen is not None else "no dose (refused)"
        unchanged = now is not None and d.chosen is not None and choice == now.candidate.label
        rows.append(
            (
                name,
                "no change" if unchanged else choice,
                probability(d.chosen) if d.chosen else "–",
                probability(same) if same else "–",
            )
        )
    columns = ("if", "then", "probability", "with the dose above")
    return Table("What would change it", columns, tuple(rows), frozenset({2, 3}))


# ---- charts --------------------------------------------------------------------------------------------------------
def _levels(twin: Twin, forecast: Forecast, goals: Sequence[Target], labels: Mapping[str, str]) -> Chart:
    """Levels and forecast of the first goal's output where it is measured, else of the first that is."""
    measured = [n for n in forecast.outputs if forecast[n].measurement is not None] or list(forecast.outputs)
    wanted = [g.output for g in goals if g.output in measured]
    name = (wanted or measured)[0]
    zone, words = None, ""
    for g in goals:
        if g.output == name and g.statistic in ("at", "min", "max", "trough", "mean"):
            zone, words = (g.low / g.scale, g.high / g.scale), f"{NAMES.get(g.statistic, g.statistic)} aimed at"
        elif g.output == name and g.within is not None:
            zone, words = (g.within[0] / g.scale, g.within[1] / g.scale), g.title
    until = float(twin.record.schedule.time[twin.record.schedule.measured].max()) if twin.posterior.observations else None
    chart = figures.forecast_chart(
        forecast, name, until=until, zone=zone, zone_label=words, label=labels.get(name, name), end=float(forecast.time[-1])
    )
    top = float(np.max(chart_top(forecast, name)))
    return Chart(
        chart.x_title, chart.y_title, chart.marks, chart.description, height=205, y_range=(0.0, 1.08 * top) if top > 0 else None
    )


def chart_top(forecast: Forecast, name: str) -> Any:
    """Highest value to show: of the bands and of what was measured."""
    o = forecast[name]
    bundle = o.measurement or o.prediction
    return np.concatenate([bundle.quantiles.ravel(), o.observed[1]])


def _forest(twin: Twin, d: Decision, goal: Target) -> Chart:
    """Median and 90 % interval of the first goal's statistic for the candidates shown, with the range aimed at."""
    table = shown(d)
    unit = goal.unit_of(twin.model.outputs[twin.model.output_index(goal.output)].unit, twin.model.time_unit)
    marks: list[Mark] = [Zone(goal.low, goal.high, "x", "range aimed at", GREEN, 0.14)]
    chosen = np.array([a is d.chosen for a in table])
    for here, words, color in ((chosen, "recommended", BLUE), (~chosen, "others", GREY)):
        at = np.flatnonzero(here)
        if len(at):
            e = [table[i].expected[0] for i in at]
            median, low, high = (np.array([getattr(x, k) for x in e]) for k in ("median", "low", "high"))
            marks.append(Points(median, at.astype(float), words, color, "circle", 5.0, low=low, high=high))
    told = f"{goal.title}: median and 90 % interval for {len(table)} candidates, with the range aimed at."
    rows = tuple(short(a) for a in table)
    return Chart(axis(goal.title, unit.replace("*", "·")), "", marks, told, rows=rows, height=76 + 18 * len(table))
