"""The equations of a model file: which name means what where, in which order, in which units; and the programs they make.

Two sides. Before the etas, `[individual]` sees population parameters (theta) and covariates. After them, the dynamic equations
(derivatives, initial states, outputs, residual error) see individual parameters, and the first three also states, signals and
time. A definition means what its names mean on the side where it is used. What the dynamic equations use of theta and of the
covariates becomes an individual parameter of the same name.
"""

from __future__ import annotations

import difflib
import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gemello.base.errors import ModelError
from gemello.model.dimensions import Unit, definition_kind, demand_unit, pure, unit_of
from gemello.model.expression import RESERVED, TIME, Function, Name, Node, Number, compiled, names, walk
from gemello.model.linear import NotLinearError, system_matrix
from gemello.model.textmodel import Program, Programs, StandardDeviation

PREDICTION = "f"
BEFORE, START, DURING, ERROR = "before the etas", "at the start", "during", "residual error"


@dataclass(frozen=True, eq=False)
class Equation:
    """One expression: its place in words, its tree, and the unit that is declared for it (None: none), also as it was written."""

    where: str
    tree: Node
    unit: Unit | None = None
    unit_text: str = ""

    @cached_property
    def names(self) -> frozenset[str]:
        """Names that it uses."""
        return names(self.tree)


@dataclass(frozen=True, eq=False)
class PortParameter:
    """A port's use of an individual parameter, with the unit that it must have."""

    where: str
    name: str
    unit: Unit


@dataclass(frozen=True, eq=False)
class Equations:
    """All expressions of a model file and the units of all names. `place`: the file, for messages."""

    place: str
    time: Unit
    theta: Mapping[str, Unit]
    residual: Mapping[str, Unit]
    covariates: Mapping[str, Unit]
    states: Mapping[str, Unit]
    signals: Mapping[str, Unit]
    varying: tuple[str, ...]  # parameters with a distribution
    definitions: Mapping[str, Equation]
    individual: Mapping[str, Equation]
    derivative: Mapping[str, Equation]
    initial: Mapping[str, Equation]
    outputs: Mapping[str, Equation]
    deviations: Mapping[str, Equation]  # output -> standard deviation
    port_parameters: tuple[PortParameter, ...]
    used_residuals: frozenset[str]  # by the standard forms of residual error

    # ---- which definitions lead to what ----------------------------------------------------------------------------------
    @cached_property
    def order(self) -> tuple[str, ...]:
        """Definitions, each after those that it uses. Raises ModelError for a circle."""
        graph = {n: [u for u in sorted(e.names) if u in self.definitions] for n, e in self.definitions.items()}
        try:
            return tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as e:
            circle = list(reversed(e.args[1]))
            raise ModelError(
                f"{self.definitions[circle[0]].where}: circular, {' needs '.join(circle)}; define one of them without the other"
            ) from None

    @cached_property
    def leaves(self) -> dict[str, frozenset[str]]:
        """What each definition depends on in the end: names that are no definitions."""
        found: dict[str, frozenset[str]] = {}
        for n in self.order:
            used = self.definitions[n].names
            found[n] = frozenset[str]().union(*(found.get(u, frozenset([u])) for u in used))
        return found

    def needed(self, equations: Iterable[Equation]) -> tuple[str, ...]:
        """Definitions that these equations need, in order."""
        wanted = {u for e in equations for u in e.names if u in self.definitions}
        for n in reversed(self.order):
            if n in wanted:
                wanted |= self.definitions[n].names & self.definitions.keys()
        return tuple(n for n in self.order if n in wanted)

    def ends(self, equations: Iterable[Equation]) -> frozenset[str]:
        """Names that are no definitions, on which these equations depend."""
        used = frozenset[str]().union(*(e.names for e in equations))
        return frozenset[str]().union(*(self.leaves.get(u, frozenset([u])) for u in used))

    # ---- the sides -------------------------------------------------------------------------------------------------------
    @cached_property
    def sides(self) -> dict[str, tuple[Equation, ...]]:
        return {
            BEFORE: tuple(self.individual.values()),
            START: tuple(self.initial.values()),
            DURING: (*self.derivative.values(), *self.outputs.values()),
            ERROR: tuple(self.deviations.values()),
        }

    @cached_property
    def after(self) -> tuple[Equation, ...]:
        """All equations that see individual parameters."""
        return (*self.sides[START], *self.sides[DURING], *self.sides[ERROR])

    @cached_property
    def implicit(self) -> tuple[str, ...]:
        """Theta and covariates that are individual parameters as they are."""
        used = self.ends(self.after) | {q.name for q in self.port_parameters}
        mine = [n for n in (*self.theta, *self.covariates) if n in used]
        return tuple(n for n in mine if n not in self.individual)

    @cached_property
    def individuals(self) -> dict[str, Unit]:
        """Individual parameters and their units: the table's in its order, then new ones, then covariates."""
        own = {n: _declared(e, self.before_units) for n, e in self.individual.items()}
        rows = {n: own[n] if n in own else self.theta[n] for n in self.theta if n in own or n in self.implicit}
        return rows | own | {n: u for n, u in self.covariates.items() if n in self.implicit}

    # ---- units -------------------------------------------------------------------------------------------------------------
    @cached_property
    def before_units(self) -> dict[str, Any]:
        """Units of all that [individual] may use."""
        return self._with_definitions({**self.theta, **self.covariates}, self.needed(self.individual.values()))

    @cached_property
    def after_units(self) -> dict[str, Any]:
        """Units of all that the other equations may use."""
        base = {**self.theta, **self.covariates, **self.individuals, **self.states, **self.signals, TIME: self.time}
        before = self.needed(self.individual.values())
        unused = [Equation("", Name(n)) for n in self.order if n not in before]
        return self._with_definitions(base, self.needed([*self.after, *unused]))

    def _with_definitions(self, units: dict[str, Any], chosen: Iterable[str]) -> dict[str, Any]:
        for n in chosen:
            e = self.definitions[n]
            units[n] = definition_kind(e.tree, units, e.unit, e.where)
        return units


