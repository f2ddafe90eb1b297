"""The charts of a report, each a pure function of results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from gemello.base.errors import DataError
from gemello.inference.scores import quantiles
from gemello.model.schedule import Schedule
from gemello.report.chart import BLACK, BLUE, GREY, PALETTE, VERMILLION, Band, Chart, Line, Mark, Points, Rule, Zone
from gemello.report.words import axis, number, percent
from gemello.twin.assess import Assessed
from gemello.twin.decide import Decision
from gemello.twin.forecast import Bundle, Forecast
from gemello.twin.twin import Twin

Floats = NDArray[np.float64]


def forecast_chart(
    forecast: Forecast,
    output: str,
    *,
    held_back: Schedule | None = None,
    held_output: int = 0,
    until: float | None = None,
    zone: tuple[float, float] | None = None,
    zone_label: str = "range aimed at",
    title: str = "",
    label: str = "",
    end: float | None = None,
) -> Chart:
    """Bands and median of one output, what the twin has seen, and what it has not (`held_back`, of output `held_output`).

    until: where the twin's knowledge ends. zone: range to aim at. label: of the output. end: last time shown.
    """
    o = forecast[output]
    bundle = o.measurement or o.prediction
    here = forecast.time <= (np.inf if end is None else end)
    t, q = forecast.time[here], bundle.quantiles[:, here]
    marks: list[Mark] = [Zone(*zone, label=zone_label)] if zone else []
    kind = "of new measurements" if o.measurement is not None else "of the course"
    for low, high in pairs(forecast.levels):
        share = percent(forecast.levels[high] - forecast.levels[low])
        marks.append(Band(t, q[low], q[high], f"{share} interval {kind}", opacity=0.16 if low == 0 else 0.28))
    median = middle(forecast, o.prediction)
    marks.append(Line(t, median[here], "median forecast"))
    if until is not None:
        marks.append(Rule(until, label="the twin has seen what is left of here"))
    seen_t, seen_y = o.observed
    if len(seen_t):
        words = tuple(
            f"measured, seen by the twin: {number(v)} {o.unit} at {number(a)} {forecast.time_unit}"
            for a, v in zip(seen_t, seen_y, strict=True)
        )
        marks.append(Points(seen_t, seen_y, "measured, seen by the twin", BLACK, "circle", 4.5, words=words))
    later = values_of(held_back, held_output) if held_back is not None else (np.zeros(0), np.zeros(0))
    if len(later[0]):
        words = tuple(
            f"measured later: {number(v)} {o.unit} at {number(a)} {forecast.time_unit}" for a, v in zip(*later, strict=True)
        )
        marks.append(Points(*later, "measured later, not seen", VERMILLION, "diamond", 4.5, words=words))
    told = (
        f"Forecast of {output} of subject {forecast.id}: median and intervals over time; "
        f"{len(seen_t)} measured values seen, {len(later[0])} held back."
    )
    return Chart(axis("time", forecast.time_unit), axis(label or output, o.unit), marks, told, title)


def pairs(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Indices of the levels that make central intervals, the widest first."""
    out = []
    for i, p in enumerate(levels):
        match = [j for j, r in enumerate(levels) if abs(p + r - 1.0) < 1e-9 and r > p]
        out += [(i, j) for j in match]
    return sorted(out, key=lambda ij: levels[ij[0]])


def middle(forecast: Forecast, bundle: Bundle) -> Floats:
    """(times,) median."""
    half = [i for i, p in enumerate(forecast.levels) if abs(p - 0.5) < 1e-9]
    return bundle.quantiles[half[0]] if half else np.asarray(quantiles(bundle.draws, 0.5, forecast.weights)[0])


def values_of(s: Schedule, output: int) -> tuple[Floats, Floats]:
    """Times and values that were measured of one output."""
    here = s.measured & (s.output == output)
    return s.time[here], s.value[here]


def at_times(forecast: Forecast, times: Floats) -> NDArray[np.int64]:
    """Indices of these times in the forecast. Raises DataError where one is missing."""
    i = np.clip(np.searchsorted(forecast.time, times), 0, len(forecast.time) - 1)
    bad = np.abs(forecast.time[i] - times) > 1e-9 * (1.0 + np.abs(times))
    if bad.any():
        raise DataError(
            "a held-back measurement at a time that was not forecast", column="times", value=float(times[bad][0]),
            remedy="give the forecast the times of all held-back measurements, too",
        )  # fmt: skip
    return i


