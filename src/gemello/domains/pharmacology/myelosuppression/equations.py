"""Semi-mechanistic myelosuppression: Friberg et al., J Clin Oncol 20:4713-4721, 2002, eq. 1-5, after two-compartment kinetics.

One proliferating compartment, three of maturation and the circulating cells, all turning over at ktr = 4/MTT; the drug slows
proliferation by Edrug, and a lack of circulating cells speeds it up by (CIRC0/Circ)^GAMMA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gemello.domains.pharmacology.pharmacodynamics import emax
from gemello.model.contract import Balance, State

Effect = Callable[[Any, Any], Any]  # (concentration, p) -> Edrug, 1
TRANSITS = ("transit1", "transit2", "transit3")


def linear(c: Any, p: Any) -> Any:
    """Edrug = SLOPE C."""
    return p.SLOPE * c


def saturable(c: Any, p: Any) -> Any:
    """Edrug = EMAX C/(EC50 + C)."""
    return p.EMAX * emax(c, p.EC50)


def derivative(effect: Effect) -> Callable[[Any, State, Any, Any], State]:
    """Amounts of drug (umol/h) and cells (10^9/L/h)."""

    def slope(t: Any, y: State, p: Any, u: Any) -> State:
        c = y.central / p.V1
        exchange = p.Q * (c - y.peripheral / p.V2)
        ktr = (len(TRANSITS) + 1.0) / p.MTT
        feedback = (p.CIRC0 / y.circulating) ** p.GAMMA
        return type(y)(
            -p.CL * c - exchange,
            exchange,
            ktr * y.proliferating * ((1.0 - effect(c, p)) * feedback - 1.0),
            ktr * (y.proliferating - y.transit1),
            ktr * (y.transit1 - y.transit2),
            ktr * (y.transit2 - y.transit3),
            ktr * (y.transit3 - y.circulating),
        )

    return slope


def baseline(p: Any) -> Mapping[str, Any]:
    """Cells before any drug: CIRC0 in every compartment."""
    return dict.fromkeys(("proliferating", *TRANSITS, "circulating"), p.CIRC0)


def balance(t: Any, y: State, p: Any, u: Any) -> Balance:
    """The drug is stored in both compartments (umol); CL·C is its way out (umol/h)."""
    return Balance(y.central + y.peripheral, p.CL * (y.central / p.V1))
