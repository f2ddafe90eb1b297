"""Is a system linear? Decided on the trees of its derivatives, which then give the system matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gemello.model.expression import Apply, Name, Node, Number

MOST_OPERATIONS = 2_000  # of one entry: beyond, the solver is the better way
_ONE = Number(1.0)


class NotLinearError(Exception):
    """The derivative is not a matrix times the state."""


class _Affine(NamedTuple):
    """constant + Σ coefficient · state; None: no constant."""

    constant: Node | None
    coefficients: Mapping[str, Node]


def system_matrix(
    derivatives: Mapping[str, Node], definitions: Mapping[str, Node], moving: frozenset[str], forcing: frozenset[str]
) -> tuple[tuple[Node | None, ...], ...]:
    """Rows of A in y' = A y, in the order of `derivatives` (state -> tree); None: structurally zero.

    definitions: trees by name, none circular. moving: definitions in which a state takes part. forcing: names of what changes in
    time by itself: time, signals and the definitions that use them. Raises NotLinearError.
    """
    states = tuple(derivatives)
    known: dict[str, _Affine] = {s: _Affine(None, {s: _ONE}) for s in states}
    for name, tree in definitions.items():  # in an order in which each uses only those before it
        if name in moving:
            try:
                known[name] = _split(tree, known, forcing)
            except NotLinearError:
                forcing = forcing | {name}
    rows = []
    for tree in derivatives.values():
        constant, row = _split(tree, known, forcing)
        if constant is not None:
            raise NotLinearError
        rows.append(tuple(row.get(s) for s in states))
    return tuple(rows)


def _split(node: Node, known: Mapping[str, _Affine], forcing: frozenset[str]) -> _Affine:
    if isinstance(node, Number):
        return _Affine(None if node.value == 0 else node, {})
    if isinstance(node, Name):
        if node.name in forcing:
            raise NotLinearError
        return known.get(node.name) or _Affine(node, {})
    parts = [_split(a, known, forcing) for a in node.args]
    if not any(p.coefficients for p in parts):
        return _Affine(node, {})
    return _combined(node, parts)


def _combined(node: Apply, parts: Sequence[_Affine]) -> _Affine:
    """An operation in whose arguments states take part."""
    first = parts[0]
    match node.op:
        case "neg":
            return _each(lambda a: Apply("neg", (a,)), first)
        case "+" | "-":
            return _sum(node.op, first, parts[1])
        case "*":
            fixed, other = (first, parts[1]) if not first.coefficients else (parts[1], first)
            return _times(other, _fixed(fixed))
        case "/":
            below = _fixed(parts[1])
            if below is None:
                raise NotLinearError
            return _each(lambda a: Apply("/", (a, below)), first)
        case "if" if not first.coefficients:
            return _choice(node.args[0], parts[1], parts[2])
    raise NotLinearError


def _fixed(part: _Affine) -> Node | None:
    if part.coefficients:
        raise NotLinearError
    return part.constant


def _each(change: object, part: _Affine) -> _Affine:
    assert callable(change)
    constant = None if part.constant is None else change(part.constant)
    return _bounded(_Affine(constant, {s: change(a) for s, a in part.coefficients.items()}))


def _times(part: _Affine, factor: Node | None) -> _Affine:
    if factor is None:
        return _Affine(None, {})
    return _each(lambda a: factor if a is _ONE else Apply("*", (factor, a)), part)


def _sum(op: str, a: _Affine, b: _Affine) -> _Affine:
    def add(x: Node | None, y: Node | None) -> Node | None:
        if x is None or y is None:
            return x if y is None else y if op == "+" else Apply("neg", (y,))
        return Apply(op, (x, y))

    names = dict.fromkeys((*a.coefficients, *b.coefficients))
    total = {s: add(a.coefficients.get(s), b.coefficients.get(s)) for s in names}
    return _bounded(_Affine(add(a.constant, b.constant), {s: v for s, v in total.items() if v is not None}))


def _choice(condition: Node, a: _Affine, b: _Affine) -> _Affine:
    def choose(x: Node | None, y: Node | None) -> Node:
        return Apply("if", (condition, x or Number(0.0), y or Number(0.0)))

    constant = None if a.constant is None and b.constant is None else choose(a.constant, b.constant)
    names = dict.fromkeys((*a.coefficients, *b.coefficients))
    return _bounded(_Affine(constant, {s: choose(a.coefficients.get(s), b.coefficients.get(s)) for s in names}))


def _bounded(part: _Affine) -> _Affine:
    trees = [t for t in (part.constant, *part.coefficients.values()) if isinstance(t, Apply)]
    if any(t.size > MOST_OPERATIONS for t in trees):
        raise NotLinearError
    return part
