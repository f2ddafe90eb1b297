"""A model whose posterior is known exactly: a straight line with normal coefficients and additive normal error."""

from __future__ import annotations

from typing import Any

import numpy as np

from gemello.model.card import Card
from gemello.model.contract import Covariate, Model, Output, Port, Residual
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

A, B, SD = 2.0, -0.5, 0.7
OMEGA = np.array([[0.8, 0.15], [0.15, 0.1]])


class Line(Model):
    """level = a + b·t + what was put in; `area`, its rate of growth a per hour, is never measured."""

    name = "line"
    version = "1"
    time_unit = "h"
    states = {"clock": "1", "put": "mg", "grown": "mg"}  # noqa: RUF012
    outputs = (Output("level", "mg", Residual(additive="sd")), Output("area", "mg"))
    ports = (Port("put", "mg", state="put"),)
    covariates = (Covariate("WT", "kg", 40.0, 120.0, 70.0, possible=(1.0, 500.0)),)
    parameters = ParameterTable(
        (
            Parameter("a", A, "mg", -100.0, 100.0, distribution="normal", variance=OMEGA[0, 0]),
            Parameter("b", B, "mg/h", -100.0, 100.0, distribution="normal", variance=OMEGA[1, 1]),
            Parameter("sd", SD, "mg", kind="residual"),
        ),
        {("a", "b"): OMEGA[0, 1]},
    )
    card = Card("line", {})

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, r: self.state_type(y.clock + dt, y.put + r.put * dt, y.grown + p.a * dt)

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(1.0 + 0.0 * y.clock, 0.0 * y.put, p.a + 0.0 * y.put)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (p.a + p.b * y.clock + y.put, y.grown)


line = Line()


def exact(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior mean and covariance of the etas, and ln evidence, by the formulae of linear regression."""
    x = np.stack([np.ones_like(times), times], axis=1)
    r = values - (A + B * times)
    covariance = np.linalg.inv(np.linalg.inv(OMEGA) + x.T @ x / SD**2)
    marginal = x @ OMEGA @ x.T + SD**2 * np.eye(len(times))
    evidence = -0.5 * (r @ np.linalg.solve(marginal, r) + np.linalg.slogdet(2 * np.pi * marginal)[1])
    return covariance @ x.T @ r / SD**2, covariance, float(evidence)


def observed(times: np.ndarray, values: np.ndarray, who: str = "1") -> Subject:
    """A subject with these measurements, counted from a first record at 0."""
    start = Schedule.of(0.0, evid=2)
    return Subject(who, start.observe(times, values).covariates(WT=70.0))


def population() -> PopulationParameters:
    return PopulationParameters.of(line)
