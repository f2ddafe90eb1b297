"""The model `linear_course`: y = INTERCEPT + SLOPE t (Laird & Ware 1982, Biometrics 38:963)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from gemello.model.card import Card
from gemello.model.contract import Model, Output, Residual, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent


@final
class LinearCourse(Model):
    """One outcome that moves at the person's own rate."""

    name, version, time_unit = "linear_course", "1.0", "year"
    states = {"level": "1"}  # noqa: RUF012
    outputs = (Output("outcome", "1", Residual(additive="outcome_additive")),)
    parameters = ParameterTable.read(_HERE / "parameters.csv", covariances={("INTERCEPT", "SLOPE"): 0.05})
    card = Card.read(_HERE / "CARD.md")

    def initial(self, p: Any) -> State:
        return self.state_type(p.INTERCEPT)

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(p.SLOPE)

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, rates: self.state_type(y.level + (p.SLOPE + rates.level) * dt)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.level,)


linear_course = LinearCourse()
