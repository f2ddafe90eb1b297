"""Reports as one HTML file that needs nothing else: twin report and fit report.

Every text that comes from outside is escaped (jinja2's autoescape), and a content security policy keeps the page from fetching
anything. Without scripts, and on paper, the charts are SVG; with scripts one can hover over them and zoom (plotly, inlined once).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemello.inference.residuals import goodness
from gemello.inference.result import Fit
from gemello.model import registry
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject
from gemello.report import figures, fit_section, render, tables
from gemello.report.fit_section import Checks
from gemello.report.pictures import Picture, Pictures
from gemello.report.words import markdown, number, percent, plural, with_unit
from gemello.twin.decide import Decision
from gemello.twin.forecast import Forecast
from gemello.twin.goals import Target
from gemello.twin.timing import dose_times
from gemello.twin.twin import Twin


def twin_report(
    twin: Twin,
    forecast: Forecast,
    decision: Decision | None = None,
    fit: Fit | None = None,
    held_back: Schedule | None = None,
    *,
    path: Path | str,
    course: Forecast | None = None,
    goals: Sequence[Target] = (),
    reconsidered: Mapping[str, Decision] | None = None,
    fitted: Sequence[Subject] | None = None,
    remarks: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str = "",
    interactive: bool = True,
) -> Path:
    """Write the report of one twin; returns the path. The file appears whole or not at all.

    forecast: of the twin, at times that include those of `held_back`. decision: what is recommended, or why nothing is. fit:
    where the population comes from. held_back: what was measured later and not shown to the twin. course: forecast under the
    recommendation. goals: those of the decision, drawn as ranges. reconsidered: the same decision with other information, by
    what is known, the present one included. fitted: subjects of the fit, for its goodness of fit. remarks: sentences for the
    first page. labels: what outputs are, by name, for axes and captions. interactive: inline plotly (about 5 MB), or leave the
    charts static. Raises DataError.
    """
    g = goodness(twin.model, fit, fitted) if fit is not None and fitted is not None else None
    pictures = Pictures(interactive)
    words = {
        "title": title or f"Twin of subject {twin.id}",
        "twin": twin,
        "card": _card(twin.model),
        "remarks": [*remarks, *forecast.notes],
        "advice": _advice(twin, decision, reconsidered, labels or {}),
        "forecasts": _forecasts(twin, forecast, held_back, labels or {}, pictures),
        "held_back": tables.held_back_table(forecast, twin.model, held_back) if held_back is not None else None,
        "course": _course(twin, course, goals, labels or {}, pictures),
        "candidates": _candidates(twin, decision, pictures),
        "record": tables.record_table(twin.model, twin.record.schedule, "What the twin knows"),
        "covariates": _covariates(twin),
        "belief": (
            tables.posterior_table(twin),
            pictures.draw(figures.belief_chart(twin), "Where this subject lies among the population"),
        ),
        "population": twin.parameters.source,
        "fit": fit_section.short(twin.model, fit, g, pictures) if fit is not None else None,
        "provenance": tables.provenance_table(
            {
                "twin": twin.posterior.provenance,
                "forecast": forecast.provenance,
                "decision": decision.provenance if decision is not None else None,
                "population fit": fit.provenance if fit is not None else None,
            }
        ),
        "sources": tables.sources_table(twin.model),
    }
    return render.write("twin.html", words, path, interactive=interactive)


def fit_report(
    fit: Fit,
    model: Model | None = None,
    subjects: Sequence[Subject] | None = None,
    *,
    path: Path | str,
    title: str = "",
    bind: Mapping[str, str] | None = None,
    checks: Checks | None = None,
    individuals: int = 12,
    interactive: bool = True,
) -> Path:
    """Write the report of a population fit; returns the path.

    model: default the registered one of the fit's name. subjects: those of the fit, for its goodness of fit; bind: as in the fit.
    checks: what was run beside it (VPC, NPDE, bootstrap, covariate search). individuals: how many subjects are drawn one by one.
    Raises DataError, and ModelError where the model is not registered.
    """
    model = registry.get(fit.model) if model is None else model
    g = goodness(model, fit, subjects, bind=bind) if subjects is not None else None
    pictures, done = Pictures(interactive), checks or Checks()
    stamps = {
        "fit": fit.provenance,
        "VPC": done.vpcs[0].provenance if done.vpcs else None,
        "NPDE": done.npde.provenance if done.npde else None,
        "bootstrap": done.bootstrap.provenance if done.bootstrap else None,
    }
    words = {
        "title": title or f"Fit of {model.name}",
        "model": model,
        "card": _card(model),
        "fit": fit_section.full(model, fit, g, subjects or (), pictures, done, individuals, bind),
        "provenance": tables.provenance_table(stamps),
        "sources": tables.sources_table(model),
    }
    return render.write("fit.html", words, path, interactive=interactive)


def checks_report(
    model: Model, checks: Checks, *, path: Path | str, population: str = "", title: str = "", interactive: bool = True
) -> Path:
    """Write the simulated checks of a population (VPC, NPDE) without a fit; returns the path. population: where it comes from."""
    pictures = Pictures(interactive)
    stamps = {"VPC": checks.vpcs[0].provenance if checks.vpcs else None, "NPDE": checks.npde.provenance if checks.npde else None}
    words = {
        "title": title or f"Predictive checks of {model.name}",
        "model": model,
        "population": population or f"parameter table of {model.name} {model.version}",
        "fit": fit_section.alone(model, pictures, checks),
        "provenance": tables.provenance_table(stamps),
    }
    return render.write("checks.html", words, path, interactive=interactive)


# ---- parts ---------------------------------------------------------------------------------------------------------
def _card(model: Model) -> dict[str, str]:
    """The card's sections as HTML, by heading."""
    return {k: markdown(v) for k, v in model.card.sections.items()}


