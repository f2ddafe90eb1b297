"""Indirect responses: the models indirect_1 to indirect_4 and turnover_emax."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.indirect_response import equations
from gemello.domains.pharmacology.indirect_response.equations import Slope
from gemello.domains.pharmacology.indirect_response.observe import OUTPUTS, observe
from gemello.domains.pharmacology.linear_pk import dose_ports, table
from gemello.domains.pharmacology.pharmacodynamics import Equations, ResponseModel, oral_balance
from gemello.model.card import Card

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_PK = ("KA", "CL", "V")
_RESIDUALS = ("cp_additive", "cp_proportional", "response_additive", "response_proportional")


def _model(name: str, slope: Slope, *own: str) -> ResponseModel:
    start = equations.at_baseline if "E0" in own else equations.at_rest
    return ResponseModel(
        name,
        Equations(equations.derivative(slope), observe, oral_balance, start),
        table(_HERE / "parameters.csv", 2, *_PK, *own, *_RESIDUALS),
        _CARD,
        states={"depot": "mg", "central": "mg", "response": "1"},
        outputs=OUTPUTS,
        ports=dose_ports("depot", "central"),
    )


indirect_1 = _model("indirect_1", equations.inhibited_production, "KIN", "KOUT", "IMAX", "IC50")
indirect_2 = _model("indirect_2", equations.inhibited_loss, "KIN", "KOUT", "IMAX", "IC50")
indirect_3 = _model("indirect_3", equations.stimulated_production, "KIN", "KOUT", "SMAX", "SC50")
indirect_4 = _model("indirect_4", equations.stimulated_loss, "KIN", "KOUT", "SMAX", "SC50")
turnover_emax = _model("turnover_emax", equations.turnover, "E0", "KOUT", "EMAX", "EC50", "GAMMA")