def _declared(e: Equation, units: Mapping[str, Any]) -> Unit:
    got = unit_of(e.tree, units, e.where)
    if e.unit is None:
        return pure() if got is None else got
    demand_unit(got, e.unit, e.where)
    return e.unit


# ---- checks ------------------------------------------------------------------------------------------------------------
def check(e: Equations) -> None:
    """Raise ModelError for a name that means nothing, twice something, or nothing to anybody; or a unit that does not balance."""
    _check_names(e)
    for definition in e.definitions.values():
        for u in sorted(definition.names):
            _meaning(e, u, None, definition.where)
    _ = e.order
    for side, equations in e.sides.items():
        fine: set[str] = set()
        for q in equations:
            for u in sorted(q.names - fine):
                _meaning(e, u, side, q.where)
                fine.add(u)
    for p in e.port_parameters:
        if p.name not in e.theta and p.name not in e.individual:
            known = (*e.theta, *e.individual)
            raise ModelError(f"{p.where}: no individual parameter {p.name!r}; {_near(p.name, known)}")
    _check_two_sided(e)
    _check_units(e)
    _check_used(e)


def _check_names(e: Equations) -> None:
    kinds = {
        "a parameter": (*e.theta, *e.residual), "a covariate": e.covariates, "a state": e.states, "a signal port": e.signals,
        "a definition": e.definitions,
    }  # fmt: skip
    seen: dict[str, str] = {}
    for kind, group in (*kinds.items(), ("an individual parameter", [n for n in e.individual if n not in e.theta])):
        for n in group:
            if n in RESERVED:
                raise ModelError(f"{e.place}: {kind} is called {n}, which is a word of the expressions; choose another name")
            if n in seen:
                raise ModelError(f"{e.place}: {n} is {seen[n]} and {kind}; give one of them another name")
            seen[n] = kind
    for q in e.deviations.values():
        if PREDICTION in seen:
            raise ModelError(f"{q.where}: f is the prediction here, and {seen[PREDICTION]}; give that another name")


def _meaning(e: Equations, name: str, side: str | None, where: str) -> None:
    """Raise ModelError unless `name`, or what is behind a definition of that name, may be used on this side."""
    if name in e.definitions:
        if side is not None:
            for leaf in sorted(e.leaves[name]):
                _meaning(e, leaf, side, f"{where}, by the definition {name}")
        return
    if side == ERROR and (name == PREDICTION or name in e.residual):
        return
    if name in e.residual:
        raise ModelError(f"{where}: {name} is a residual parameter; only residual errors may use it")
    if name in e.states or name in e.signals or name == TIME:
        if side in (None, DURING):
            return
        may = {
            BEFORE: "population parameters and covariates", START: "individual parameters",
            ERROR: f"the prediction {PREDICTION}, residual and individual parameters",
        }[side or ""]  # fmt: skip
        raise ModelError(f"{where}: {name} changes in time, but only {may} can be used here")
    if name in e.theta or name in e.covariates:
        return
    if name in e.individual:
        if side == BEFORE:
            raise ModelError(
                f"{where}: {name} is known only after its random effect; use population parameters and covariates, or write this "
                "in [definitions] for the equations to use"
            )
        return
    known = (*e.theta, *e.individual, *e.covariates, *e.definitions, *e.states, *e.signals, TIME)
    raise ModelError(f"{where}: unknown name {name!r}; {_near(name, known)}")


def _near(name: str, known: Iterable[str]) -> str:
    every = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, every, n=3, cutoff=0.6)
    folded = [k for k in every if k.lower() == name.lower()]
    found = list(dict.fromkeys([*folded, *close]))
    if found:
        return f"did you mean {' or '.join(found)}?"
    shortened = ", ".join(every[:20]) + (", …" if len(every) > 20 else "")
    return f"the names are {shortened}" if every else "there are no names"


