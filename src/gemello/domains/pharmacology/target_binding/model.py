"""Target-mediated drug disposition: the models tmdd_full and tmdd_qss."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import dose_ports, table
from gemello.domains.pharmacology.pharmacodynamics import Equations, ResponseModel
from gemello.domains.pharmacology.target_binding import equations, observe
from gemello.model.card import Card

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_NAMES = ("KA", "CL", "V1", "Q", "V2", "KINT", "KSYN", "KDEG")
_RESIDUALS = ("free_additive", "free_proportional")
_PORTS = dose_ports("depot", "drug", unit="nmol")

full = ResponseModel(
    "tmdd_full",
    Equations(equations.full, observe.full, equations.full_balance, equations.baseline),
    table(_HERE / "parameters.csv", 2, *_NAMES, "KON", "KOFF", *_RESIDUALS),
    _CARD,
    time_unit="day",
    states=dict.fromkeys(("depot", "drug", "peripheral", "target", "complex"), "nmol"),
    outputs=observe.OUTPUTS,
    ports=_PORTS,
    method="rodas5p",
)
quasi_steady_state = ResponseModel(
    "tmdd_qss",
    Equations(equations.quasi_steady_state, observe.quasi_steady_state, equations.quasi_balance, equations.baseline),
    table(_HERE / "parameters.csv", 2, *_NAMES, "KSS", *_RESIDUALS),
    _CARD,
    time_unit="day",
    states=dict.fromkeys(("depot", "drug", "peripheral", "target"), "nmol"),
    outputs=observe.OUTPUTS,
    ports=_PORTS,
    method="rodas5p",
)
