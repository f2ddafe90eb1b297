"""Options of the form NAME=VALUE."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gemello.base.errors import DataError


def pairs(given: Sequence[str], option: str, example: str) -> dict[str, str]:
    """`["A=1", "B=x"]` as a dictionary. Raises DataError for what has no = or comes twice."""
    out: dict[str, str] = {}
    for text in given:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign and value):
            raise DataError(
                "is not of the form NAME=VALUE", column=option, value=text, remedy=f"write it like {option} {example}"
            )
        if name in out:
            raise DataError(f"{name} is given twice", column=option, value=text, remedy="keep one")
        out[name] = value
    return out


def numbers_and_names(given: Sequence[str], option: str = "--set") -> tuple[dict[str, float], dict[str, str]]:
    """Values that are numbers, and those that name a data column."""
    numbers: dict[str, float] = {}
    names: dict[str, str] = {}
    for name, value in pairs(given, option, "CL=2.5 or CL=CLI (a column)").items():
        try:
            number = float(value)
        except ValueError:
            names[name] = value
            continue
        if not math.isfinite(number):
            raise DataError(
                "is not a finite number", column=option, value=f"{name}={value}", remedy="give a number, or a column's name"
            )
        numbers[name] = number
    return numbers, names
