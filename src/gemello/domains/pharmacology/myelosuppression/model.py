"""Myelosuppression: the models myelosuppression (linear drug effect) and myelosuppression_emax."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import dose_ports, table
from gemello.domains.pharmacology.myelosuppression import equations
from gemello.domains.pharmacology.myelosuppression.observe import OUTPUTS, observe
from gemello.domains.pharmacology.pharmacodynamics import Equations, ResponseModel
from gemello.model.card import Card

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_CELLS = ("proliferating", *equations.TRANSITS, "circulating")
_NAMES = ("CL", "V1", "Q", "V2", "CIRC0", "MTT", "GAMMA")
_RESIDUALS = ("circ_additive", "circ_proportional")


def _model(name: str, effect: equations.Effect, *own: str) -> ResponseModel:
    return ResponseModel(
        name,
        Equations(equations.derivative(effect), observe, equations.balance, equations.baseline),
        table(_HERE / "parameters.csv", 1, *_NAMES, *own, *_RESIDUALS),
        _CARD,
        states={"central": "umol", "peripheral": "umol"} | dict.fromkeys(_CELLS, "1/nL"),
        outputs=OUTPUTS,
        ports=dose_ports("central", unit="umol"),
    )


linear = _model("myelosuppression", equations.linear, "SLOPE")
saturable = _model("myelosuppression_emax", equations.saturable, "EMAX", "EC50")
