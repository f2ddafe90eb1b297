"""What pharmacodynamic and mechanistic models share: drug effects, the drug's kinetics, the class that meets the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from gemello.model.card import Card
from gemello.model.contract import Balance, Covariate, Model, Output, Port, State
from gemello.model.parameters import ParameterTable

_LEAST = 1e-30  # concentration over EC50 that counts as none: keeps the logarithm, and so every derivative, finite


# ---- drug effects ----------------------------------------------------------------------------------------------------
def emax(concentration: Any, half: Any) -> Any:
    """C/(C50 + C): share of the largest effect (1)."""
    return concentration / (half + concentration)


def sigmoid_emax(concentration: Any, half: Any, steepness: Any) -> Any:
    """C^γ/(C50^γ + C^γ): share of the largest effect (Hill equation; 1). Exact 0 derivative below 1e-30 C50."""
    return jax.nn.sigmoid(steepness * jnp.log(jnp.maximum(concentration / half, _LEAST)))


# ---- the drug --------------------------------------------------------------------------------------------------------
def oral(y: State, p: Any) -> tuple[Any, Any]:
    """Slopes of depot and central amount (mg/h): one compartment, first-order absorption and elimination (KA, CL, V)."""
    absorbed = p.KA * y.depot
    return -absorbed, absorbed - p.CL * (y.central / p.V)


def oral_balance(t: Any, y: State, p: Any, u: Any) -> Balance:
    """The drug in depot and central compartment is stored (mg); CL·C is its way out (mg/h)."""
    return Balance(y.depot + y.central, p.CL * (y.central / p.V))


# ---- the contract ----------------------------------------------------------------------------------------------------
class Equations(NamedTuple):
    """Equations of one model, each a function of (t, y, p, u) as `gemello.model.contract` has it; `initial` of p alone gives
    the states by name, those that are not 0."""

    derivative: Callable[[Any, State, Any, Any], State]
    observe: Callable[[Any, State, Any, Any], tuple[Any, ...]]
    balance: Callable[[Any, State, Any, Any], Balance]
    initial: Callable[[Any], Mapping[str, Any]] = lambda p: {}


@final
class ResponseModel(Model):
    """A model given by its equations and its tables, integrated by `method`.

    The default, Tsit5, is for equations that are not stiff; "auto" changes solvers by stiffness, and compiles both.
    """

    version = "1.0"

    def __init__(
        self,
        name: str,
        equations: Equations,
        parameters: ParameterTable,
        card: Card,
        *,
        states: Mapping[str, str],
        outputs: tuple[Output, ...],
        ports: tuple[Port, ...],
        time_unit: str = "h",
        method: str = "tsit5",
        covariates: tuple[Covariate, ...] = (),
        individuals: Mapping[str, str] | None = None,
        typical: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    ) -> None:
        self.name, self.parameters, self.card, self.time_unit, self.method = name, parameters, card, time_unit, method
        self.states, self.outputs, self.ports = dict(states), outputs, ports
        self.covariates, self.individuals = covariates, individuals
        self._equations, self._typical = equations, typical

    def typical(self, theta: Any, cov: Any) -> Any:
        own = {} if self._typical is None else self._typical(theta, cov)
        return self.individual_type(*(own[n] if n in own else getattr(theta, n) for n in self.individual_type._fields))

    def initial(self, p: Any) -> State:
        given, zero = self._equations.initial(p), p[0] * 0.0
        return self.state_type(*(given.get(n, zero) for n in self.states))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self._equations.derivative(t, y, p, u)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return self._equations.observe(t, y, p, u)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return self._equations.balance(t, y, p, u)
