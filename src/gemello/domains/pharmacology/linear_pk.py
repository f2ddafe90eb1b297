"""The linear pharmacokinetic models' common equations, and the one class that meets the contract with them.

A model of this family says how its individual parameters become `Constants`; all else follows. States are amounts, in the
order depot (oral models), central, peripheral(s), and `auc`, the area under the concentration-time curve since the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from gemello.domains.pharmacology import closed_form
from gemello.domains.pharmacology.closed_form import Constants
from gemello.model.card import Card
from gemello.model.contract import Balance, Covariate, Model, Output, Port, Propagator, Residual, State
from gemello.model.parameters import ParameterTable


# ---- equations -----------------------------------------------------------------------------------------------------
def derivative(y: State, c: Constants) -> State:
    """Mass balance of each compartment, mg/h, and the concentration (mg/L) as the derivative of auc."""
    *amounts, _ = y
    depot: list[Any] = []
    absorbed: Any = 0.0
    if c.absorption is not None:
        absorbed = c.absorption * amounts.pop(0)
        depot.append(-absorbed)
    # reciprocals are made once, outside the solver's steps
    concentration = amounts[0] * (1.0 / c.volume)
    exchange = tuple(q * concentration - a * (q / v) for (q, v), a in zip(c.peripheral, amounts[1:], strict=True))
    central = absorbed - c.clearance * concentration - sum(exchange)
    return type(y)(*depot, central, *exchange, concentration)


def matrix(c: Constants) -> tuple[tuple[Any, ...], ...]:
    """System matrix of `derivative`, 1/h (the row of auc: 1/L)."""
    first = 0 if c.absorption is None else 1
    n = first + len(c.peripheral) + 2
    rows: list[list[Any]] = [[0.0] * n for _ in range(n)]
    if c.absorption is not None:
        rows[0][0], rows[1][0] = -c.absorption, c.absorption
    rows[first][first] = -(c.clearance + sum(q for q, _ in c.peripheral)) / c.volume
    for i, (q, v) in enumerate(c.peripheral, start=first + 1):
        rows[i][first], rows[i][i], rows[first][i] = q / c.volume, -q / v, q / v
    rows[-1][first] = 1.0 / c.volume
    return tuple(tuple(r) for r in rows)


def observe(y: State, c: Constants) -> tuple[Any, Any]:
    """Plasma concentration cp (mg/L) and auc (mg*h/L)."""
    return y.central / c.volume, y.auc


def balance(y: State, c: Constants) -> Balance:
    """All amounts are stored (mg); elimination CL·C is the only way out (mg/h)."""
    return Balance(sum(y[:-1]), c.clearance * y.central / c.volume)


# ---- declarations --------------------------------------------------------------------------------------------------
def outputs(residual: Residual) -> tuple[Output, ...]:
    """cp with this residual error, and auc, which is predicted and never observed."""
    return Output("cp", "mg/L", residual), Output("auc", "mg*h/L")


def dose_ports(*states: str, unit: str = "mg") -> tuple[Port, ...]:
    """Dose ports numbered from 1; port n has the individual parameters Fn, ALAGn, Dn and Rn (0 h and 0 mg/h: not set)."""
    return tuple(
        Port(s, unit, "dose", s, bioavailability=f"F{n}", lag=f"ALAG{n}", duration=f"D{n}", rate=f"R{n}")
        for n, s in enumerate(states, start=1)
    )


def port_names(count: int) -> tuple[str, ...]:
    """Names of the parameters of the first `count` dose ports."""
    return tuple(f"{prefix}{n}" for n in range(1, count + 1) for prefix in ("F", "ALAG", "D", "R"))


def table(path: Path, ports: int, *names: str) -> ParameterTable:
    """The rows `names` of a model's table, and the rows of its first `ports` dose ports."""
    return ParameterTable.read(path, only=(*names, *port_names(ports)))


def individual_units(parameters: ParameterTable, without: tuple[str, ...] = (), **units: str) -> dict[str, str]:
    """Individual parameters and their units: theta's, except those in `without`, with the units named here where they differ."""
    return {n: units.get(n, parameters[n].unit) for n in parameters.theta_names if n not in without}


@final
class LinearPK(Model):
    """A linear mammillary model with 0 to 2 peripheral compartments.

    `constants(p)` turns individual parameters into `Constants`; its `absorption` is None exactly where `oral` is False.
    `typical(theta, cov)` gives the individual parameters that are not theta's own, by name (default: none).
    """

    time_unit = "h"
    version = "1.0"
    accumulators = ("auc",)

    def __init__(
        self,
        name: str,
        constants: Callable[[Any], Constants],
        parameters: ParameterTable,
        card: Card,
        outputs: tuple[Output, ...],
        *,
        oral: bool,
        peripherals: int = 0,
        covariates: tuple[Covariate, ...] = (),
        individuals: Mapping[str, str] | None = None,
        typical: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    ) -> None:
        body = ("central", *(("peripheral",) if peripherals == 1 else (f"peripheral{i + 1}" for i in range(peripherals))))
        entries = ("depot", "central") if oral else ("central",)
        self.name, self.parameters, self.card, self.outputs = name, parameters, card, outputs
        self.states = {s: "mg" for s in (*entries[:-1], *body)} | {"auc": "mg*h/L"}
        self.ports = dose_ports(*entries)
        self.covariates, self.individuals = covariates, individuals
        self._constants, self._typical = constants, typical

    def typical(self, theta: Any, cov: Any) -> Any:
        own = {} if self._typical is None else self._typical(theta, cov)
        return self.individual_type(*(own[n] if n in own else getattr(theta, n) for n in self.individual_type._fields))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return derivative(y, self._constants(p))

    def propagator(self, p: Any) -> Propagator:
        return closed_form.propagator(self._constants(p))

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        return matrix(self._constants(p))

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return observe(y, self._constants(p))

    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return balance(y, self._constants(p))
