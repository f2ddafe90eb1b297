"""Units of expressions, worked out on their trees: what does not balance is found before anything is computed.

Sums, comparisons and choices need equal units; `exp`, `log` and the like need pure numbers; an exponent is a pure number, and
made of numbers alone where its base has a unit. Two units of one dimension that differ in scale (mL/min, L/h) are not equal:
inside a model numbers are plain, so the factor must be written. The number 0 fits any unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from gemello.base.errors import ModelError
from gemello.base.units import parsed, ratio
from gemello.model.expression import COMPARISONS, LOGIC, Apply, Name, Node, Number, compiled, walk

Unit = Any  # a pint unit
Kind = Any  # what an expression is: a quantity, by its unit; "zero", the number 0; "truth", true or false
SCALE = 1e-9  # relative difference of scale that counts as none


@cache
def pure() -> Unit:
    """The unit of a pure number."""
    return parsed("1", "")


def shown(unit: Unit) -> str:
    """Short form of a unit, as one would write it."""
    text = (f"{unit:~C}" or "1").replace("**", "^").replace("µ", "u")
    return re.sub(r"(?<![A-Za-z])([mudn]?)l(?![A-Za-z])", r"\1L", text)


def written(unit: Unit) -> str:
    """A unit as text from which it can be read again."""
    return str(unit).replace(" ", "").replace("dimensionless", "1")


def unit_of(node: Node, units: Mapping[str, Unit], where: str) -> Unit | None:
    """Unit of an expression that is a quantity, from the units of its names; None for the number 0. Raises ModelError."""
    kind = _kind(node, units, where)
    if kind == "truth":
        raise ModelError(f"{where}: is true or false, not a number; write if(condition, 1, 0)")
    return None if kind == "zero" else kind


def demand_unit(got: Unit | None, wanted: Unit, where: str) -> None:
    """Raise ModelError, with the remedy, unless a quantity in `got` may stand where `wanted` is declared (None: the number 0)."""
    if got is not None:
        _equal(got, wanted, where, "gives {}, but {} is declared", "the expression")


def definition_kind(node: Node, units: Mapping[str, Any], wanted: Unit | None, where: str) -> Kind:
    """What a definition stands for: a quantity (in the unit `wanted` where one is declared), or true or false."""
    kind = _kind(node, units, where)
    if kind == "truth":
        if wanted is not None:
            raise ModelError(f"{where}: is true or false and has no unit; leave the unit out")
        return kind
    if wanted is None:
        return pure() if kind == "zero" else kind
    demand_unit(None if kind == "zero" else kind, wanted, where)
    return wanted


def _kind(node: Node, units: Mapping[str, Unit], where: str) -> Kind:
    if isinstance(node, Number):
        return "zero" if node.value == 0 and node.unit == "1" else parsed(node.unit, where)
    if isinstance(node, Name):
        return units[node.name]
    if node.op in LOGIC:
        for a in node.args:
            if _kind(a, units, where) != "truth":
                raise ModelError(f"{where}: {node.op} needs conditions; write a comparison, such as SEX == 1")
        return "truth"
    if node.op == "if":
        return _choice(node, units, where)
    kinds = [_kind(a, units, where) for a in node.args]
    if "truth" in kinds:
        raise ModelError(f"{where}: {_words(node.op)} of a condition; write if(condition, 1, 0) for its number")
    return _quantity(node, kinds, where)


def _choice(node: Apply, units: Mapping[str, Unit], where: str) -> Kind:
    condition, a, b = (_kind(x, units, where) for x in node.args)
    if condition != "truth":
        raise ModelError(f"{where}: the first argument of if is no condition; write a comparison, such as SEX == 1")
    if (a == "truth") != (b == "truth"):
        raise ModelError(f"{where}: if gives a condition on one side and a number on the other; give two of a kind")
    return "truth" if a == "truth" else _common("if", [a, b], where)


def _quantity(node: Apply, kinds: list[Kind], where: str) -> Kind:
    """Unit of an operation on quantities."""
    op = node.op
    if op in COMPARISONS:
        _common(op, kinds, where)
        return "truth"
    if op in ("+", "-", "min", "max"):
        return _common(op, kinds, where)
    if op in ("neg", "abs"):
        return kinds[0]
    known = [pure() if k == "zero" else k for k in kinds]
    if op == "*":
        return known[0] * known[1]
    if op == "/":
        return known[0] / known[1]
    if op == "sqrt":
        return known[0] ** 0.5
    if op == "^":
        return _power(node, known, where)
    _pure(known[0], where, op)
    return pure()


def _common(op: str, kinds: list[Kind], where: str) -> Kind:
    """The unit that all share."""
    a, b = kinds
    if "zero" in kinds:
        return b if a == "zero" else a
    _equal(b, a, where, _words(op) + " of {1} and {0}", "the second")
    return a


def _power(node: Apply, kinds: list[Unit], where: str) -> Unit:
    base, exponent = node.args
    _pure(kinds[1], where, "an exponent")
    if ratio(kinds[0], pure()) == 1.0:
        return pure()
    if any(isinstance(n, Name) for n in walk(exponent)):
        one = base.name if isinstance(base, Name) else "base"
        raise ModelError(
            f"{where}: a power of {shown(kinds[0])} whose exponent is not a plain number; divide the base by a reference first, "
            f"as in ({one} / 1[{shown(kinds[0])}])^exponent"
        )
    return kinds[0] ** float(compiled(exponent, where)({}, None))


def _pure(unit: Unit, where: str, op: str) -> None:
    factor = ratio(unit, pure())
    if factor is None:
        raise ModelError(
            f"{where}: {op} of {shown(unit)}, where a pure number is needed; divide by a reference, such as 1[{shown(unit)}]"
        )
    if not math.isclose(factor, 1.0, rel_tol=SCALE):
        raise ModelError(f"{where}: {op} of {shown(unit)}, which is {factor:g}; multiply by {_factor(factor, pure(), unit)}")


def _equal(got: Unit, wanted: Unit, where: str, words: str, which: str) -> None:
    """Raise ModelError unless the units are one; words: a format of both, made only where it is needed."""
    factor = ratio(got, wanted)
    if factor is not None and math.isclose(factor, 1.0, rel_tol=SCALE):
        return
    words = words.format(shown(got), shown(wanted))
    if factor is None:
        raise ModelError(f"{where}: {words}; the dimensions differ, look for a missing factor or a wrong unit")
    raise ModelError(
        f"{where}: {words}; 1 {shown(got)} is {factor:.12g} {shown(wanted)}, so multiply {which} by "
        f"{_factor(factor, wanted, got)}"
    )


def _factor(factor: float, wanted: Unit, got: Unit) -> str:
    """A number with the unit that turns `got` into `wanted`."""
    return f"{factor:.12g}[({shown(wanted)})/({shown(got)})]"


def _words(op: str) -> str:
    return {"+": "a sum", "-": "a difference", "if": "a choice", "*": "a product", "/": "a quotient", "^": "a power"}.get(
        op, "a comparison" if op in COMPARISONS else op
    )