def _covariates(twin: Twin) -> list[str]:
    """The covariates that hold at the end of the record, in words, with the range of the population."""
    held = {**twin.covariates, **twin.posterior.covariates}
    return [
        f"{c.name} {with_unit(float(held[c.name]), c.unit)} (population: {number(c.lower)} to {number(c.upper)})"
        for c in twin.model.covariates
        if c.name in held
    ]


def _forecasts(
    twin: Twin, forecast: Forecast, held_back: Schedule | None, labels: Mapping[str, str], pictures: Pictures
) -> list[dict[str, Any]]:
    """A figure of each output that can be measured (of all, where none can), with what became of what was held back."""
    found = tables.holdings(forecast, twin.model, held_back) if held_back is not None else []
    names = [n for n in forecast.outputs if forecast[n].measurement is not None] or list(forecast.outputs)
    until = float(twin.record.schedule.time[twin.record.schedule.measured].max()) if twin.posterior.observations else None
    out = []
    for n in names:
        k = twin.model.output_index(n)
        chart = figures.forecast_chart(forecast, n, held_back=held_back, held_output=k, until=until, label=labels.get(n, n))
        told = [f"{h.inside} of {h.number} lie in the {percent(h.level)} interval" for h in found if h.output == n]
        count = next((h.number for h in found if h.output == n), 0)
        sentence = f"Of {plural(count, 'measurement')} that the twin had not seen, {', '.join(told)}." if told else ""
        out.append({"name": n, "picture": pictures.draw(chart, f"Forecast of {_named(n, labels)}"), "sentence": sentence})
    return out


def _course(
    twin: Twin, course: Forecast | None, goals: Sequence[Target], labels: Mapping[str, str], pictures: Pictures
) -> list[Picture]:
    if course is None:
        return []
    wanted = list(dict.fromkeys(g.output for g in goals)) or list(course.outputs)[:1]
    out = []
    for n in wanted:
        here = [g for g in goals if g.output == n and g.statistic in ("at", "min", "max", "trough", "mean")]
        low = max((g.low for g in here if np.isfinite(g.low)), default=-np.inf)
        high = min((g.high for g in here if np.isfinite(g.high)), default=np.inf)
        zone = (low, high) if low < high and (np.isfinite(low) or np.isfinite(high)) else None
        out.append(
            pictures.draw(
                figures.forecast_chart(course, n, zone=zone, label=labels.get(n, n)),
                f"What to expect of {_named(n, labels)} under the recommendation",
            )
        )
    return out


