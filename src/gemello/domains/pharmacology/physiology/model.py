"""Whole-body models: pbpk_wholebody (Kp given), pbpk_poulin and pbpk_rodgers (Kp from physico-chemistry), pbpk_mavoglurant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from gemello.domains.pharmacology.linear_pk import dose_ports, port_names
from gemello.domains.pharmacology.physiology import equations, observe, partition
from gemello.domains.pharmacology.physiology.anatomy import Body, Reference, composition
from gemello.model.card import Card
from gemello.model.contract import Balance, Covariate, Model, Output, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
_DRUG = ("CLINT", "FU", "BP", "KP_SCALE")
_ERRORS = ("cp_additive", "cp_proportional")
GFR_REFERENCE = 120.0  # mL/min; secretion is proportional to GFR/this
L_PER_H = 0.06  # L/h in one mL/min

ICRP = Reference((60.0, 73.0), (354.0, 390.0), 0.75, "ICRP 89 Table 2.9 and 2.39 (5.9 and 6.5 L/min); exponent assumed")
WHITE = Reference(
    (100.0, 100.0), (187.0 * 100.0**0.81 * L_PER_H,) * 2, 0.81, "White 1968, as in Elmokadem 2023: 187 WT^0.81 mL/min"
)
ADULT = Body.read(_HERE / "physiology.csv", ICRP)
VOLUNTEER = Body.read(_HERE / "physiology_mavoglurant.csv", WHITE, renal=False, oral=False)
POULIN = composition(_HERE / "composition_poulin.csv")
RODGERS = composition(_HERE / "composition_rodgers.csv")
LIVER_REFERENCE = next(o.volume[1] for o in ADULT.table if o.name == "liver")  # L, that CLINT refers to

Coefficients = Callable[[Any], Mapping[str, Any]]  # theta -> Kp by organ
Typical = Callable[[Any, Any], Mapping[str, Any]]  # theta, covariates -> individual parameters that are not theta's own


@final
class WholeBody(Model):
    """A body of perfusion-limited organs; `typical` gives volumes, flows and partition coefficients among others."""

    time_unit = "h"
    version = "1.0"
    accumulators = ("auc",)

    def __init__(
        self,
        name: str,
        body: Body,
        parameters: ParameterTable,
        typical: Typical,
        outputs: tuple[Output, ...],
        covariates: tuple[Covariate, ...],
    ) -> None:
        entries = ("lumen", "venous") if body.oral else ("venous",)
        amounts = (*(("lumen",) if body.oral else ()), *body.organs, "arterial", "venous")
        own = (*_DRUG, *(("GFR_FRACTION", "CLSEC") if body.renal else ()), *(("KA",) if body.oral else ()))
        self.name, self.body, self.parameters, self.card = name, body, parameters, _CARD
        self.states = dict.fromkeys(amounts, "mg") | {"auc": "mg*h/L"}
        self.ports = dose_ports(*entries)
        self.outputs, self.covariates = outputs, covariates
        self.individuals = {
            **body.units,
            **{f"KB_{n.upper()}": "1" for n in body.organs},
            **({"GFR": "L/h"} if body.renal else {}),
            **{n: parameters[n].unit for n in (*own, *port_names(len(entries)))},
        }
        self._typical = typical

    def typical(self, theta: Any, cov: Any) -> Any:
        own = self._typical(theta, cov)
        return self.individual_type(*(own[n] if n in own else getattr(theta, n) for n in self.individual_type._fields))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return equations.derivative(y, p, self.body)

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        return equations.matrix(tuple(self.states), p, self.body)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe.observe(y, p)

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return equations.balance(y, p, self.body)


# ---- adults ----------------------------------------------------------------------------------------------------------
def adult(coefficients: Coefficients) -> Typical:
    """Body of an adult by weight, sex and GFR; CLint grows with the liver, secretion with GFR; Kb = Kp/(B:P)."""

    def typical(theta: Any, cov: Any) -> dict[str, Any]:
        own = ADULT.scaled(cov.WT, cov.SEX, theta.CO_FACTOR)
        own |= {f"KB_{n.upper()}": k / theta.BP for n, k in coefficients(theta).items()}
        own["CLINT"] = theta.CLINT * own["V_LIVER"] / LIVER_REFERENCE
        own["CLSEC"] = theta.CLSEC * cov.GFR / GFR_REFERENCE
        return own | {"GFR": cov.GFR * L_PER_H}

    return typical


def _given(theta: Any) -> dict[str, Any]:
    return {n: getattr(theta, f"KP_{n.upper()}") for n in ADULT.organs}


def _by_poulin(theta: Any) -> dict[str, Any]:
    return partition.poulin_theil(theta.LOGP, theta.PKA_ACID, theta.PKA_BASE, theta.FU, POULIN)


def _by_rodgers(theta: Any) -> dict[str, Any]:
    return partition.rodgers_rowland(theta.LOGP, theta.PKA_ACID, theta.PKA_BASE, theta.FU, theta.BP, theta.HEMATOCRIT, RODGERS)


def _adult(name: str, coefficients: Coefficients, *inputs: str) -> WholeBody:
    rows = (*_DRUG, "GFR_FRACTION", "CLSEC", "KA", "CO_FACTOR", *inputs, *port_names(2), *_ERRORS)
    covariates = (
        Covariate("WT", "kg", 45.0, 120.0, 70.0, possible=(20.0, 400.0)),
        Covariate("SEX", "1", 0.0, 1.0, 1.0, possible=(0.0, 1.0), categorical=(0.0, 1.0)),
        Covariate("GFR", "mL/min", 15.0, 150.0, GFR_REFERENCE, possible=(0.0, 300.0)),
    )
    table = ParameterTable.read(_HERE / "parameters.csv", only=rows)
    return WholeBody(name, ADULT, table, adult(coefficients), observe.OUTPUTS, covariates)


wholebody = _adult("pbpk_wholebody", _given, *(f"KP_{n.upper()}" for n in ADULT.organs))
poulin = _adult("pbpk_poulin", _by_poulin, "LOGP", "PKA_ACID", "PKA_BASE")
rodgers = _adult("pbpk_rodgers", _by_rodgers, "LOGP", "PKA_ACID", "PKA_BASE", "HEMATOCRIT")


# ---- mavoglurant -----------------------------------------------------------------------------------------------------
def _volunteer(theta: Any, cov: Any) -> dict[str, Any]:
    return VOLUNTEER.scaled(cov.WT, 1.0, 1.0)


mavoglurant = WholeBody(
    "pbpk_mavoglurant",
    VOLUNTEER,
    ParameterTable.read(_HERE / "parameters_mavoglurant.csv"),
    _volunteer,
    observe.LOGNORMAL,
    (Covariate("WT", "kg", 61.9, 103.5, 78.9, possible=(20.0, 400.0)),),
)