# ---- decision ------------------------------------------------------------------------------------------------------
def decision_chart(decision: Decision, amount: str, time: str) -> Chart:
    """Probability of meeting the goals by candidate, with Monte Carlo errors; the chosen one is ringed. amount, time: units."""
    regimens = [a for a in decision.table if a.candidate.regimen is not None]
    told = f"Probability of meeting the goals for {len(decision.table)} candidates."
    if len(regimens) < len(decision.table) or not regimens:
        return _by_name(decision, told)
    marks: list[Mark] = [Rule(decision.least_probability, "y", f"refused below {percent(decision.least_probability)}")]
    groups: dict[str, list[Assessed]] = {}
    for a in regimens:
        groups.setdefault(_group(a, amount, time), []).append(a)
    for k, (name, group) in enumerate(groups.items()):
        group.sort(key=lambda a: a.candidate.regimen.dose if a.candidate.regimen else 0.0)
        dose = np.array([a.candidate.regimen.dose for a in group if a.candidate.regimen])
        p = np.array([a.probability for a in group])
        color = PALETTE[k % len(PALETTE)]
        marks.append(Line(dose, p, "", color, dashed=k % 2 == 1))
        symbol = ("circle", "open", "diamond")[k % 3]
        words = tuple(
            f"{a.candidate.label}: {percent(a.probability)}{'' if a.feasible else ', breaks a constraint'}" for a in group
        )
        marks.append(Points(dose, p, name, color, symbol, 3.5, error=np.array([a.error for a in group]), words=words))  # type: ignore[arg-type]
    if decision.chosen is not None and decision.chosen.candidate.regimen is not None:
        at = np.array([decision.chosen.candidate.regimen.dose])
        marks.append(
            Points(
                at,
                np.array([decision.chosen.probability]),
                "chosen",
                BLACK,
                "open",
                8.0,
                words=(decision.chosen.candidate.label,),
            )
        )
    return Chart(axis("each dose", amount), "probability of meeting the goals", marks, told, y_range=(0.0, 1.02), height=320)


def _group(a: Assessed, amount: str, time: str) -> str:
    r = a.candidate.regimen
    if r is None:
        return a.candidate.label
    first = f"{r.loading:g} {amount} first, " if r.loading is not None else ""
    return f"{first}every {r.interval:g} {time}" + (f" over {r.duration:g} {time}" if r.duration else "")


def _by_name(decision: Decision, told: str) -> Chart:
    table = sorted(decision.table, key=lambda a: -a.probability)[:20]
    p, error = np.array([a.probability for a in table]), np.array([a.error for a in table])
    rows = tuple(a.candidate.label[:40] for a in table)
    marks: list[Mark] = [Rule(decision.least_probability, "x", f"refused below {percent(decision.least_probability)}")]
    marks.append(
        Points(
            p,
            np.arange(len(table), dtype=float),
            "candidate ± Monte Carlo error",
            BLUE,
            "circle",
            5.0,
            low=p - error,
            high=p + error,
        )
    )
    return Chart("probability of meeting the goals", "", marks, told, rows=rows, x_range=(0.0, 1.02), height=90 + 26 * len(table))


# ---- belief --------------------------------------------------------------------------------------------------------
def belief_chart(twin: Twin, level: float = 0.9) -> Chart:
    """Where the subject lies among the population: each eta in population standard deviations, 0 being the typical subject."""
    p = twin.posterior
    sd = np.sqrt(np.diag(p.parameters.omega))
    edge = [0.5 - level / 2, 0.5, 0.5 + level / 2]
    low, median, high = quantiles(p.draws / sd, edge, p.weights)
    rows = np.arange(len(sd), dtype=float)
    prior = float(ndtri(0.5 + level / 2))
    marks: list[Mark] = [
        Rule(0.0, "x", "typical subject"),
        Points(
            np.zeros(len(sd)),
            rows - 0.13,
            f"population, {percent(level)} of subjects",
            GREY,
            "open",
            5.0,
            low=np.full(len(sd), -prior),
            high=np.full(len(sd), prior),
        ),
        Points(median, rows + 0.13, f"this subject, {percent(level)} interval", BLUE, "circle", 5.0, low=low, high=high),
    ]
    told = f"Individual parameters of subject {twin.id} beside the population, in population standard deviations."
    return Chart(
        "deviation from the typical subject (population standard deviations)",
        "",
        marks,
        told,
        rows=p.names,
        height=110 + 46 * len(sd),
    )
