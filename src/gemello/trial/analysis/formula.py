"""Model formulas as statisticians write them, read but never run: `FEV1 ~ RACE + SEX + ARMCD*AVISIT`.

`+` joins terms, `a:b` is an interaction, `a*b` is `a + b + a:b`, `-1` or `0 +` leaves the intercept out. A column of words is
a factor (the first level in the order of the alphabet is the reference, unless `levels` says otherwise); `factor(x)` makes one
of numbers. A column may be transformed: `log(x)`, `log1p log2 log10 exp sqrt abs square`, and within these or `I(…)` arithmetic,
and `I(arm == 1)`. Names that are no words of letters, digits, `_` and `.` stand in backticks. Coding is R's: a factor is coded
by contrasts where the term without it is in the model, else by all its levels; columns come in the order of R's model.matrix and
bear its names.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError

Array = NDArray[np.float64]
LONGEST = 5_000
TERM_LIMIT, COLUMN_LIMIT = 500, 2_000
FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs,
    "square": np.square, "I": lambda x: x,
}  # fmt: skip
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
}  # fmt: skip
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal, ast.NotEq: np.not_equal, ast.Lt: np.less, ast.LtE: np.less_equal,
    ast.Gt: np.greater, ast.GtE: np.greater_equal,
}  # fmt: skip
CROSSED_LIMIT, DEPTH_LIMIT = 20_000, 50
_TOKEN = re.compile(r"""`([^`]+)`|(?<![\w.])(q__\d+)(?![\w.])|"[^"\\]*"|'[^'\\]*'|[:^~#\n\0]""")


@dataclass(frozen=True)
class Atom:
    """One variable of a term: how it is written, its column names, and how its values are made of them."""

    text: str
    tree: ast.expr
    factor: bool = False

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:  # a column named "log(x)" is not the logarithm of x
        return isinstance(other, Atom) and self._key == other._key

    @property
    def _key(self) -> tuple[str, bool, type[ast.expr]]:
        return self.text, self.factor, type(self.tree)


Term = tuple[Atom, ...]


@dataclass(frozen=True)
class Formula:
    """A parsed formula: outcome (None for one without), terms in R's order, whether there is an intercept."""

    text: str
    outcome: Atom | None
    terms: tuple[Term, ...]
    intercept: bool
    quoted: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Formula:
        """Raises DataError for what is no formula."""
        return _parse(text)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that the formula reads, the outcome's included."""
        atoms = [a for t in self.terms for a in t] + ([self.outcome] if self.outcome else [])
        return tuple(dict.fromkeys(n for a in atoms for n in _names(a.tree, self)))

    def plus(self, *terms: str) -> Formula:
        """The formula with more terms at its end."""
        return Formula.parse(" + ".join((self.text, *terms)))


@dataclass(frozen=True)
class Design:
    """A formula met a table. matrix: (rows, k). names: (k,). outcome: (rows,) or None. kept: (rows,) the table's row of
    each. term_of: (k,) position in `terms` of each column's term, −1 the intercept. levels: of every factor, reference first."""

    formula: Formula
    matrix: Array
    names: tuple[str, ...]
    outcome: Array | None
    kept: NDArray[np.int64]
    term_of: tuple[int, ...]
    levels: Mapping[str, tuple[str, ...]]
    table: pl.DataFrame

    def __len__(self) -> int:
        return len(self.kept)

    def at(self, table: pl.DataFrame) -> Array:
        """(rows of table, k) the same columns for other rows (a grid, a counterfactual arm); levels and coding stay."""
        return _matrix(self.formula, table, dict(self.levels))[0]

    def with_column(self, **values: Any) -> Array:
        """(rows, k) the design if a column had one value everywhere: `design.with_column(arm="active")`."""
        known = {k: pl.lit(v, dtype=self.table.schema[k] if isinstance(v, str) else None) for k, v in values.items()}
        return self.at(self.table.with_columns(**known))

    def rank_problem(self) -> str | None:
        """Words about columns that the others determine, or None where the matrix has full rank."""
        scaled = self.matrix / np.where((s := np.linalg.norm(self.matrix, axis=0)) > 0, s, 1)
        r = np.abs(np.diag(np.linalg.qr(scaled, mode="r")))
        lost = [n for n, d in zip(self.names, r, strict=False) if d < 1e-9]
        lost += list(self.names[len(r) :])
        return f"{', '.join(lost)} cannot be told from the other columns" if lost else None


def design(
    formula: Formula | str, table: pl.DataFrame, *, levels: Mapping[str, Sequence[str]] | None = None, keep_missing: bool = False
) -> Design:
    """The matrix of a formula over a table.

    levels: order of a factor's levels by its name, the reference first. Rows with a missing value in a column used are left out
    (`kept` says which stay), unless keep_missing: then NaN stays. Raises DataError for unknown columns, levels that the table
    does not have, values that a transformation cannot take (with row), no rows.
    """
    f = Formula.parse(formula) if isinstance(formula, str) else formula
    for name in f.columns:
        if name not in table.columns:
            raise DataError(f"formula {f.text!r}: no column {name!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    kept = np.arange(len(table)) if keep_missing else np.flatnonzero(_complete(table, f.columns))
    if not len(kept):
        raise DataError(f"formula {f.text!r}: no row has all of {', '.join(f.columns)}", remedy="give complete rows")
    here = table[kept]
    order = {k: tuple(str(v) for v in vs) for k, vs in (levels or {}).items()}
    matrix, names, term_of, order = _matrix(f, here, order)
    outcome = None if f.outcome is None else _values(f.outcome, here, f)
    if outcome is not None and outcome.dtype.kind not in "fiub":
        raise DataError(
            f"formula {f.text!r}: the outcome {f.outcome.text if f.outcome else ''} holds words", remedy="give numbers"
        )
    return Design(f, matrix, names, None if outcome is None else outcome.astype(float), kept, term_of, order, here)


# ---- reading -------------------------------------------------------------------------------------------------------------
def _parse(text: str) -> Formula:
    if len(text) > LONGEST:
        raise DataError(f"formula of {len(text)} characters", remedy=f"at most {LONGEST}")
    try:
        return _read(text)
    except RecursionError as e:
        raise DataError(f"formula {text[:60]!r}…: nested too deeply", remedy="write fewer parts") from e


def _read(text: str) -> Formula:
    quoted: list[str] = []

    def hide(m: re.Match[str]) -> str:
        """Python's operators bind as R's do if : is a power (to an inverse, which nobody can write) and ^ is **."""
        if name := m[1] or m[2]:
            quoted.append(name)
            return f"q__{len(quoted) - 1}"
        return {":": "**~", "^": "**", "~": "\0", "\n": " ", "#": "`", "\0": "`"}.get(m[0], m[0])

    parts = _TOKEN.sub(hide, text).split("\0")
    if len(parts) > 2:
        raise DataError(f"formula {text!r}: more than one ~", remedy="write outcome ~ terms")
    trees = [_tree(p, text) for p in parts]
    shell = Formula(text, None, (), True, tuple(quoted))
    outcome = _atom(trees[0], shell) if len(parts) == 2 else None
    terms, intercept = _expand(trees[-1], shell)
    unique = list(dict.fromkeys(tuple(dict.fromkeys(t)) for t in terms))
    seen: dict[frozenset[Atom], Term] = {}
    for t in unique:
        seen.setdefault(frozenset(t), t)
    ordered = tuple(sorted(seen.values(), key=len))
    if len(ordered) > TERM_LIMIT:
        raise DataError(f"formula {text!r}: {len(ordered)} terms", remedy=f"at most {TERM_LIMIT}")
    return Formula(text, outcome, ordered, intercept, tuple(quoted))


def _tree(part: str, text: str) -> ast.expr:
    try:
        return ast.parse(part.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise DataError(f"formula {text!r}: cannot be read", remedy="write for example y ~ arm + log(x) + a*b") from e


def _expand(node: ast.expr, f: Formula) -> tuple[list[Term], bool]:
    """Terms of a right-hand side, and whether the intercept stays."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        left, keep = _expand(node.left, f)
        if isinstance(node.right, ast.Constant) and _switch(node.right):
            return left, (node.right.value == 1) == isinstance(node.op, ast.Add)
        right, more = _expand(node.right, f)
        if isinstance(node.op, ast.Sub):
            gone = {frozenset(t) for t in right}
            return [t for t in left if frozenset(t) not in gone], keep
        return left + right, keep and more
    if isinstance(node, ast.BinOp) and (isinstance(node.op, ast.Mult) or _interaction(node)):
        other = node.right if isinstance(node.op, ast.Mult) else node.right.operand  # type: ignore[attr-defined]
        (left, _), (right, _) = _expand(node.left, f), _expand(other, f)
        if len(left) * len(right) > CROSSED_LIMIT:
            raise DataError(f"formula {f.text!r}: {len(left) * len(right)} terms", remedy=f"at most {TERM_LIMIT}")
        if not (left and right):
            raise DataError(f"formula {f.text!r}: an interaction with a number", remedy="cross columns; add a number")
        crossed = [a + b for a in left for b in right]
        return (left + right + crossed, True) if isinstance(node.op, ast.Mult) else (crossed, True)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _switch(node.operand):
        return [], node.operand.value != 1  # type: ignore[attr-defined]
    if _switch(node):
        return [], node.value == 1  # type: ignore[attr-defined]
    return [(_atom(node, f),)], True


def _switch(node: ast.expr) -> bool:
    """Whether this is the 0 or 1 that takes the intercept out or puts it in."""
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value in (0, 1)


def _interaction(node: ast.BinOp) -> bool:
    """a:b, which was read as a ** ~b."""
    return isinstance(node.op, ast.Pow) and isinstance(node.right, ast.UnaryOp) and isinstance(node.right.op, ast.Invert)


def _atom(node: ast.expr, f: Formula) -> Atom:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "factor":
        if len(node.args) != 1 or node.keywords or not _plain(node.args[0]):
            raise DataError(f"formula {f.text!r}: factor() takes one column", remedy="write factor(x)")
        return Atom(f"factor({_show(node.args[0], f)})", node.args[0], factor=True)
    _check(node, f)
    if not any(True for _ in _names(node, f)):
        raise DataError(f"formula {f.text!r}: {_show(node, f)!r} names no column", remedy="leave it out")
    return Atom(_show(node, f), node)


def _plain(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _plain(node.value))


def _dotted(node: ast.expr) -> str:
    return (
        node.id if isinstance(node, ast.Name) else f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""
    )


def _column(node: ast.expr, f: Formula) -> str:
    name = _dotted(node)
    return f.quoted[int(name[3:])] if name.startswith("q__") and name[3:].isdigit() else name


def _show(node: ast.expr, f: Formula) -> str:
    text = ast.unparse(node).replace(" ** ~", ":").replace("**", "^")
    return re.sub(r"q__(\d+)", lambda m: f.quoted[int(m[1])], text)


def _check(node: ast.expr, f: Formula, inside: int = 0) -> None:
    """DataError for what is not in the language of the head of this file. inside: depth within a function."""
    if _plain(node) or (inside and isinstance(node, ast.Constant) and isinstance(node.value, int | float | str)):
        return
    if inside > DEPTH_LIMIT:
        raise DataError(f"formula {f.text[:60]!r}…: nested too deeply", remedy=f"at most {DEPTH_LIMIT} operations in a function")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        if len(node.args) == 1 and not node.keywords:
            return _check(node.args[0], f, inside + 1)
    elif inside and isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check(node.left, f, inside + 1)
        return _check(node.right, f, inside + 1)
    elif inside and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _check(node.operand, f, inside + 1)
    elif inside and isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        _check(node.left, f, inside + 1)
        return _check(node.comparators[0], f, inside + 1)
    words = f"columns, + : * and the functions factor {' '.join(FUNCTIONS)}"
    raise DataError(f"formula {f.text!r}: {_show(node, f)!r} is not understood", remedy=f"use {words}; other names in backticks")


def _names(node: ast.expr, f: Formula) -> Iterable[str]:
    if _plain(node):
        yield _column(node, f)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and not (isinstance(node, ast.Call) and child is node.func):
            yield from _names(child, f)


# ---- values ----------------------------------------------------------------------------------------------------------------
def _complete(table: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    out = np.ones(len(table), bool)
    for name in columns:
        s = table[name]
        out &= ~s.is_null().to_numpy()
        if s.dtype.is_float():
            out &= ~s.is_nan().fill_null(True).to_numpy()
        elif s.dtype == pl.String:
            out &= (s.fill_null("") != "").to_numpy()
    return out


def _values(atom: Atom, table: pl.DataFrame, f: Formula) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        values = np.asarray(_evaluate(atom.tree, table, f))
    if not _plain(atom.tree) and values.dtype.kind == "f":
        before = _complete(table, tuple(_names(atom.tree, f)))
        values = np.where(before, values, np.nan)  # else a comparison with a missing value would be false, not missing
        bad = np.flatnonzero(before & ~np.isfinite(values))
        if len(bad):
            raise DataError(f"{atom.text} has no finite value", row=int(bad[0]) + 1, remedy="mend the value or the formula")
    return values


def _evaluate(node: ast.expr, table: pl.DataFrame, f: Formula) -> Any:
    if _plain(node):
        s = table[_column(node, f)]
        if s.dtype == pl.String or s.dtype in (pl.Categorical, pl.Enum):
            return s.cast(pl.String).to_numpy()
        if s.dtype.is_nested() or s.dtype in (pl.Object, pl.Binary):
            raise DataError(f"holds {s.dtype}", column=s.name, remedy="give a column of numbers or words")
        return s.cast(pl.Float64).to_numpy()
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else _float(node.value, f)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return np.asarray(FUNCTIONS[node.func.id](_number(_evaluate(node.args[0], table, f), node, f)), float)
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](*(_number(_evaluate(x, table, f), x, f) for x in (node.left, node.right)))
    if isinstance(node, ast.UnaryOp):
        return -_number(_evaluate(node.operand, table, f), node, f)
    assert isinstance(node, ast.Compare)
    left, right = _evaluate(node.left, table, f), _evaluate(node.comparators[0], table, f)
    numbers = [np.asarray(v).dtype.kind in "fiub" for v in (left, right)]
    if numbers[0] != numbers[1]:
        raise DataError(f"formula {f.text!r}: {_show(node, f)} compares words with a number", remedy="put words into quotes")
    if not numbers[0]:
        left, right = (np.array(["" if w is None else w for w in np.atleast_1d(v)], str) for v in (left, right))
    return np.asarray(_COMPARE[type(node.ops[0])](left, right), float)


def _float(value: Any, f: Formula) -> float:
    try:
        return float(value)
    except OverflowError as e:
        raise DataError(f"formula {f.text[:60]!r}…: a number is too large", remedy="write it shorter") from e


def _number(value: Any, node: ast.expr, f: Formula) -> Any:
    if np.asarray(value).dtype.kind not in "fiub":
        raise DataError(f"formula {f.text!r}: {_show(node, f)} holds words", remedy="use it without a function, as a factor")
    return value


def by_contrasts(f: Formula, term: Term, atom: Atom, factors: Collection[Atom]) -> bool:
    """Whether a factor is coded by contrasts in a term: where the term without it is in the model. Without an intercept only the
    first factor that is a term by itself has all its levels, as in R."""
    if rest := frozenset(term) - {atom}:
        return rest in {frozenset(t) for t in f.terms}
    first = next((t[0] for t in f.terms if len(t) == 1 and t[0] in factors), None)
    return f.intercept or atom != first


# ---- the matrix ------------------------------------------------------------------------------------------------------------
def _matrix(
    f: Formula, table: pl.DataFrame, levels: dict[str, tuple[str, ...]]
) -> tuple[Array, tuple[str, ...], tuple[int, ...], dict[str, tuple[str, ...]]]:
    codes: dict[Atom, tuple[NDArray[Any], tuple[str, ...] | None]] = {}
    order = dict(levels)
    for atom in dict.fromkeys(a for t in f.terms for a in t):
        values = _values(atom, table, f)
        if atom.factor or values.dtype.kind not in "fiub":
            codes[atom] = _coded(atom, values, order)
            order[atom.text] = codes[atom][1] or ()
        else:
            codes[atom] = (values.astype(float), None)
    factors = {a for a, (_, found) in codes.items() if found is not None}
    _few_enough(f, codes)
    columns: list[Array] = [np.ones(len(table))] if f.intercept else []
    names = ["(Intercept)"] if f.intercept else []
    term_of = [-1] * f.intercept
    for k, term in enumerate(f.terms):
        blocks = [_block(a, codes[a], contrasts=by_contrasts(f, term, a, factors)) for a in term]
        for picked in product(*(range(len(b)) for b in reversed(blocks))):  # the first variable runs fastest, as in R
            chosen = [b[i] for b, i in zip(blocks, reversed(picked), strict=True)]
            columns.append(reduce(np.multiply, (c for _, c in chosen)))
            names.append(":".join(n for n, _ in chosen))
            term_of.append(k)
    matrix = np.column_stack(columns) if columns else np.empty((len(table), 0))
    return matrix, tuple(names), tuple(term_of), order


def _few_enough(f: Formula, codes: Mapping[Atom, tuple[NDArray[Any], tuple[str, ...] | None]]) -> None:
    """DataError for a matrix with too many columns, before it is built."""
    width = {a: 1 if levels is None else max(len(levels) - 1, 1) for a, (_, levels) in codes.items()}
    count = sum(math.prod(width[a] for a in term) for term in f.terms)
    if count > COLUMN_LIMIT:
        raise DataError(
            f"formula {f.text!r}: {count} columns or more", remedy=f"at most {COLUMN_LIMIT}; a factor has too many levels"
        )


def _coded(atom: Atom, values: NDArray[Any], order: Mapping[str, tuple[str, ...]]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Level number of each row, and the levels."""
    inner = atom.text[7:-1] if atom.factor else atom.text
    given = order.get(atom.text) or order.get(inner)
    if values.dtype.kind in "fiub":
        number = values.astype(float) + 0.0  # no −0
        words = np.array(["" if np.isnan(v) else f"{v:.15g}" for v in number], object)
        found = tuple(f"{v:.15g}" for v in np.unique(number[~np.isnan(number)]))
    else:
        words = np.array(["" if v is None else str(v) for v in values], object)
        found = tuple(sorted(set(words.tolist()) - {""}))
    levels = given or found
    unknown = sorted(set(words.tolist()) - set(levels) - {""})
    if unknown:
        raise DataError("level unknown to the model", column=inner, value=unknown[0], remedy=f"one of {', '.join(levels)}")
    where = {v: i for i, v in enumerate(levels)}
    return np.array([where.get(w, -1) for w in words.tolist()]), levels


def _block(atom: Atom, coded: tuple[NDArray[Any], tuple[str, ...] | None], contrasts: bool) -> list[tuple[str, Array]]:
    """Columns of one variable in one term, by name."""
    values, levels = coded
    if levels is None:
        return [(atom.text, values)]
    missing = values < 0
    return [
        (f"{atom.text}{level}", np.where(missing, np.nan, values == i).astype(float))
        for i, level in enumerate(levels)
        if i > 0 or not contrasts
    ]
