"""Units: do they parse, and do the equations keep them?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from gemello.base.random import generator
from gemello.base.units import check_unit
from gemello.model.checks.common import demand, relative
from gemello.model.checks.probe import Point, Probe
from gemello.model.contract import Model

UNITS = 1e-9  # allowed deviation, relative to the largest over lanes


def units(x: Probe) -> str:
    m = x.model
    named = [("time", m.time_unit), *m.states.items(), *m.individual_units().items()]
    named += [(i.name, i.unit) for group in (m.outputs, m.ports, m.covariates) for i in group]
    for name, unit in named:
        check_unit(unit, name)
    for q in m.ports:
        given = None if q.kind == "signal" else m.states[q.state or ""]
        demand(
            given is None or _base(q.unit) == _base(given or ""),
            f"port {q.name} in {q.unit}, its state in {given}; give both the same unit",
        )
        for field, unit in (
            ("bioavailability", "1"),
            ("lag", m.time_unit),
            ("duration", m.time_unit),
            ("rate", f"({q.unit})/({m.time_unit})"),
        ):
            n = getattr(q, field)
            demand(n is None or _base(m.individual_units()[n]) == _base(unit), f"{field} {n} of port {q.name} must be in {unit}")
    return f"{len(named)} units"


def dimensions(x: Probe) -> str:
    """All base units are changed at once, as a change from gram to pound would: what the equations give must change with them."""
    reason = x.model.unit_literals
    if reason:
        return f"does not apply: {reason}"
    random = generator(1, "units")
    sizes = {d: float(random.uniform(0.2, 5.0)) for d in _dimensions_of(x.model)}
    _compare_units(x, lambda unit: _rescaled(unit, sizes), "the dimensions do not agree with the unit")
    _compare_units(
        x,
        lambda unit: _rescaled(unit, sizes) * _base(unit)[0],
        "the equation hides a conversion; make it a constant of the table, with its unit,",
    )
    return f"derivative and outputs follow a change of {', '.join(sorted(sizes)) or 'no unit'}, {UNITS:.0e} allowed"


def _compare_units(x: Probe, scale: Callable[[str], float], words: str) -> None:
    m, at = x.model, x.point
    p_units, signals = m.individual_units(), {q.name: q.unit for q in m.ports if q.kind == "signal"}
    turn = lambda values, units: values._make(v * scale(units[n]) for n, v in zip(values._fields, values, strict=True))  # noqa: E731
    moved = Point(at.t * scale(m.time_unit), turn(at.y, m.states), turn(at.p, p_units), turn(at.u, signals))
    rates = {n: f"({u})/({m.time_unit})" for n, u in m.states.items()}
    outputs = {o.name: o.unit for o in m.outputs}
    wanted = [("derivative", lambda a: m.derivative(*a), rates)] if m.has("derivative") else []
    wanted += [("initial", lambda a: m.initial(a.p), dict(m.states)), ("observe", lambda a: m.observe(*a), outputs)]
    for equation, f, units in wanted:
        for (name, unit), before, after in zip(units.items(), f(at), f(moved), strict=True):
            expected = np.asarray(before) * scale(unit)
            error = relative(np.asarray(after), expected) if np.any(expected) else float(np.abs(np.asarray(after)).max())
            demand(error <= UNITS, f"{equation}, {name}: {words} {unit} (off by {error:.1e}, {UNITS:.0e} allowed)")


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415  (0.2 s: only when a unit is looked at)

    return pint.UnitRegistry()


@cache
def _base(unit: str) -> tuple[float, str]:
    """Factor to base units (m, kg, s, ...), and the base unit in words."""
    size, base = _registry().get_base_units(_registry().Unit("dimensionless" if unit in ("", "1") else unit))
    return float(size), str(base)


@cache
def _powers(unit: str) -> Mapping[str, float]:
    return dict(_registry().Unit("dimensionless" if unit in ("", "1") else unit).dimensionality)


def _rescaled(unit: str, sizes: Mapping[str, float]) -> float:
    return math.prod(sizes[d] ** n for d, n in _powers(unit).items())


def _dimensions_of(m: Model) -> list[str]:
    every = [
        m.time_unit,
        *m.states.values(),
        *m.individual_units().values(),
        *(o.unit for o in m.outputs),
        *(q.unit for q in m.ports),
    ]
    return sorted({d for unit in every for d in _powers(unit)})
