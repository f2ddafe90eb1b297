"""Concentration-QTc: the models qt_linear, qt_emax, qt_linear_site, qt_emax_site, qt_dofetilide and qt_quinidine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

from gemello.domains.heart.qt import equations
from gemello.model.card import Card
from gemello.model.contract import Model, Output, Port, Residual, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_CARD = Card.read(_HERE / "CARD.md")
ERROR = ("qtcf_additive", "qtcf_growth", "qtcf_onset")
_EFFECT = {"linear": ("SLOPE",), "emax": ("EMAX", "EC50")}


@final
class ConcentrationQT(Model):
    """QTcF = BASE + course over the day + effect of the concentration in plasma, or at an effect site (`site`).

    The concentration is the level of the signal port `conc`, in `unit`. While the level holds the states are advanced
    exactly. Outputs: `qtcf`; `ddqtcf`, the drug's part of it; `auc`, the exposure so far. days: whether
    BASE also varies from day to day (column OCC).
    """

    version = "1.0"
    time_unit = "h"
    method = "discrete"
    accumulators = ("exposure",)
    card = _CARD

    def __init__(
        self,
        name: str,
        effect: Literal["linear", "emax"],
        *,
        site: bool = False,
        unit: str = "ng/mL",
        days: bool = False,
        table: str = "parameters.csv",
    ) -> None:
        self.name, self.effect, self.site, self.unit = name, effect, site, unit
        self.states = {"exposure": f"{unit}*h"} | ({"site": unit} if site else {})
        self.ports = (Port("conc", unit, kind="signal"),)
        self.outputs = (
            Output("qtcf", "ms", Residual(sd=_error, parameters=ERROR)),
            Output("ddqtcf", "ms"),
            Output("auc", f"{unit}*h"),
        )
        rows = ("BASE", *_EFFECT[effect], *(("KE0",) if site else ()), "COS24", "SIN24", "DAY", *ERROR)
        self.parameters = _table(ParameterTable.read(_HERE / table, only=rows), unit, days)

    def initial(self, p: Any) -> State:
        return self.state_type(*(p.BASE * 0.0 for _ in self.states))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(u.conc, *((equations.site_rate(y, p, u),) if self.site else ()))

    def advance(self, t: Any, dt: Any, y: State, p: Any, u: Any) -> State:
        after = (equations.site_after(dt, y, p, u),) if self.site else ()
        return self.state_type(y.exposure + u.conc * dt, *after)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        c = y.site if self.site else u.conc
        effect = equations.linear(c, p) if self.effect == "linear" else equations.emax(c, p)
        return p.BASE + equations.circadian(t, p) + effect, effect, y.exposure


def _error(f: Any, p: Any, sigma: Mapping[str, Any]) -> Any:
    return equations.measurement_sd(f, *(sigma[n] for n in ERROR))


def _table(read: ParameterTable, unit: str, days: bool) -> ParameterTable:
    """The table with concentrations in `unit`, and with or without variability between days."""
    units = {"SLOPE": f"ms/({unit})", "EC50": unit}
    rows = (replace(r, unit=units.get(r.name, r.unit), occasion_variance=r.occasion_variance if days else 0.0) for r in read.rows)
    return replace(read, rows=tuple(rows))


linear = ConcentrationQT("qt_linear", "linear")
emax = ConcentrationQT("qt_emax", "emax")
linear_site = ConcentrationQT("qt_linear_site", "linear", site=True)
emax_site = ConcentrationQT("qt_emax_site", "emax", site=True)
dofetilide = ConcentrationQT("qt_dofetilide", "linear", site=True, unit="pg/mL", days=True, table="parameters_dofetilide.csv")
quinidine = ConcentrationQT("qt_quinidine", "emax", days=True, table="parameters_quinidine.csv")
