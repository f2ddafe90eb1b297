"""The tables of a report, each a pure function of results. Cells are plain text; the page escapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from gemello.base.provenance import Provenance
from gemello.inference.bootstrap import Bootstrap
from gemello.inference.result import Fit
from gemello.inference.scores import quantiles
from gemello.model.contract import Model
from gemello.model.schedule import DOSE, RESET_AND_DOSE, Schedule
from gemello.report.figures import at_times, middle, pairs, values_of
from gemello.report.words import number, percent, plural, with_unit
from gemello.twin.assess import Assessed
from gemello.twin.decide import Decision
from gemello.twin.forecast import Forecast
from gemello.twin.posterior import natural
from gemello.twin.twin import Twin


@dataclass(frozen=True)
class Table:
    """caption: what it shows. numeric: columns set to the right. marked: rows that stand out. note: below the table."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Holding:
    """How many held-back measurements of `output` lie in the central interval of probability `level`."""

    output: str
    level: float
    inside: int
    number: int


def holdings(forecast: Forecast, model: Model, held_back: Schedule) -> list[Holding]:
    """For every output that was measured later and every central interval, the widest first.

    Raises DataError where a held-back measurement lies at a time that was not forecast.
    """
    out = []
    for k, o in enumerate(model.outputs):
        t, y = values_of(held_back, k)
        if not len(t) or o.name not in forecast.outputs:
            continue
        at, here = at_times(forecast, t), forecast[o.name]
        q = (here.measurement or here.prediction).quantiles[:, at]
        for low, high in pairs(forecast.levels):
            inside = int(np.sum((y >= q[low]) & (y <= q[high])))
            out.append(Holding(o.name, forecast.levels[high] - forecast.levels[low], inside, len(y)))
    return out


def held_back_table(forecast: Forecast, model: Model, held_back: Schedule) -> Table:
    """Every held-back measurement beside its forecast."""
    rows, ranges = [], pairs(forecast.levels)
    for k, o in enumerate(model.outputs):
        t, y = values_of(held_back, k)
        if not len(t) or o.name not in forecast.outputs:
            continue
        at, f = at_times(forecast, t), forecast[o.name]
        b = f.measurement or f.prediction
        m = middle(forecast, b)
        for i, when, value in zip(at, t, y, strict=True):
            cells = [o.name, number(when), number(value), number(m[i], 3)]
            for low, high in ranges:
                a, z = b.quantiles[low, i], b.quantiles[high, i]
                cells += [f"{number(a, 3)} to {number(z, 3)}", "inside" if a <= value <= z else "outside"]
            rows.append(tuple(cells))
    unit = _units(model)
    columns = ["output", f"time ({forecast.time_unit})", f"measured{unit}", f"forecast median{unit}"]
    for low, high in ranges:
        share = percent(forecast.levels[high] - forecast.levels[low])
        columns += [f"{share} interval{unit}", f"in the {share} interval?"]
    return Table("What was measured later, beside its forecast", tuple(columns), tuple(rows), frozenset({1, 2, 3}))


def _units(model: Model) -> str:
    """The unit of all measurable outputs in brackets, where they share one."""
    units = {o.unit for o in model.outputs if o.residual is not None}
    return f" ({units.pop()})" if len(units) == 1 else ""


def record_table(model: Model, s: Schedule, caption: str) -> Table:
    """What was done and measured, in order of time."""
    rows = []
    for i in range(len(s)):
        if s.evid[i] in (DOSE, RESET_AND_DOSE) and s.amount[i] > 0:
            port = model.ports[max(int(s.port[i]), 1) - 1]
            rate = ""
            if s.rate[i] > 0:
                speed = with_unit(s.rate[i], f"{port.unit}/{model.time_unit}")
                rate = f" at {speed}, over {with_unit(s.amount[i] / s.rate[i], model.time_unit)}"
            more = f", then {s.additional[i]} more every {number(s.interval[i])} {model.time_unit}" if s.additional[i] else ""
            rows.append((number(s.time[i]), f"{port.kind} into {port.name}", f"{with_unit(s.amount[i], port.unit)}{rate}{more}"))
        elif s.measured[i]:
            o = model.outputs[int(s.output[i])]
            rows.append((number(s.time[i]), f"measured {o.name}", with_unit(s.value[i], o.unit)))
    return Table(caption, (f"time ({model.time_unit})", "what", "value"), tuple(rows), frozenset({0}))


