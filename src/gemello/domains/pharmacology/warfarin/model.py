"""Warfarin: the models warfarin_pk and warfarin_pkpd."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import LinearPK, dose_ports, individual_units
from gemello.domains.pharmacology.pharmacodynamics import Equations, ResponseModel, oral_balance
from gemello.domains.pharmacology.warfarin import equations
from gemello.domains.pharmacology.warfarin.observe import BOTH, OUTPUTS, observe
from gemello.model.card import Card
from gemello.model.contract import Covariate
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_WEIGHT = Covariate("WT", "kg", 40.0, 102.0, 70.0, possible=(0.3, 700.0))
_PK = ParameterTable.read(_HERE / "parameters_pk.csv", covariances={("CL", "V"): 0.00681006})
_PKPD = ParameterTable.read(_HERE / "parameters_pkpd.csv", covariances={("CL", "V"): 0.00766313})

pk = LinearPK(
    "warfarin_pk",
    equations.constants,
    _PK,
    _CARD,
    OUTPUTS,
    oral=True,
    covariates=(_WEIGHT,),
    individuals=individual_units(_PK, without=("CL_WT", "V_WT")),
    typical=equations.typical,
)
pkpd = ResponseModel(
    "warfarin_pkpd",
    Equations(equations.derivative, observe, oral_balance, equations.before),
    _PKPD,
    _CARD,
    states={"depot": "mg", "central": "mg", "pca": "percent"},
    outputs=BOTH,
    ports=dose_ports("depot", "central"),
    covariates=(_WEIGHT,),
    individuals=individual_units(_PKPD, without=("CL_WT", "V_WT")),
    typical=equations.typical,
)
