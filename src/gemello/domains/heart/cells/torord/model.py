"""ToR-ORd with dynamic chloride (Tomek 2019, 2020): the models torord_endo, torord_epi and torord_mid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, final

from gemello.base.reference import rows
from gemello.domains.heart.cells.cell import OUTPUTS, CellModel, Rates, Stimulus
from gemello.domains.heart.cells.torord import equations
from gemello.domains.heart.cells.torord.physics import MARKOV, STATES
from gemello.model.card import Card
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
CELL_TYPES = ("endo", "epi", "mid")


def table(cell_type: str) -> ParameterTable:
    """Parameters of one cell type: those of parameters.csv, each times its factor in cell_types.csv where it has one."""
    factors = {r["name"]: (float(r[cell_type]), r["source"]) for r in rows(_HERE / "cell_types.csv")}
    base = ParameterTable.read(_HERE / "parameters.csv")
    for name in factors:
        base[name]  # an unknown name is an error

    def of_type(row: Any) -> Any:
        factor, source = factors.get(row.name, (1.0, ""))
        if factor == 1.0:
            return row
        return replace(row, value=row.value * factor, source=f"{row.source}; x {factor:g} in {cell_type} ({source})")

    return replace(base, rows=tuple(of_type(r) for r in base))


@final
class TorOrd(CellModel):
    """One cell type of ToR-ORd; `rates` is the whole of it."""

    version = "1.0"
    states = STATES
    outputs = OUTPUTS
    card = _CARD
    voltage, calcium = "v", "cai"
    coupled = (MARKOV,)
    stimulus = Stimulus(-53.0, 1.0)
    conductances = {  # noqa: RUF012
        **{i: f"G{i[1:]}" for i in ("INa", "INaL", "Ito", "IKr", "IKs", "IK1", "IKb", "IClCa", "IClb")},
        **{"ICaL": "PCa", "INaCa": "Gncx", "INaK": "Pnak", "INab": "PNab", "ICab": "PCab", "IpCa": "GpCa"},
        **{"Jup": "Jup", "Jrel": "Jrel"},
    }

    def __init__(self, cell_type: str) -> None:
        self.name = f"torord_{cell_type}"
        self.parameters = table(cell_type)
        self._initial = {r["state"]: float(r[cell_type]) for r in rows(_HERE / "initial_states.csv")}

    def initial(self, p: Any) -> Any:
        """The authors' state after many beats of 1,000 ms, just before a stimulus."""
        like = p[0] * 0.0
        return self.state_type(*(like + self._initial[n] for n in self.states))

    def rates(self, t: Any, y: Any, p: Any, stimulus: Any) -> Rates:
        """See `equations.rates`."""
        return equations.rates(y, p, stimulus)


endo, epi, mid = (TorOrd(t) for t in CELL_TYPES)
