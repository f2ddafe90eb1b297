"""Effect compartment: the model effect_compartment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from gemello.domains.pharmacology.effect_compartment import equations
from gemello.domains.pharmacology.effect_compartment.observe import OUTPUTS, observe
from gemello.domains.pharmacology.linear_pk import dose_ports
from gemello.domains.pharmacology.pharmacodynamics import oral_balance
from gemello.model.card import Card
from gemello.model.contract import Balance, Model, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent


@final
class EffectCompartment(Model):
    """Linear in its states, so solved by the matrix exponential; the effect is read from the effect site."""

    name = "effect_compartment"
    version = "1.0"
    time_unit = "h"
    states = {"depot": "mg", "central": "mg", "site": "mg/L"}  # noqa: RUF012  (declared once, never changed)
    outputs = OUTPUTS
    ports = dose_ports("depot", "central")
    parameters = ParameterTable.read(_HERE / "parameters.csv")
    card = Card.read(_HERE / "CARD.md")

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return equations.derivative(y, p)

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        return equations.matrix(p)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe(y, p)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return oral_balance(t, y, p, u)


effect_compartment = EffectCompartment()