# ---- belief --------------------------------------------------------------------------------------------------------
def posterior_table(twin: Twin, level: float = 0.9) -> Table:
    """Individual parameters of the subject beside the population; what the data have taught of each."""
    p = twin.posterior
    units = twin.model.individual_units()
    edge = [0.5 - level / 2, 0.5, 0.5 + level / 2]
    prior = twin.history[0] if twin.history else p
    # the population with this subject's covariates of today: those may have come with the data
    population = natural(twin.model, prior.parameters, prior.draws, p.covariates)
    rows = []
    for k, name in enumerate(p.names):
        before = quantiles(population[name], edge, prior.weights)
        after = quantiles(p.individual[name], edge, p.weights)
        spread = float(p.weights @ (p.draws[:, k] - p.mean[k]) ** 2)
        learned = 1.0 - spread / float(p.parameters.omega[k, k])
        rows.append(
            (
                name,
                _description(twin.model, name),
                units[name],
                number(p.typical[name]),
                f"{number(before[0], 3)} to {number(before[2], 3)}",
                number(after[1]),
                f"{number(after[0], 3)} to {number(after[2], 3)}",
                number(p.individual_mode[name]),
                percent(learned) if learned > 0 else "none",
            )
        )
    share = percent(level)
    columns = (
        "parameter",
        "what it is",
        "unit",
        "typical subject",
        f"{share} of the population",
        "this subject, median",
        f"{share} interval",
        "most probable",
        "learned from the data",
    )
    note = (
        "Learned from the data: by how much the variance of the parameter (as eta) is smaller than between subjects. 0 %: "
        "the data say nothing of this subject beyond the population; 100 %: they say everything. "
        f"{plural(p.observations, 'measured value')}; {p.ess:.0f} effective of {len(p.weights)} draws."
    )
    return Table("Individual parameters beside the population", columns, tuple(rows), frozenset({3, 5, 7, 8}), note=note)


def _description(model: Model, name: str) -> str:
    """What the parameter is, without what only its typical value is (after a semicolon)."""
    return model.parameters[name].description.partition(";")[0] if name in model.parameters else ""


# ---- decision ------------------------------------------------------------------------------------------------------
def probability(a: Assessed) -> str:
    """A probability with its Monte Carlo standard error, in words."""
    return percent(a.probability) + (f" ± {percent(a.error, 1)}" if a.error >= 0.0005 else "")


def candidates_table(decision: Decision, most: int = 8) -> Table:
    """The best candidates, the chosen one marked."""
    table = sorted(decision.table, key=lambda a: (not a.feasible, -a.probability))
    shown = table[:most]
    if decision.chosen is not None and all(a is not decision.chosen for a in shown):
        shown = [*shown, decision.chosen]
    goals = [
        f"{e.label.split(' at least')[0].split(' at most')[0]}, median and 90 % interval"
        for e in (shown[0].expected if shown else ())
    ]
    risks = [f"risk of missing: {r.label} (limit {percent(r.limit)})" for r in (shown[0].risks if shown else ())]
    rows = []
    for a in shown:
        expected = [f"{number(e.median, 3)} ({number(e.low, 3)} to {number(e.high, 3)})" for e in a.expected]
        risk = [f"{percent(r.probability)}{'' if r.kept else ', too large'}" for r in a.risks]
        rows.append((a.candidate.label, probability(a), *expected, *risk))
    columns = ("candidate", "probability of meeting all goals (± Monte Carlo error)", *goals, *risks)
    marked = frozenset(i for i, a in enumerate(shown) if a is decision.chosen)
    note = f"The best {len(shown)} of {len(table)} candidates." if len(table) > len(shown) else ""
    return Table("Candidates", columns, tuple(rows), frozenset({1}), marked, note)


def reconsidered_table(decisions: Mapping[str, Decision], reference: str) -> Table:
    """The same question with other information: what would be chosen, and what is then thought of the present choice."""
    now = decisions[reference].chosen
    rows = []
    for name, d in decisions.items():
        same = next((a for a in d.table if now is not None and a.candidate.label == now.candidate.label), None)
        choice = d.chosen.candidate.label if d.chosen is not None else f"refused: {d.refused}"
        rows.append(
            (name, choice, probability(d.chosen) if d.chosen is not None else "–", probability(same) if same is not None else "–")
        )
    label = now.candidate.label if now is not None else "the present choice"
    marked = frozenset(i for i, n in enumerate(decisions) if n == reference)
    columns = ("what is known", "recommended", "probability of meeting all goals", f"the same for {label}")
    return Table("The same question with less and with more information", columns, tuple(rows), frozenset({2, 3}), marked)


