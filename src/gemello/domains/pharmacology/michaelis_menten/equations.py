"""One compartment with Michaelis-Menten elimination (Gibaldi & Perrier 1982, ch. 7): dA/dt = -VM C/(KM + C)."""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Balance, State


def elimination(y: State, p: Any) -> Any:
    """Elimination rate, mg/h."""
    concentration = y.central / p.V
    return p.VM * concentration / (p.KM + concentration)


def derivative_iv(y: State, p: Any) -> State:
    """Central amount (mg/h) and area under the concentration (mg/L)."""
    return type(y)(-elimination(y, p), y.central / p.V)


def derivative_oral(y: State, p: Any) -> State:
    """The same with first-order absorption from a depot."""
    absorbed = p.KA * y.depot
    return type(y)(-absorbed, absorbed - elimination(y, p), y.central / p.V)


def balance(y: State, p: Any) -> Balance:
    """All amounts are stored (mg); the saturable elimination is the only way out (mg/h)."""
    return Balance(sum(y[:-1]), elimination(y, p))
