"""Expressions of a model file: text becomes a tree of a few operations, and the tree a function of names.

A text is never run. It is cut into tokens of a small alphabet, Python's parser gives the precedence, and of its syntax tree
only the nodes below are taken. Operations are `+ - * / ^`, comparisons, `and or not` and the functions of `FUNCTIONS`;
a number may carry a unit: `70[kg]`. Precedence is Python's: `-x^2` is −(x²), `a^b^c` is a^(b^c), `a < b < c` is allowed.
"""

from __future__ import annotations

import ast
import keyword
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gemello.base.errors import ModelError

LONGEST = 5_000  # characters of one expression
LONGEST_NAME = 63
DEEPEST = 100  # operations inside one another
INTEGER_POWERS = 64  # up to this size a whole exponent is a product, exact for negative bases, too

# name -> (name in NumPy and jax.numpy, fewest arguments, most arguments)
FUNCTIONS: Mapping[str, tuple[str, int, int]] = {
    "if": ("where", 3, 3),
    "exp": ("exp", 1, 1),
    "log": ("log", 1, 1),
    "log10": ("log10", 1, 1),
    "sqrt": ("sqrt", 1, 1),
    "abs": ("abs", 1, 1),
    "floor": ("floor", 1, 1),
    "sin": ("sin", 1, 1),
    "cos": ("cos", 1, 1),
    "tanh": ("tanh", 1, 1),
    "min": ("minimum", 2, 20),
    "max": ("maximum", 2, 20),
}
LOGIC = {"and": "logical_and", "or": "logical_or", "not": "logical_not"}
INFIX: Mapping[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "^": operator.pow, "neg": operator.neg,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
TIME = "t"
RESERVED = frozenset({*FUNCTIONS, *LOGIC, TIME})

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*\[(?P<unit>[^\[\]]*)\])?"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*)|(?P<sign>\*\*|<=|>=|==|!=|[-+*/^(),<>]))",
    re.ASCII,
)
_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^"}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


# ---- the tree ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Number:
    """A number with its unit ("1": dimensionless)."""

    value: float
    unit: str = "1"


@dataclass(frozen=True)
class Name:
    """A name, whose value is given later."""

    name: str


@dataclass(frozen=True, eq=False)
class Apply:
    """An operation (a key of INFIX, LOGIC or FUNCTIONS) on its arguments. size, depth: of the tree that it heads."""

    op: str
    args: tuple[Node, ...]
    size: int = field(init=False)
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 1 + sum(a.size for a in self.args if isinstance(a, Apply)))
        object.__setattr__(self, "depth", 1 + max((a.depth for a in self.args if isinstance(a, Apply)), default=0))


Node = Number | Name | Apply
Function = Callable[[Mapping[str, Any], Any], Any]  # (values by name, numpy or jax.numpy) -> value


def walk(node: Node) -> Iterator[Number | Name]:
    """Numbers and names of a tree, from left to right."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Apply):
            waiting.extend(reversed(one.args))
        else:
            yield one


def names(node: Node) -> frozenset[str]:
    """Names that a tree uses."""
    return frozenset(n.name for n in walk(node) if isinstance(n, Name))


def renamed(node: Node, old: str, new: str) -> Node:
    """The tree with another name in place of `old`."""
    if isinstance(node, Apply):
        return Apply(node.op, tuple(renamed(a, old, new) for a in node.args))
    return Name(new) if node == Name(old) else node


# ---- from text ---------------------------------------------------------------------------------------------------------
def parse(text: str, where: str) -> Node:
    """Tree of the expression `text`. where: its place, for messages. Raises ModelError."""
    if not text.strip():
        raise ModelError(f"{where}: empty; write an expression, such as CL / V * central")
    if len(text) > LONGEST:
        raise ModelError(f"{where}: {len(text)} characters; at most {LONGEST} are allowed, give its parts names in [definitions]")
    python, starts, numbers = _translated(text, where)
    try:
        tree = ast.parse(python, mode="eval").body
    except SyntaxError as e:
        at = max((s for p, s in starts if p < (e.offset or 1)), default=0)
        raise ModelError(f"{where}: cannot be read at {_shown(text[at:])}; look for a missing operator or parenthesis") from None
    except (RecursionError, MemoryError):
        raise ModelError(f"{where}: too deeply nested; give its parts names in [definitions]") from None
    return _node(tree, numbers, where, 0)


def _translated(text: str, where: str) -> tuple[str, list[tuple[int, int]], list[Number]]:
    """The text in Python's alphabet, with `_0`, `_1`, … for its numbers; places of its tokens in both; and the numbers."""
    at, python, starts, numbers, depth = 0, "", [], [], 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ModelError(f"{where}: {_strange(text[at:].lstrip())}")
        number, name, sign = found["number"], found["name"], found["sign"]
        starts.append((len(python), found.end() - len(found[0].lstrip())))
        if number:
            numbers.append(_number(number, found["unit"], where))
            word = f"_{len(numbers) - 1}"
        elif name:
            word = "_if" if name == "if" else name
            if len(name) > LONGEST_NAME:
                raise ModelError(
                    f"{where}: the name {_shown(name)} has {len(name)} characters; at most {LONGEST_NAME} are allowed"
                )
            if keyword.iskeyword(name) and name not in ("if", "and", "or", "not"):
                raise ModelError(f"{where}: {name!r} has no meaning here; use if(condition, a, b), and, or, not")
        else:
            word = "**" if sign == "^" else sign
            depth += (word == "(") - (word == ")")
            if depth > DEEPEST:
                raise ModelError(f"{where}: more than {DEEPEST} parentheses deep; give its parts names in [definitions]")
        python += word + " "
        at = found.end()
    return python, starts, numbers


