"""A drug in two compartments and its metabolite in one, linear (Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, ch. 2).

A fraction FM of the drug's clearance makes the metabolite, which has its own clearance CLM and volume VM. Amounts are in umol, so
that one molecule of the drug is one of the metabolite.
"""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Balance, State


def derivative(y: State, p: Any) -> State:
    """Depot, drug, peripheral drug and metabolite, umol/h."""
    absorbed, c = p.KA * y.depot, y.parent / p.V1
    exchange = p.Q * (c - y.peripheral / p.V2)
    return type(y)(
        -absorbed,
        absorbed - p.CL * c - exchange,
        exchange,
        p.FM * p.CL * c - p.CLM * (y.metabolite / p.VM),
    )


def matrix(p: Any) -> tuple[tuple[Any, ...], ...]:
    """System matrix of `derivative`, 1/h."""
    return (
        (-p.KA, 0.0, 0.0, 0.0),
        (p.KA, -(p.CL + p.Q) / p.V1, p.Q / p.V2, 0.0),
        (0.0, p.Q / p.V1, -p.Q / p.V2, 0.0),
        (0.0, p.FM * p.CL / p.V1, 0.0, -p.CLM / p.VM),
    )


def balance(y: State, p: Any) -> Balance:
    """Drug and metabolite are stored (umol); what is lost is the rest of the drug's clearance and the metabolite's (umol/h)."""
    lost = (1.0 - p.FM) * p.CL * (y.parent / p.V1) + p.CLM * (y.metabolite / p.VM)
    return Balance(y.depot + y.parent + y.peripheral + y.metabolite, lost)
