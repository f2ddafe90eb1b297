"""Michaelis-Menten elimination (Gibaldi & Perrier 1982, ch. 7) from one compartment, or from the first of two (ch. 2 and 7)."""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Balance, State


def volume(p: Any) -> Any:
    """Volume of the central compartment, L: V, or V1 beside a peripheral one."""
    return p.V1 if "V1" in p._fields else p.V


def elimination(y: State, p: Any) -> Any:
    """Elimination rate VM·C/(KM + C), mg/h."""
    concentration = y.central / volume(p)
    return p.VM * concentration / (p.KM + concentration)


def derivative(y: State, p: Any) -> State:
    """Amounts in depot, central and peripheral compartment, as far as the model has them (mg/h), and area under the
    concentration (mg/L)."""
    slopes = dict.fromkeys(y._fields, 0.0 * y.central)
    slopes["central"] = -elimination(y, p)
    if "depot" in slopes:
        absorbed = p.KA * y.depot
        slopes["depot"] = -absorbed
        slopes["central"] += absorbed
    if "peripheral" in slopes:
        out = p.Q * (y.central / p.V1 - y.peripheral / p.V2)
        slopes["peripheral"] = out
        slopes["central"] -= out
    slopes["auc"] = y.central / volume(p)
    return type(y)(**slopes)


def balance(y: State, p: Any) -> Balance:
    """All amounts are stored (mg); the saturable elimination is the only way out (mg/h)."""
    return Balance(sum(y[:-1]), elimination(y, p))
