"""The models tt2006_epi, tt2006_endo and tt2006_mid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from gemello.domains.heart.cells.cell import OUTPUTS, CellModel, Rates, Stimulus
from gemello.domains.heart.cells.ten_tusscher import equations
from gemello.model.card import Card
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_STATES = {
    "V": "mV", "m": "1", "h": "1", "j": "1", "d": "1", "f": "1", "f2": "1", "fCass": "1", "r": "1", "s": "1", "xr1": "1",
    "xr2": "1", "xs": "1", "Cai": "mM", "CaSR": "mM", "CaSS": "mM", "Rprime": "1", "Nai": "mM", "Ki": "mM",
}  # fmt: skip
#: States after pacing at 1 Hz, as the authors' code has them; those of epi are also the ones of Niederer et al. 2011.
_EPI = {
    "V": -85.23, "m": 0.00172, "h": 0.7444, "j": 0.7045, "d": 3.373e-5, "f": 0.7888, "f2": 0.9755, "fCass": 0.9953,
    "r": 2.42e-8, "s": 0.999998, "xr1": 0.00621, "xr2": 0.4712, "xs": 0.0095, "Cai": 0.000126, "CaSR": 3.64,
    "CaSS": 0.00036, "Rprime": 0.9073, "Nai": 8.604, "Ki": 136.89,
}  # fmt: skip
_ENDO = {
    "V": -86.709, "m": 0.00155, "h": 0.7573, "j": 0.7225, "d": 3.164e-5, "f": 0.8009, "f2": 0.9778, "fCass": 0.9953,
    "r": 2.235e-8, "s": 0.3212, "xr1": 0.00448, "xr2": 0.476, "xs": 0.0087, "Cai": 0.00013, "CaSR": 3.715,
    "CaSS": 0.00036, "Rprime": 0.9068, "Nai": 10.355, "Ki": 138.4,
}  # fmt: skip
#: What the layers change in the table, which is that of epi (2006, table 1; gate s of endo: 2004).
LAYERS: Mapping[str, Mapping[str, float]] = {
    "epi": {},
    "endo": {
        "Gto": 0.073, "sHalf": -28.0, "sTauPeak": 1000.0, "sTauCentre": -67.0, "sTauWidth": 1000.0, "sTauLow": 0.0,
        "sTauBase": 8.0,
    },
    "mid": {"GKs": 0.098},
}  # fmt: skip


@final
class TenTusscher(CellModel):
    """One layer's cell. Layers differ in parameters alone, so one program can hold lanes of all of them."""

    version = "1.0"
    states = _STATES
    outputs = OUTPUTS
    voltage = "V"
    calcium = "Cai"
    stimulus = Stimulus(-52.0, 1.0)
    conductances = {  # noqa: RUF012  (declared once, never changed)
        "INa": "GNa", "ICaL": "GCaL", "Ito": "Gto", "IKr": "GKr", "IKs": "GKs", "IK1": "GK1", "INaCa": "kNaCa", "INaK": "PNaK",
        "IpCa": "GpCa", "IpK": "GpK", "IbNa": "GbNa", "IbCa": "GbCa",
    }  # fmt: skip
    net = ("ICaL", "Ito", "IKr", "IKs", "IK1")  # the model has no late sodium current
    card = Card.read(_HERE / "CARD.md")

    def __init__(self, layer: str, start: Mapping[str, float]) -> None:
        self.name = f"tt2006_{layer}"
        table, changed = ParameterTable.read(_HERE / "parameters.csv"), LAYERS[layer]
        self.parameters = ParameterTable(tuple(replace(q, value=changed.get(q.name, q.value)) for q in table))
        self._start = start

    def initial(self, p: Any) -> Any:
        zero = p[0] * 0.0
        return self.state_type(*(self._start[n] + zero for n in self.states))

    def rates(self, t: Any, y: Any, p: Any, stimulus: Any) -> Rates:
        return Rates(*equations.rates(y, p, stimulus))


epi = TenTusscher("epi", _EPI)
endo = TenTusscher("endo", _ENDO)
mid = TenTusscher("mid", _EPI)
