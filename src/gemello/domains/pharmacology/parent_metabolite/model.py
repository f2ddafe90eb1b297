"""A drug and its metabolite: the model parent_metabolite."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from gemello.domains.pharmacology.linear_pk import dose_ports
from gemello.domains.pharmacology.parent_metabolite import equations
from gemello.domains.pharmacology.parent_metabolite.observe import OUTPUTS, observe
from gemello.model.card import Card
from gemello.model.contract import Balance, Model, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent


@final
class ParentMetabolite(Model):
    """Linear in its states, so solved by the matrix exponential."""

    name = "parent_metabolite"
    version = "1.0"
    time_unit = "h"
    states = {"depot": "umol", "parent": "umol", "peripheral": "umol", "metabolite": "umol"}  # noqa: RUF012  (never changed)
    outputs = OUTPUTS
    ports = dose_ports("depot", "parent", unit="umol")
    parameters = ParameterTable.read(_HERE / "parameters.csv")
    card = Card.read(_HERE / "CARD.md")

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return equations.derivative(y, p)

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        return equations.matrix(p)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe(y, p)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return equations.balance(y, p)


parent_metabolite = ParentMetabolite()
