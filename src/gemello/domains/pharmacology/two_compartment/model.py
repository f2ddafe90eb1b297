"""Two-compartment pharmacokinetics: the models pk2_iv and pk2_oral."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import LinearPK, table
from gemello.domains.pharmacology.two_compartment import equations
from gemello.domains.pharmacology.two_compartment.observe import OUTPUTS
from gemello.model.card import Card

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_NAMES = ("CL", "V1", "Q", "V2")
_RESIDUAL = ("cp_additive", "cp_proportional")

iv = LinearPK(
    "pk2_iv",
    equations.intravenous,
    table(_HERE / "parameters.csv", 1, *_NAMES, *_RESIDUAL),
    _CARD,
    OUTPUTS,
    oral=False,
    peripherals=1,
)
oral = LinearPK(
    "pk2_oral",
    equations.oral,
    table(_HERE / "parameters.csv", 2, *_NAMES, "KA", *_RESIDUAL),
    _CARD,
    OUTPUTS,
    oral=True,
    peripherals=1,
)
