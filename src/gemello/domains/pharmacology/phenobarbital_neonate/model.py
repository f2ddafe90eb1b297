"""Phenobarbital in neonates: the model pheno."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.linear_pk import LinearPK, individual_units
from gemello.domains.pharmacology.phenobarbital_neonate import equations
from gemello.domains.pharmacology.phenobarbital_neonate.observe import OUTPUTS
from gemello.model.card import Card
from gemello.model.contract import Covariate
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_PARAMETERS = ParameterTable.read(_HERE / "parameters.csv")

pheno = LinearPK(
    "pheno",
    equations.constants,
    _PARAMETERS,
    Card.read(_HERE / "CARD.md"),
    OUTPUTS,
    oral=False,
    covariates=(
        Covariate("WGT", "kg", 0.6, 3.6, 1.3, possible=(0.2, 10.0)),
        Covariate("APGR", "1", 1.0, 10.0, 7.0, possible=(0.0, 10.0)),
    ),
    individuals=individual_units(_PARAMETERS, without=("V_APGR",), CL="L/h", V="L"),
    typical=equations.typical,
)
