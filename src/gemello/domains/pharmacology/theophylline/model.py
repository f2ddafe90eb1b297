"""Theophylline: the models theoph_oral and theoph_fo."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import LinearPK, individual_units
from gemello.domains.pharmacology.theophylline import equations
from gemello.domains.pharmacology.theophylline.observe import OUTPUTS
from gemello.model.card import Card
from gemello.model.contract import Covariate
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_FO = ParameterTable.read(
    _HERE / "parameters_fo.csv",
    covariances={("KA", "KE"): 5.20983e-3, ("KA", "CL"): -0.128455, ("KE", "CL"): 9.10089e-3},
)

oral = LinearPK("theoph_oral", equations.oral, ParameterTable.read(_HERE / "parameters.csv"), _CARD, OUTPUTS, oral=True)
first_order = LinearPK(
    "theoph_fo",
    equations.first_order,
    _FO,
    _CARD,
    OUTPUTS,
    oral=True,
    covariates=(Covariate("WT", "kg", 54.6, 86.4, 70.0, possible=(0.3, 700.0)),),
    individuals=individual_units(_FO, CL="L/h"),
    typical=equations.typical_first_order,
)
