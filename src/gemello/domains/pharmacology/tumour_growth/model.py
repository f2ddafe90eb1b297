"""Tumour growth: the models tumour_simeoni and tumour_claret."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import dose_ports
from gemello.domains.pharmacology.pharmacodynamics import Equations, ResponseModel, oral_balance
from gemello.domains.pharmacology.tumour_growth import equations, observe
from gemello.model.card import Card
from gemello.model.contract import Port
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")

simeoni = ResponseModel(
    "tumour_simeoni",
    Equations(equations.simeoni, observe.simeoni, oral_balance, equations.inoculum),
    ParameterTable.read(_HERE / "parameters_simeoni.csv"),
    _CARD,
    time_unit="day",
    states={"depot": "mg", "central": "mg"} | dict.fromkeys(equations.CELLS, "cm**3"),
    outputs=observe.SIMEONI,
    ports=dose_ports("depot", "central"),
)
claret = ResponseModel(
    "tumour_claret",
    Equations(equations.claret, observe.claret, equations.claret_balance, equations.first_size),
    ParameterTable.read(_HERE / "parameters_claret.csv"),
    _CARD,
    time_unit="week",
    states={"size": "mm"},
    outputs=observe.CLARET,
    ports=(Port("exposure", "g", kind="signal"),),
)
