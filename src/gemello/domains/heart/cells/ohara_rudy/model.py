"""Ventricular cells of O'Hara et al. 2011: ohara_rudy_endo, ohara_rudy_epi and ohara_rudy_mid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

from gemello.base.reference import rows
from gemello.domains.heart.cells.cell import OUTPUTS, CellModel, Rates, Stimulus
from gemello.domains.heart.cells.ohara_rudy import equations
from gemello.model.card import Card
from gemello.model.parameters import Parameter, ParameterTable

_HERE = Path(__file__).parent


class Equations(NamedTuple):
    """Equations of one cell: rates(y, p, stimulus); derived(theta) with its units; the rows that act through it alone;
    states of Markov channels."""

    rates: Callable[[Any, Any, Any], Rates]
    derived: Callable[[Any], dict[str, Any]]
    units: Mapping[str, str]
    raw: frozenset[str]
    coupled: tuple[tuple[str, ...], ...] = ()


@final
class OHaraRudy(CellModel):
    """One cell of the family. Individual parameters are the table's rows and what follows from them (`equations.derived`)."""

    version = "1.0"
    outputs = OUTPUTS
    voltage, calcium = "v", "cai"
    stimulus = Stimulus(-80.0, 0.5)
    conductances = {  # noqa: RUF012  (declared once, never changed)
        "INa": "GNa", "INaL": "GNaL", "Ito": "Gto", "ICaL": "PCa", "IKr": "GKr", "IKs": "GKs", "IK1": "GK1", "INaCa": "Gncx",
        "INaK": "Pnak", "IKb": "GKb", "INab": "PNab", "ICab": "PCab", "IpCa": "GpCa", "Jup": "Jup", "Jrel": "Jrel",
    }  # fmt: skip

    def __init__(self, name: str, eq: Equations, states: Mapping[str, str], parameters: ParameterTable, folder: Path) -> None:
        """A cell `name` with these equations, states and parameters; `folder` holds CARD.md and initial_states.csv."""
        self.name, self.states, self.parameters, self.coupled = name, states, parameters, eq.coupled
        self.card = Card.read(folder / "CARD.md")
        self.individuals = {n: parameters[n].unit for n in parameters.theta_names if n not in eq.raw} | dict(eq.units)
        if "Kmax" in parameters.theta_names:  # a channel that binds a drug
            self.binding = ("D", "Kmax", "Ku", "n", "halfmax", "Vhalf")
            self.bound = ("IObound", "Obound", "Cbound")
            self.unbound = ("IC1", "IC2", "C1", "C2", "O", "IO")
        self._equations = eq
        self._start = {r["state"]: float(r["value"]) for r in rows(folder / "initial_states.csv")}

    def typical(self, theta: Any, cov: Any) -> Any:
        """The table's parameters and what follows from them, taken once and not at every step."""
        values = {**theta._asdict(), **self._equations.derived(theta)}
        return self.individual_type(*(values[n] for n in self.individual_type._fields))

    def initial(self, p: Any) -> Any:
        """Published initial state."""
        zero = p[0] * 0.0
        return self.state_type(*(zero + self._start[n] for n in self.states))

    def rates(self, t: Any, y: Any, p: Any, stimulus: Any) -> Rates:
        """Derivatives, relaxation rates and currents; the matrices of `coupled`."""
        return self._equations.rates(y, p, stimulus)


def table(cell_type: str) -> ParameterTable:
    """Parameters of endo, epi or mid: those of parameters.csv, changed as cell_types.csv says (Text S1: transmural differences).

    Each row there gives the factor by which a value changes, but for `slowing`, which is 0 in endo and given itself.
    """
    base = ParameterTable.read(_HERE / "parameters.csv")
    if cell_type == "endo":
        return base
    changes = {r["name"]: float(r[cell_type]) for r in rows(_HERE / "cell_types.csv")}
    for name in changes:
        base[name]  # an unknown name is an error

    def of_type(row: Parameter) -> Parameter:
        change = changes.get(row.name, 1.0)
        if row.name == "slowing":
            return replace(row, value=change)
        return (
            row if change == 1.0 else replace(row, value=row.value * change, source=f"{row.source}; x {change:g} in {cell_type}")
        )

    return replace(base, rows=tuple(of_type(r) for r in base))


_EQUATIONS = Equations(equations.rates, equations.derived, equations.DERIVED, equations.RAW)
_STATES = {**equations.STATES, "xrf": "1", "xrs": "1"}

endo, epi, mid = (OHaraRudy(f"ohara_rudy_{t}", _EQUATIONS, _STATES, table(t), _HERE) for t in ("endo", "epi", "mid"))
