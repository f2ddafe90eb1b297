"""One compartment with Michaelis-Menten elimination: the models mm1_iv and mm1_oral."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from gemello.domains.pharmacology.linear_pk import dose_ports, table
from gemello.domains.pharmacology.michaelis_menten import equations
from gemello.domains.pharmacology.michaelis_menten.observe import OUTPUTS, observe
from gemello.model.card import Card
from gemello.model.contract import Balance, Model, State

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")


@final
class MichaelisMenten(Model):
    """Saturable elimination from one compartment, with (`oral`) or without an absorption depot."""

    time_unit = "h"
    version = "1.0"
    accumulators = ("auc",)
    outputs = OUTPUTS
    card = _CARD

    def __init__(self, name: str, *, oral: bool) -> None:
        entries = ("depot", "central") if oral else ("central",)
        own = ("VM", "KM", "V", "KA") if oral else ("VM", "KM", "V")
        self.name = name
        self.states = dict.fromkeys(entries, "mg") | {"auc": "mg*h/L"}
        self.ports = dose_ports(*entries)
        self.parameters = table(_HERE / "parameters.csv", len(entries), *own, "cp_additive", "cp_proportional")
        self._derivative = equations.derivative_oral if oral else equations.derivative_iv

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self._derivative(y, p)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe(y, p)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return equations.balance(y, p)


iv = MichaelisMenten("mm1_iv", oral=False)
oral = MichaelisMenten("mm1_oral", oral=True)
