"""Units at the doors. Inside gemello numbers are plain floats in the units that the model names."""

from __future__ import annotations

from functools import cache
from typing import Any

from gemello.base.errors import DataError, ModelError


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415  (0.2 s: only when a unit is looked at)

    return pint.UnitRegistry()


@cache
def _parsed(unit: str) -> Any:
    return _registry().Unit("dimensionless" if unit in ("", "1") else unit)


def check_unit(unit: str, where: str) -> None:
    """Raise ModelError unless `unit` is one that pint knows ("1" is dimensionless)."""
    if unit == "":
        raise ModelError(f"{where}: no unit; write one, or 1 for a pure number")
    try:
        _parsed(unit)
    except Exception:  # pint raises many kinds
        raise ModelError(f"{where}: unknown unit {unit!r}; use one such as h, mg, mg/L, L/h, or 1") from None


def factor(given: str, wanted: str, column: str) -> float:
    """What to multiply a number in `given` by to have it in `wanted`. Raises DataError naming the column and the remedy."""
    if given == wanted:
        return 1.0
    try:
        return float(_registry().Quantity(1.0, _parsed(given)).to(_parsed(wanted)).magnitude)
    except Exception:
        raise DataError(
            f"unit {given!r} is not a unit of {wanted!r}", column=column, remedy=f"give it in {wanted} or convertible"
        ) from None
