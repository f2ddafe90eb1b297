"""Three-compartment pharmacokinetics: the models pk3_iv and pk3_oral."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import LinearPK, table
from gemello.domains.pharmacology.three_compartment import equations
from gemello.domains.pharmacology.three_compartment.observe import OUTPUTS
from gemello.model.card import Card

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_NAMES = ("CL", "V1", "Q2", "V2", "Q3", "V3")
_RESIDUAL = ("cp_additive", "cp_proportional")

iv = LinearPK(
    "pk3_iv",
    equations.intravenous,
    table(_HERE / "parameters.csv", 1, *_NAMES, *_RESIDUAL),
    _CARD,
    OUTPUTS,
    oral=False,
    peripherals=2,
)
oral = LinearPK(
    "pk3_oral",
    equations.oral,
    table(_HERE / "parameters.csv", 2, *_NAMES, "KA", *_RESIDUAL),
    _CARD,
    OUTPUTS,
    oral=True,
    peripherals=2,
)
