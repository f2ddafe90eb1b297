"""The CiPA cell: O'Hara-Rudy 2011 (endo) with dynamic hERG (Li 2017) and scaled conductances (Dutta 2017): ohara_rudy_cipa."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.heart.cells.cipa import equations
from gemello.domains.heart.cells.ohara_rudy.model import Equations, OHaraRudy
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
_EQUATIONS = Equations(equations.rates, equations.derived, equations.DERIVED, equations.RAW, (equations.CHANNEL,))

cipa = OHaraRudy("ohara_rudy_cipa", _EQUATIONS, equations.STATES, ParameterTable.read(_HERE / "parameters.csv"), _HERE)