def _check_two_sided(e: Equations) -> None:
    both = {*e.needed(e.individual.values())} & {*e.needed(e.after)}
    for n in e.order:
        double = sorted(e.leaves[n] & {*e.individual, *e.varying})
        if n in both and double:
            raise ModelError(
                f"{e.definitions[n].where}: {double[0]} means the population's value in [individual] and the individual's in the "
                "equations, and both use this definition; write two definitions"
            )
    for n, q in e.individual.items():
        for other in sorted(e.ends([q]) & {*e.varying} - {n}):
            raise ModelError(
                f"{q.where}: {other} is the population's here, without its random effect; use it in [definitions] or in the "
                "equations, where it is the individual's"
            )


def _check_used(e: Equations) -> None:
    before, after = e.ends(e.individual.values()), e.ends(e.after)
    for n in e.varying:
        if n not in e.individual and n not in e.implicit:
            raise ModelError(
                f"{e.place} [parameters] {n}: varies between subjects, but no equation uses it; use it in one or take it out"
            )
    used = before | after | {p.name for p in e.port_parameters} | {*e.varying}
    for n in e.theta:
        if n not in used:
            raise ModelError(f"{e.place} [parameters] {n}: never used; use it in an equation or take it out")
    for n in e.residual:
        if n not in after and n not in e.used_residuals:
            raise ModelError(f"{e.place} [parameters] {n}: never used; name it in the residual error of an output or take it out")


def _check_units(e: Equations) -> None:
    rate = {s: u / e.time for s, u in e.states.items()}
    units = e.after_units
    for group, wanted in ((e.derivative, rate), (e.initial, e.states)):
        for s, q in group.items():
            demand_unit(unit_of(q.tree, units, q.where), wanted[s], q.where)
    for n, q in e.outputs.items():
        _declared(q, units)
        if n in e.deviations:
            d = e.deviations[n]
            own = {**units, **e.residual, PREDICTION: d.unit}
            demand_unit(unit_of(d.tree, own, d.where), d.unit, d.where)
    for p in e.port_parameters:
        demand_unit(e.individuals[p.name], p.unit, f"{p.where}, {p.name}")


# ---- programs ----------------------------------------------------------------------------------------------------------
@dataclass(eq=False)
class Maker:
    """Compiles equations, each definition once."""

    equations: Equations
    made: dict[str, Function] = field(default_factory=dict)

    def program(self, wanted: Iterable[Equation]) -> Program:
        """The program whose results are these equations."""
        e, wanted = self.equations, list(wanted)
        steps = []
        for n in e.needed(wanted):
            if n not in self.made:
                self.made[n] = compiled(e.definitions[n].tree, e.definitions[n].where)
            steps.append((n, self.made[n]))
        return Program(tuple(steps), tuple(compiled(q.tree, q.where) for q in wanted))

    def programs(self) -> Programs:
        """All programs of the model."""
        e = self.equations
        typical = [e.individual.get(n) or Equation("", Name(n)) for n in e.individuals]
        initial = [e.initial.get(s) or Equation("", Number(0.0)) for s in e.states]
        return Programs(
            self.program(typical),
            self.program(initial) if e.initial else None,
            self.program(e.derivative.values()),
            self.program(e.outputs.values()),
            self._matrix(),
        )

    def deviation(self, output: str) -> tuple[StandardDeviation, tuple[str, ...]]:
        """Function of an output's standard deviation, and the residual parameters that it uses."""
        q = self.equations.deviations[output]
        used = tuple(n for n in self.equations.residual if n in self.equations.ends([q]))
        return StandardDeviation(self.program([q]), PREDICTION), used

    def _matrix(self) -> tuple[Program, tuple[tuple[int | None, ...], ...]] | None:
        e = self.equations
        forces, states = {TIME, *e.signals}, {*e.states}
        forcing = frozenset(forces | {n for n, leaves in e.leaves.items() if leaves & forces})
        moving = frozenset(n for n, leaves in e.leaves.items() if leaves & states)
        trees = {n: e.definitions[n].tree for n in e.order}
        try:
            rows = system_matrix({s: q.tree for s, q in e.derivative.items()}, trees, moving, forcing)
        except NotLinearError:
            return None
        entries: list[Equation] = []
        places = []
        for row in rows:
            places.append(
                tuple(None if a is None else len(entries) + sum(x is not None for x in row[:k]) for k, a in enumerate(row))
            )
            entries += [Equation(e.place, a) for a in row if a is not None]
        return self.program(entries), tuple(places)


def has_unit_literals(e: Equations) -> bool:
    """Whether a number with a unit stands in an equation that sees states: a change of base units would not reach it."""
    equations = (*e.sides[START], *e.sides[DURING])
    trees = [q.tree for q in equations] + [e.definitions[n].tree for n in e.needed(equations)]
    return any(isinstance(n, Number) and n.unit != "1" for t in trees for n in walk(t))
