"""Michaelis-Menten elimination from one or two compartments: the models mm1_iv, mm1_oral, mm2_iv and mm2_oral."""

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
    """Saturable elimination from the central compartment, with (`oral`) or without an absorption depot, and with or without a
    peripheral compartment."""

    time_unit = "h"
    version = "1.1"
    accumulators = ("auc",)
    outputs = OUTPUTS
    card = _CARD

    def __init__(self, name: str, *, oral: bool, peripheral: bool = False) -> None:
        entries = ("depot", "central") if oral else ("central",)
        own = ("VM", "KM", *(("V1", "Q", "V2") if peripheral else ("V",)), *(("KA",) if oral else ()))
        self.name = name
        self.states = dict.fromkeys((*entries, *(("peripheral",) if peripheral else ())), "mg") | {"auc": "mg*h/L"}
        self.ports = dose_ports(*entries)
        self.parameters = table(_HERE / "parameters.csv", len(entries), *own, "cp_additive", "cp_proportional")

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return equations.derivative(y, p)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe(y, p)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return equations.balance(y, p)


iv = MichaelisMenten("mm1_iv", oral=False)
oral = MichaelisMenten("mm1_oral", oral=True)
two_iv = MichaelisMenten("mm2_iv", oral=False, peripheral=True)
two_oral = MichaelisMenten("mm2_oral", oral=True, peripheral=True)
