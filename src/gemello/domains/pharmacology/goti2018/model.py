"""Vancomycin after Goti et al. 2018: the model vancomycin_goti2018."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.goti2018 import equations
from gemello.domains.pharmacology.goti2018.observe import OUTPUTS
from gemello.domains.pharmacology.linear_pk import LinearPK, individual_units
from gemello.model.card import Card
from gemello.model.contract import Covariate
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_PARAMETERS = ParameterTable.read(_HERE / "parameters.csv")

vancomycin = LinearPK(
    "vancomycin_goti2018",
    equations.constants,
    _PARAMETERS,
    Card.read(_HERE / "CARD.md"),
    OUTPUTS,
    oral=False,
    peripherals=1,
    covariates=(
        Covariate("CLCREAT", "mL/min", 4.0, 150.0, 120.0, possible=(1.0, 400.0)),
        Covariate("WT", "kg", 33.0, 255.0, 70.0, possible=(0.3, 700.0)),
        Covariate("DIAL", "1", 0.0, 1.0, 0.0, possible=(0.0, 1.0), categorical=(0.0, 1.0)),
    ),
    individuals=individual_units(_PARAMETERS, without=("CL_CLCREAT", "CL_DIAL", "V1_DIAL")),
    typical=equations.typical,
)