def _number(text: str, unit: str | None, where: str) -> Number:
    value = float(text)
    if not math.isfinite(value):
        raise ModelError(f"{where}: the number {_shown(text)} is too large; give one below 1e308")
    return Number(value, "1" if unit is None else unit.strip())


def _strange(rest: str) -> str:
    if rest.startswith("["):
        return f"{_shown(rest)}: a unit in brackets belongs behind a number, as in 70[kg]"
    if rest.startswith(("=", "&", "|", "!")):
        return f"{_shown(rest)} is no operator here; use == != and or not"
    if rest.startswith("_"):
        return f"{_shown(rest)}: a name does not begin with _; use letters, digits and _"
    return f"{_shown(rest)} cannot be used; an expression holds numbers, names, + - * / ^ ( ) and comparisons"


def _shown(text: str) -> str:
    return repr(text[:20] + ("…" if len(text) > 20 else "")) if text else "its end"


def _node(tree: ast.expr, numbers: list[Number], where: str, depth: int) -> Node:
    """Our tree of Python's. What is not listed here is refused."""
    if depth > DEEPEST:
        raise ModelError(f"{where}: more than {DEEPEST} operations deep; give its parts names in [definitions]")
    down = lambda *trees: tuple(_node(x, numbers, where, depth + 1) for x in trees)  # noqa: E731
    match tree:
        case ast.Name(id=name):
            if name == "_if" or name in RESERVED - {TIME}:
                raise ModelError(f"{where}: {name.lstrip('_')} is a function; write it with its arguments in parentheses")
            return numbers[int(name[1:])] if name.startswith("_") else Name(name)
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _BINARY:
            return Apply(_BINARY[type(op)], down(a, b))
        case ast.UnaryOp(op=ast.USub(), operand=a):
            return Apply("neg", down(a))
        case ast.UnaryOp(op=ast.UAdd(), operand=a):
            return down(a)[0]
        case ast.UnaryOp(op=ast.Not(), operand=a):
            return Apply("not", down(a))
        case ast.BoolOp(op=op, values=parts):
            return _chain("and" if isinstance(op, ast.And) else "or", down(*parts))
        case ast.Compare(left=a, ops=ops, comparators=rest) if all(type(o) in _COMPARE for o in ops):
            ends = down(a, *rest)
            pairs = (Apply(_COMPARE[type(o)], ends[i : i + 2]) for i, o in enumerate(ops))
            return _chain("and", tuple(pairs))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _call(name.lstrip("_"), down(*arguments), where)
    raise ModelError(
        f"{where}: holds what an expression may not ({type(tree).__name__}); use + - * / ^, comparisons and functions"
    )


def _chain(op: str, parts: tuple[Node, ...]) -> Node:
    """Arguments of an associative operation, two at a time."""
    total = parts[0]
    for part in parts[1:]:
        total = Apply(op, (total, part))
    return total


def _call(name: str, args: tuple[Node, ...], where: str) -> Node:
    if name not in FUNCTIONS:
        raise ModelError(f"{where}: no function {name}; the functions are {', '.join(FUNCTIONS)}")
    _, fewest, most = FUNCTIONS[name]
    if not fewest <= len(args) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ModelError(f"{where}: {name} takes {wanted} arguments, not {len(args)}")
    return _chain(name, args) if name in ("min", "max") else Apply(name, args)


# ---- to a function -----------------------------------------------------------------------------------------------------
def compiled(node: Node, where: str) -> Function:
    """Function (values by name, numpy or jax.numpy) -> value, elementwise. Parts made of numbers alone are worked out now;
    where they have no finite value, raises ModelError."""
    made = _made(node, where)
    if callable(made):
        return made
    return lambda values, xp: made


def _made(node: Node, where: str) -> Any:
    """A function, or a plain number (or truth value) where no name is involved."""
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        name = node.name
        return lambda values, xp: values[name]
    args = [_made(a, where) for a in node.args]
    if node.op == "^" and not callable(args[1]) and args[1] == int(args[1]) and abs(args[1]) <= INTEGER_POWERS:
        args[1] = int(args[1])
    apply = _operation(node.op)
    if not any(map(callable, args)):
        return _worked_out(apply, args, where)
    if len(args) == 1:
        (only,) = args
        return lambda values, xp: apply(xp, only(values, xp))
    if len(args) == 2:
        return _binary(apply, *args)
    return lambda values, xp: apply(xp, *(a(values, xp) if callable(a) else a for a in args))


def _binary(apply: Callable[..., Any], a: Any, b: Any) -> Function:
    if not callable(a):
        return lambda values, xp: apply(xp, a, b(values, xp))
    if not callable(b):
        return lambda values, xp: apply(xp, a(values, xp), b)
    return lambda values, xp: apply(xp, a(values, xp), b(values, xp))


def _operation(op: str) -> Callable[..., Any]:
    if op in INFIX:
        infix = INFIX[op]
        return lambda xp, *args: infix(*args)
    attribute = LOGIC[op] if op in LOGIC else FUNCTIONS[op][0]
    return lambda xp, *args: getattr(xp, attribute)(*args)


def _worked_out(apply: Callable[..., Any], args: list[Any], where: str) -> float | bool:
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            out = apply(np, *(np.float64(a) if isinstance(a, float) else a for a in args))
            value = bool(out) if np.asarray(out).dtype == bool else float(out)
            if math.isfinite(value):
                return value
    except (FloatingPointError, OverflowError, ZeroDivisionError, ValueError, TypeError):
        pass
    shown = ", ".join(f"{a:g}" for a in args)
    raise ModelError(f"{where}: a part made of numbers alone ({shown}) has no finite value; look at its powers and divisions")
