"""One-compartment pharmacokinetics: the models pk1_iv and pk1_oral."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import LinearPK, table
from gemello.domains.pharmacology.one_compartment import equations
from gemello.domains.pharmacology.one_compartment.observe import OUTPUTS
from gemello.model.card import Card

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_NAMES = ("CL", "V")
_RESIDUAL = ("cp_additive", "cp_proportional")

iv = LinearPK(
    "pk1_iv",
    equations.intravenous,
    table(_HERE / "parameters.csv", 1, *_NAMES, *_RESIDUAL),
    _CARD,
    OUTPUTS,
    oral=False,
)
oral = LinearPK(
    "pk1_oral",
    equations.oral,
    table(_HERE / "parameters.csv", 2, *_NAMES, "KA", *_RESIDUAL),
    _CARD,
    OUTPUTS,
    oral=True,
)
