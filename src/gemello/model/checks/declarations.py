"""What a model says about itself: is it complete, and does it hold together?"""

from __future__ import annotations

import math

import numpy as np

from gemello.base.units import check_unit
from gemello.model.card import SECTIONS, Card
from gemello.model.checks.common import demand
from gemello.model.checks.probe import Probe
from gemello.model.simulate import METHODS


def identity(x: Probe) -> str:
    m = x.model
    for field in ("name", "version", "time_unit"):
        demand(isinstance(getattr(m, field, None), str) and getattr(m, field).strip(), f"no {field}; give one in words")
    check_unit(m.time_unit, "time_unit")
    demand(m.states and m.outputs, "no states or no outputs; declare what the equations move and what can be measured")
    demand(m.default_method() in METHODS, f"method {m.method!r}; use one of {', '.join(METHODS)}")
    return f"{m.name} {m.version}, time in {m.time_unit}, method {m.default_method()}"


def card(x: Probe) -> str:
    card = getattr(x.model, "card", None)
    demand(isinstance(card, Card), "no card; write a CARD.md and give card = Card.read(path)")
    missing = [s for s in SECTIONS if not card.sections.get(s, "").strip()]  # type: ignore[union-attr]
    demand(not missing, f"no section {', '.join(missing)}; add the heading and its text")
    return card.title  # type: ignore[union-attr]


def parameter_table(x: Probe) -> str:
    table = x.model.parameters
    for r in table:
        check_unit(r.unit, f"parameter {r.name}")
        demand(
            math.isfinite(r.value) and r.lower <= r.value <= r.upper,
            f"{r.name}: value {r.value:g} outside [{r.lower:g}, {r.upper:g}]",
        )
        demand(r.source.strip(), f"{r.name}: no source; say where the value comes from")
        demand(r.description.strip(), f"{r.name}: no description; say what it is")
        demand(r.kind != "residual" or r.lower >= 0, f"{r.name}: a standard deviation below 0 is allowed; set lower to 0")
        low, high = {"lognormal": (0, math.inf), "logitnormal": (0, 1)}.get(r.distribution, (-math.inf, math.inf))
        demand(
            low <= r.lower and r.upper <= high,
            f"{r.name}: {r.distribution}, but values outside [{low:g}, {high:g}] are allowed; narrow the range",
        )
    if table.eta_names:
        smallest = float(np.linalg.eigvalsh(np.array(table.omega())).min())
        demand(smallest > -1e-12, f"OMEGA is not positive semidefinite (eigenvalue {smallest:.2g}); look at the covariances")
    return f"{len(table.rows)} rows, {len(table.eta_names)} vary between subjects"


def declarations(x: Probe) -> str:
    m, names = x.model, set(x.model.individual_units())
    for q in m.ports:
        demand(q.kind in ("dose", "signal"), f"port {q.name}: kind {q.kind!r}; use dose or signal")
        demand(
            q.kind == "signal" or q.state in m.states, f"port {q.name}: no state {q.state!r}; use one of {', '.join(m.states)}"
        )
        for field in ("bioavailability", "lag", "duration", "rate"):
            n = getattr(q, field)
            demand(
                n is None or n in names,
                f"port {q.name}: {field} {n!r} is no individual parameter; add it to the table or to individuals",
            )
    used = [n for o in m.outputs if o.residual for n in o.residual.names]
    for n in used:
        demand(n in m.parameters.residual_names, f"residual {n!r} is no row of kind residual; add it to the table")
    unused = set(m.parameters.residual_names) - set(used)
    demand(not unused, f"residual rows without output: {', '.join(sorted(unused))}; name them in an Output or take them out")
    for n in (*m.parameters.eta_names, *m.parameters.occasion_names):
        demand(n in names, f"{n} varies between subjects but is no individual parameter; add it to individuals")
    for n in m.accumulators:
        demand(n in m.states, f"accumulator {n!r} is no state")
    for c in m.covariates:
        inside = c.possible[0] <= c.lower <= c.reference <= c.upper <= c.possible[1]
        demand(inside, f"covariate {c.name}: possible, lower, reference and upper are not in order")
        demand(not c.categorical or c.reference in c.categorical, f"covariate {c.name}: reference {c.reference:g} is no category")
    for what, all_names in (
        ("output", [o.name for o in m.outputs]),
        ("port", [q.name for q in m.ports]),
        ("covariate", [c.name for c in m.covariates]),
    ):
        demand(len(set(all_names)) == len(all_names), f"an {what} name is given twice: {', '.join(all_names)}")
    p = x.model.typical(x.theta({n: m.parameters[n].value for n in m.parameters.theta_names}), x.covariates)
    demand(
        getattr(p, "_fields", None) == m.individual_type._fields,
        f"typical gives {getattr(p, '_fields', type(p).__name__)}; declare these as individuals",
    )
    return f"{len(m.states)} states, {len(m.outputs)} outputs, {len(m.ports)} ports, {len(m.covariates)} covariates"
