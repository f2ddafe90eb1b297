"""One person's heart from concentration and QTc over time, and the concentration-QTc analysis of ICH E14."""

from __future__ import annotations

_HERE = f"{__name__}.model"

MODELS: dict[str, str] = {
    "qt_linear": f"{_HERE}:linear",
    "qt_emax": f"{_HERE}:emax",
    "qt_linear_site": f"{_HERE}:linear_site",
    "qt_emax_site": f"{_HERE}:emax_site",
    "qt_dofetilide": f"{_HERE}:dofetilide",
    "qt_quinidine": f"{_HERE}:quinidine",
}
