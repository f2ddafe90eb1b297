"""What every model says about itself. Written before any implementation.

A model is equations plus names plus units. Equations are written as for one subject, with `jax.numpy`, on NamedTuples
whose entries are scalars; the engine calls them with entries of shape `(lanes,)`, so they must be elementwise.

Roles of the arguments:

    t      time, in `time_unit`
    y      state: NamedTuple with the names of `states`
    p      individual parameters: NamedTuple with the names of `individual_units()`, natural scale, in those units
    u      levels of the signal ports that hold now: NamedTuple with their names (empty for most models)
    theta  population parameters: NamedTuple with the names of the parameter table that are not residual
    cov    covariates: NamedTuple with the names of `covariates`

A model supplies `derivative` (mechanistic) or `advance` (discrete or learned). A linear model adds `propagator` (closed
form) or `matrix` (solved by the matrix exponential); the contract tests hold these against `derivative`. A model of ion channels
adds `relaxation`, and `coupling` for Markov channels: then its many stiff states are solved without their Jacobian.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from gemello.base.errors import ModelError
from gemello.model.card import Card
from gemello.model.parameters import ParameterTable, named

State = Any  # a NamedTuple of arrays, each (lanes,); its names differ by model
Propagator = Callable[[Any, State, State], State]  # (dt, y, rates) -> y after dt, rates constant meanwhile


@dataclass(frozen=True)
class Port:
    """A place where something enters the system.

    `kind="dose"`: amounts enter the state `state` (its unit is the state's), at once or at a constant rate; the engine
    adds the rate to the derivative, the equations do not. `kind="signal"`: a level that holds until it is set anew,
    seen by the equations as `u.<name>`. Ports are numbered from 1 in their order (NONMEM's CMT). The four last fields
    name individual parameters: fraction absorbed F, lag time, modelled duration (RATE −2) and modelled rate (RATE −1).
    """

    name: str
    unit: str
    kind: Literal["dose", "signal"] = "dose"
    state: str | None = None
    bioavailability: str | None = None
    lag: str | None = None
    duration: str | None = None
    rate: str | None = None


@dataclass(frozen=True)
class Residual:
    """Residual error of one output: names of residual parameters (standard deviations) and how they combine.

    With prediction f, additive a, proportional b and exponent c (default 1) the standard deviation is `a + b f^c` for
    "combined1" and `sqrt(a² + b² f^2c)` for "combined2"; "lognormal" is `sqrt(a² + b²)` on the log scale. Any other standard
    deviation is a function `sd(f, p, sigma)` of the prediction, the individual parameters (NamedTuple) and the residual
    parameters (by name), elementwise; `parameters` then names those that it uses.
    """

    additive: str | None = None
    proportional: str | None = None
    form: Literal["combined1", "combined2", "lognormal"] = "combined2"
    exponent: str | None = None
    sd: Callable[[Any, Any, Mapping[str, Any]], Any] | None = None
    parameters: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Residual parameters used."""
        return (*(n for n in (self.additive, self.proportional, self.exponent) if n), *self.parameters)


@dataclass(frozen=True)
class Output:
    """Something that can be measured: name, unit and residual error (None: never observed, only predicted)."""

    name: str
    unit: str
    residual: Residual | None = None


@dataclass(frozen=True)
class Covariate:
    """A property of the subject that the equations use, with the range of the population that the model was built on.

    Outside [lower, upper] a twin makes no decision (DomainError) unless told to; outside `possible` the value is refused.
    """

    name: str
    unit: str
    lower: float
    upper: float
    reference: float
    possible: tuple[float, float] = (0.0, float("inf"))
    categorical: tuple[float, ...] | None = None


class Balance(NamedTuple):
    """Declared conservation: `stored` (linear in the state) changes only by ports and by `outflow` (per time unit)."""

    stored: Any
    outflow: Any


class Model(abc.ABC):
    """The contract. Leaves of this class are final: wrap a model, do not derive from a leaf."""

    name: str
    version: str
    time_unit: str
    states: Mapping[str, str]  # name -> unit
    outputs: tuple[Output, ...]
    ports: tuple[Port, ...] = ()
    covariates: tuple[Covariate, ...] = ()
    individuals: Mapping[str, str] | None = None  # individual parameters and units, where they are not theta's own
    accumulators: tuple[str, ...] = ()  # states that only integrate others (an AUC): without a steady state, 0 after a reset
    parameters: ParameterTable
    card: Card
    unit_literals: str = ""  # why equations hold numbers with units (a fit of ion channels): they are not checked by rescaling
    coupled: tuple[tuple[str, ...], ...] = ()  # groups of states that hold one another, as `coupling` says
    method: str = "auto"  # auto, closed, expm, tsit5, rodas5p, rush_larsen, discrete
    tolerances: tuple[float, float] = (1e-6, 1e-8)  # relative, absolute (in the states' units)

    # ---- equations -------------------------------------------------------------------------------------------------
    def typical(self, theta: Any, cov: Any) -> Any:
        """Individual parameters of a typical subject (all etas 0) with these covariates. Default: theta itself."""
        return self.individual_type(*(getattr(theta, n) for n in self.individual_type._fields))

    def initial(self, p: Any) -> State:
        """State before the first event. Default: zero."""
        zero = p[0] * 0.0 if len(p) else 0.0
        return self.state_type(*(zero for _ in self.states))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        """Time derivative of the state, without what the dose ports bring."""
        raise NotImplementedError

    def propagator(self, p: Any) -> Propagator:
        """Closed form: a function (dt, y, rates) -> y(dt) for rates constant meanwhile; what depends on p alone is done once."""
        raise NotImplementedError

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        """System matrix A of y' = A y + rates, as rows of scalars (0.0 where structurally zero)."""
        raise NotImplementedError

    def relaxation(self, t: Any, y: State, p: Any, u: Any) -> State:
        """How fast each state by itself returns (1/time, at most 0), for the method rush_larsen: the diagonal of the derivative's
        Jacobian (for a gate −1/τ) or an estimate; 0.0 where the state is slow. Stability rests on it, not the solution."""
        raise NotImplementedError

    def coupling(self, t: Any, y: State, p: Any, u: Any) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        """For each group x of `coupled`, M of x' = M x as rows of scalars (1/time; 0.0 where structurally zero)."""
        raise NotImplementedError

    def advance(self, t: Any, dt: Any, y: State, p: Any, u: Any) -> State:
        """State after dt of a discrete or learned model."""
        raise NotImplementedError

    @abc.abstractmethod
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        """Outputs, as a NamedTuple or tuple in the order of `outputs`."""

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        """Declared conservation law; None where there is none."""
        return None

    # ---- derived; not to be overridden -----------------------------------------------------------------------------
    @cached_property
    def state_type(self) -> Any:
        return named("State", tuple(self.states))

    @cached_property
    def output_type(self) -> Any:
        return named("Outputs", tuple(o.name for o in self.outputs))

    @cached_property
    def signal_type(self) -> Any:
        return named("Signals", tuple(q.name for q in self.ports if q.kind == "signal"))

    @cached_property
    def covariate_type(self) -> Any:
        return named("Covariates", tuple(c.name for c in self.covariates))

    @cached_property
    def theta_type(self) -> Any:
        return named("Theta", self.parameters.theta_names)

    @cached_property
    def individual_type(self) -> Any:
        return named("Individual", tuple(self.individual_units()))

    def individual_units(self) -> Mapping[str, str]:
        """Individual parameters and their units."""
        if self.individuals is not None:
            return self.individuals
        return {n: self.parameters[n].unit for n in self.parameters.theta_names}

    def has(self, equation: str) -> bool:
        """Whether this model supplies the optional equation (`derivative`, `propagator`, `matrix`, `relaxation`, `coupling`,
        `advance`)."""
        return getattr(type(self), equation) is not getattr(Model, equation)

    def default_method(self) -> str:
        """The solver that `method` means: the most exact that the model allows where it says auto."""
        if self.method == "rush_larsen" and not self.has("relaxation"):
            raise ModelError(f"model {self.name}: method 'rush_larsen' without `relaxation`; write it, or take method 'auto'")
        if self.method != "auto":
            return self.method
        for equation, method in (("propagator", "closed"), ("matrix", "expm"), ("derivative", "auto"), ("advance", "discrete")):
            if self.has(equation):
                return method
        raise ModelError(f"model {self.name}: supplies neither derivative nor advance; write one of them")

    def output_index(self, name: str) -> int:
        """Position of the output `name`, or ModelError."""
        for i, o in enumerate(self.outputs):
            if o.name == name:
                return i
        known = ", ".join(o.name for o in self.outputs)
        raise ModelError(f"model {self.name}: no output {name!r}; it has {known}")
