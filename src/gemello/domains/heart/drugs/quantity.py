"""Numbers with units as people write them in a compound's file: "33 nM", "12 ng/mL". Units end here; inside, nM, 1/ms and mV."""

from __future__ import annotations

import math
import re

from gemello.base.errors import DataError
from gemello.base.units import factor

_NUMBER = re.compile(r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$")
_SECOND = re.compile(r"±|(?:^|[\s*/(.])(?!1/)\d")  # "5 ± 1 nM", "1 500 nM": another number, which pint may drop without a word
_HEAD = re.compile(r"\s*(.*?)\s*(?:\[([^\[\]]*)\])?\s*$")


def head(name: str) -> tuple[str, str]:
    """Name and unit of a column such as "INa_IC50 [uM]"; the unit is "" where there is none."""
    found = _HEAD.fullmatch(name)
    return (found[1], found[2] or "") if found else (name, "")


def split(text: str, source: str, column: str) -> tuple[float, str]:
    """Number and unit of a text; the unit is "" where there is none. Raises DataError for what does not begin with a number."""
    found = _NUMBER.fullmatch(text)
    if not found or not math.isfinite(float(found[1])):
        bounded = text.strip()[:1] in ("<", ">", "~") and len(text.strip()) > 1
        remedy = "a bound is no value: give the raw block table, or none where no block was seen" if bounded else "write 33 nM"
        raise DataError("not a number with a unit", source=source, column=column, value=text, remedy=remedy)
    if found[2] != "1" and _SECOND.search(found[2]):
        raise DataError(
            "more than one number", source=source, column=column, value=text, remedy="write one number and a unit: 33 nM"
        )
    return float(found[1]), found[2].replace("µ", "u").replace("μ", "u")


def pure(text: str, source: str, column: str) -> float:
    """A number without a unit (or with the unit 1)."""
    value, unit = split(text, source, column)
    if unit not in ("", "1"):
        raise DataError("a unit where none belongs", source=source, column=column, value=text, remedy="write the number alone")
    return value


def converted(text: str, wanted: str, source: str, column: str) -> float:
    """A number in the unit `wanted`. Raises DataError where the unit is missing or measures something else."""
    value, unit = split(text, source, column)
    if not unit:
        raise DataError(
            "no unit", source=source, column=column, value=text, remedy=f"write it with one, such as {text.strip()} {wanted}"
        )
    try:
        return value * factor(unit, wanted, column)
    except DataError:
        raise DataError(
            f"unit {unit[:20]!r} is none of {wanted}", source=source, column=column, value=text, remedy=f"give it in {wanted}"
        ) from None


def concentration(text: str, molar_mass: float | None, source: str, column: str) -> float:
    """A concentration in nM; one in mass per volume needs molar_mass, g/mol. Raises DataError."""
    value, unit = split(text, source, column)
    if not unit:
        raise DataError("no unit", source=source, column=column, value=text, remedy=f"write one, such as {text.strip()} nM")
    try:
        return value * factor(unit, "nM", column)
    except DataError:
        pass
    try:
        grams = value * factor(unit, "g/L", column)
    except DataError:
        raise DataError(
            f"{unit[:20]!r} is not a unit of concentration", source=source, column=column, value=text,
            remedy="use nM, uM, nmol/L, or ng/mL with molar_mass",
        ) from None  # fmt: skip
    if molar_mass is None:
        raise DataError(
            "mass per volume without a molar mass", source=source, column=column, value=text,
            remedy="give molar_mass, such as 441.6 g/mol, or the concentration in nM",
        )  # fmt: skip
    return grams / molar_mass * 1e9
