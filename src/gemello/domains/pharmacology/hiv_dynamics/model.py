"""HIV dynamics: the model hiv_dynamics."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.hiv_dynamics import equations
from gemello.domains.pharmacology.hiv_dynamics.observe import OUTPUTS, observe
from gemello.domains.pharmacology.pharmacodynamics import Equations, ResponseModel
from gemello.model.card import Card
from gemello.model.contract import Port
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent

hiv_dynamics = ResponseModel(
    "hiv_dynamics",
    Equations(equations.derivative, observe, equations.balance, equations.set_point),
    ParameterTable.read(_HERE / "parameters.csv"),
    Card.read(_HERE / "CARD.md"),
    time_unit="day",
    states=dict.fromkeys(("target", "infected", "virus", "noninfectious"), "1/mL"),
    outputs=OUTPUTS,
    ports=(Port("treatment", "1", kind="signal"),),
)