# ---- fit -----------------------------------------------------------------------------------------------------------
def estimates_table(model: Model, fit: Fit, level: float | None = None, bootstrap: Bootstrap | None = None) -> Table:
    """Estimates with standard errors, relative ones, and what they mean. level: of a confidence interval (estimate ± z SE), where
    wanted; bootstrap: percentile interval beside it."""
    columns, rows = ["parameter", "what it is", "unit", "estimate", "SE", "RSE"], []
    z = float(ndtri(0.5 + level / 2)) if level is not None else 0.0
    ends = bootstrap.interval(level or 0.95) if bootstrap is not None else None
    columns += [f"{percent(level)} interval"] if level is not None else []
    columns += [f"{percent(level or 0.95)} by bootstrap"] if ends is not None else []
    for name in fit.names:
        value, se = fit.estimates[name], fit.se[name]
        what, unit = _meaning(model, name)
        relative = f"{number(100 * se / abs(value), 3)} %" if np.isfinite(se) and value else "–"
        cells = [name, what, unit, number(value), number(se, 3), relative]
        if level is not None:
            cells.append(f"{number(value - z * se)} to {number(value + z * se)}" if np.isfinite(se) else "–")
        if ends is not None and bootstrap is not None:
            k = bootstrap.names.index(name) if name in bootstrap.names else -1
            cells.append(f"{number(float(ends[0][k]))} to {number(float(ends[1][k]))}" if k >= 0 else "–")
        rows.append(tuple(cells))
    kinds = {"sandwich": "R⁻¹SR⁻¹ (sandwich)", "R": "R⁻¹ (inverse Hessian)", "S": "S⁻¹ (scores)", "posterior": "the posterior"}
    note = (
        f"SE: standard error, by {kinds.get(fit.covariance_type, 'no method: none could be had')}. RSE: relative to the estimate."
    )
    if level is not None:
        note += f" Interval: estimate ± {z:.2f} SE, which may leave the range of a parameter that is poorly known."
    return Table("Population estimates", tuple(columns), tuple(rows), frozenset(range(3, len(columns))), note=note)


def _meaning(model: Model, name: str) -> tuple[str, str]:
    if name in model.parameters:
        return model.parameters[name].description, model.parameters[name].unit
    if name.startswith("OCCASION("):
        return f"variance between occasions of {name[9:-1].split(',', maxsplit=1)[0]}", ""
    if name.startswith("OMEGA("):
        a, b = name[6:-1].split(",")
        kind = model.parameters[a].distribution if a in model.parameters else ""
        if a != b:
            return f"covariance of the etas of {a} and {b}", "1" if kind != "normal" else ""
        return f"variance between subjects of {a} ({kind or 'eta'})", "1" if kind in ("lognormal", "logitnormal") else ""
    return "", ""


def shrinkage_table(fit: Fit) -> Table:
    """Standard deviation between subjects and shrinkage of each eta."""
    sd = np.sqrt(np.diag(fit.omega))
    rows = tuple((n, number(s), percent(fit.shrinkage[n], 1)) for n, s in zip(fit.etas, sd, strict=True))
    note = "Shrinkage: 1 − SD(η̂)/ω. Above about 30 % plots of etas against covariates mislead."
    return Table(
        "Variation between subjects",
        ("parameter", "standard deviation of eta (ω)", "shrinkage"),
        rows,
        frozenset({1, 2}),
        note=note,
    )


def fit_summary(fit: Fit) -> Table:
    """Method, data, objective, convergence."""
    rows = [
        ("method", fit.method.upper()),
        ("subjects", str(len(fit.ids))),
        ("measured values", str(fit.observations)),
        *([("values known only to lie beyond a limit", str(fit.censored))] if getattr(fit, "censored", 0) else []),
        ("objective (−2 ln L without constants)", number(fit.objective, 7)),
        ("converged", "yes" if fit.converged else f"NO: {fit.message}"),
        ("iterations", str(fit.iterations)),
    ]
    rows += [("left out", f"{i}: {why}") for i, why in fit.excluded]
    return Table("The fit", ("", "value"), tuple(rows))


# ---- where it comes from -------------------------------------------------------------------------------------------
_NAMES = {
    "model": "model",
    "model_version": "model version",
    "parameter_hash": "hash of the parameters",
    "data_hash": "hash of the data",
    "seed": "seed",
    "gemello": "gemello",
    "jax": "JAX",
    "numpy": "NumPy",
    "python": "Python",
    "platform": "platform",
    "created": "made (UTC)",
}


def provenance_table(stamps: Mapping[str, Provenance | Mapping[str, Any] | None]) -> Table:
    """Provenance of each result, side by side."""
    plain = {k: v.to_dict() if isinstance(v, Provenance) else dict(v) for k, v in stamps.items() if v}
    rows = []
    for key, name in _NAMES.items():
        cells = ["" if v.get(key) is None else str(v[key]) for v in plain.values()]
        if any(cells):
            rows.append((name, *(c or "–" for c in cells)))
    return Table("Provenance", ("", *plain), tuple(rows))


def sources_table(model: Model, names: Sequence[str] | None = None) -> Table:
    """Parameter table of the model: values as shipped, with their sources. names: only these."""
    rows = tuple(
        (r.name, r.description, number(r.value), r.unit, r.source) for r in model.parameters if names is None or r.name in names
    )
    return Table(
        f"Parameter table of {model.name} {model.version}",
        ("parameter", "what it is", "value", "unit", "source"),
        rows,
        frozenset({2}),
    )
