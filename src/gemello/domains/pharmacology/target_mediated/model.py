"""Target-mediated drug disposition: the model tmdd."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from gemello.domains.pharmacology.linear_pk import dose_ports
from gemello.domains.pharmacology.target_mediated import equations
from gemello.domains.pharmacology.target_mediated.observe import OUTPUTS, observe
from gemello.model.card import Card
from gemello.model.contract import Balance, Model, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent


@final
class TargetMediated(Model):
    """Full binding model in one volume; stiff, because binding is fast beside everything else."""

    name = "tmdd"
    version = "1.0"
    time_unit = "day"
    method = "rodas5p"
    states = {"drug": "nmol", "target": "nmol", "complex": "nmol"}  # noqa: RUF012  (declared once, never changed)
    outputs = OUTPUTS
    ports = dose_ports("drug", unit="nmol")
    parameters = ParameterTable.read(_HERE / "parameters.csv")
    card = Card.read(_HERE / "CARD.md")

    def initial(self, p: Any) -> State:
        return self.state_type(*equations.baseline(p))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return equations.derivative(y, p)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe(y, p)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return equations.balance(y, p)


tmdd = TargetMediated()
