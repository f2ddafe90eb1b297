"""Units at the doors. Inside gemello numbers are plain floats in the units that the model names."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from gemello.base.errors import DataError, ModelError


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415  (0.2 s: only when a unit is looked at)

    return pint.UnitRegistry()


# A unit may come from a stranger's file: 9^9^9^9 would keep pint busy for ever.
_LONGEST = 80
_TOWER = re.compile(
    r"(?:\^|\*\*)[\s(+-]*(?:[^\d\s(+-]|\d+(?:\.\d*)?[\s)]*(?:\^|\*\*)|\d{3})|\d\d[\s)]*(?:\^|\*\*)|\d{5}|\de\d", re.IGNORECASE
)


@cache
def _parsed(unit: str) -> Any:
    if len(unit) > _LONGEST or _TOWER.search(unit):
        raise ValueError("not a unit")
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


def parsed(unit: str, where: str) -> Any:
    """The pint unit that `unit` names ("1": dimensionless); these multiply, divide and take powers. Raises ModelError."""
    check_unit(unit, where)
    return _parsed(unit)


def ratio(a: Any, b: Any) -> float | None:
    """How many `b` make one `a`, two pint units; None where they measure different things or a scale has its own zero (degC)."""
    if a is b or (a == b and str(a) == str(b)):
        return 1.0
    try:
        one, two = (float(_registry().Quantity(x, a).to(b).magnitude) for x in (1.0, 2.0))
    except Exception:  # pint raises many kinds
        return None
    return one if abs(two - 2.0 * one) <= 1e-9 * abs(two) else None