def _named(name: str, labels: Mapping[str, str]) -> str:
    return f"{labels[name]} ({name})" if name in labels else name


def _relabelled(text: str, labels: Mapping[str, str]) -> str:
    """The text with the names of outputs replaced by what they are."""
    for name, label in labels.items():
        text = re.sub(rf"\b{re.escape(name)}\b", lambda _, word=label: word, text)  # type: ignore[misc]
    return text


def _advice(
    twin: Twin, decision: Decision | None, reconsidered: Mapping[str, Decision] | None, labels: Mapping[str, str]
) -> dict[str, Any] | None:
    """The recommendation in words, and what would change it."""
    if decision is None:
        return None
    chosen = decision.chosen
    lines = []
    if chosen is not None:
        others = sorted((a for a in decision.table if a.feasible and a is not chosen), key=lambda a: -a.probability)
        close = [a for a in others if chosen.probability - a.probability <= 2 * float(np.hypot(chosen.error, a.error))]
        if close:
            lines.append(
                f"Not told apart from it within the Monte Carlo error: {', '.join(a.candidate.label for a in close[:3])}."
            )
        elif others:
            lines.append(
                f"The next best, {others[0].candidate.label}, meets the goals with probability {percent(others[0].probability)}."
            )
        lines += [
            f"Risk that “{_relabelled(r.label, labels)}” is missed: {percent(r.probability, 1)} (allowed: {percent(r.limit)})."
            for r in chosen.risks
        ]
        lines.append(f"No recommendation would be made below a probability of {percent(decision.least_probability)}.")
    if decision.outside:
        lines.append(f"Made at the user's own judgement outside the population of the model: {'; '.join(decision.outside)}.")
    present = next((k for k, d in (reconsidered or {}).items() if d is decision), None)
    return {
        "decision": decision,
        "goals": [_relabelled(g, labels) for g in decision.goals],
        "probability": f"{percent(chosen.probability)}" if chosen is not None else "",
        "error": percent(chosen.error, 1) if chosen is not None else "",
        "lines": lines,
        "begins": _begins(twin, decision),
        "table": tables.reconsidered_table(reconsidered, present) if reconsidered and present is not None else None,
    }


def _begins(twin: Twin, decision: Decision) -> list[str]:
    """When the recommendation begins, and which doses of the record it comes on top of."""
    if decision.chosen is None:
        return []
    new, known = dose_times(decision.chosen.candidate.schedule), dose_times(twin.record.schedule)
    if not len(new):
        return []
    unit = twin.model.time_unit
    out = [f"First dose at {number(float(new[0]), 6)} {unit} (0 {unit}: the start of the record)."]
    still = known[known >= new[0] - 1e-9]
    if len(still):
        count, first, last = plural(len(still), "dose"), number(float(still[0]), 6), number(float(still[-1]), 6)
        when = f"at {first} {unit}" if len(still) == 1 else f"from {first} to {last} {unit}"
        out.append(f"On top of {count} that the record already holds {when}: the calculation gives those, too.")
    return out


def _candidates(twin: Twin, decision: Decision | None, pictures: Pictures) -> tuple[tables.Table, Picture] | None:
    if decision is None or not decision.table:
        return None
    port = next((a.candidate.regimen.port for a in decision.table if a.candidate.regimen is not None), 1)
    unit = twin.model.ports[port - 1].unit if twin.model.ports else ""
    chart = figures.decision_chart(decision, unit, twin.model.time_unit)
    return tables.candidates_table(decision), pictures.draw(chart, "Probability of meeting all goals, with Monte Carlo errors")
