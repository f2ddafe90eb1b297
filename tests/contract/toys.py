"""Small models that meet the contract; `test_kit` breaks them in one way at a time."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gemello.model.card import SECTIONS, Card
from gemello.model.contract import Balance, Covariate, Model, Output, Port, Propagator, Residual, State
from gemello.model.parameters import Parameter, ParameterTable


def row(name: str, value: float, unit: str, **more: Any) -> Parameter:
    return Parameter(name, value, unit, source="made up", description="of a toy", **more)


class Linear(Model):
    """One compartment with clearance by weight: closed form, matrix, balance, lag, bioavailability, covariate."""

    name, version, time_unit = "linear toy", "1", "h"
    states = {"a": "mg"}  # noqa: RUF012
    outputs = (Output("cp", "mg/L", Residual(proportional="b")),)
    ports = (Port("a", "mg", state="a", bioavailability="F1", lag="ALAG1"),)
    covariates = (Covariate("WT", "kg", 40.0, 120.0, 70.0),)
    individuals = {"CL": "L/h", "V": "L", "F1": "1", "ALAG1": "h"}  # noqa: RUF012
    parameters = ParameterTable((
        row("CL", 2.0, "L/h", distribution="lognormal", variance=0.1), row("V", 20.0, "L"), row("F1", 1.0, "1"),
        row("ALAG1", 0.0, "h"), row("b", 0.1, "1", kind="residual"),
    ))  # fmt: skip
    card = Card("Toy", dict.fromkeys(SECTIONS, "A toy."))

    def typical(self, theta: Any, cov: Any) -> Any:
        return self.individual_type(theta.CL * (cov.WT / 70.0) ** 0.75, theta.V, theta.F1, theta.ALAG1)

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(-p.CL / p.V * y.a)

    def propagator(self, p: Any) -> Propagator:
        k = p.CL / p.V

        def step(dt: Any, y: State, rates: State) -> State:
            e = jnp.exp(-k * dt)
            return self.state_type(y.a * e + rates.a * (1.0 - e) / k)

        return step

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        return ((-p.CL / p.V,),)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.a / p.V,)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return Balance(y.a, p.CL / p.V * y.a)


class Driven(Model):
    """A level relaxes to a signal: no dose port, no etas, no residual, no covariate; an adaptive solver."""

    name, version, time_unit = "driven toy", "1", "min"
    states = {"x": "mV"}  # noqa: RUF012
    outputs = (Output("x", "mV"),)
    ports = (Port("command", "mV", kind="signal"),)
    parameters = ParameterTable((row("tau", 3.0, "min"), row("start", -2.0, "mV", lower=-10.0, upper=10.0, kind="constant")))
    card = Linear.card
    tolerances = (1e-6, 1e-6)

    def initial(self, p: Any) -> State:
        return self.state_type(p.start)

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type((u.command - y.x) / p.tau)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.x,)


class Stepwise(Model):
    """Known by its steps alone: `advance`, a bolus, no derivative."""

    name, version, time_unit = "stepwise toy", "1", "day"
    states = {"n": "1"}  # noqa: RUF012
    outputs = (Output("n", "1", Residual(additive="sd")),)
    ports = (Port("added", "1", state="n"),)
    parameters = ParameterTable(
        (row("r", 0.3, "1/day", distribution="normal", variance=0.01, lower=-1.0), row("sd", 1.0, "1", kind="residual"))
    )
    card = Linear.card

    def initial(self, p: Any) -> State:
        return self.state_type(1.0 + 0.0 * p.r)

    def advance(self, t: Any, dt: Any, y: State, p: Any, u: Any) -> State:
        grown = y.n * jnp.exp(p.r * dt)
        return self.state_type(grown / (1.0 + 0.01 * (grown - y.n)))

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.n,)
