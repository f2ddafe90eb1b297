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
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.BitXor: np.power, ast.Pow: np.power,
}  # fmt: skip
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal, ast.NotEq: np.not_equal, ast.Lt: np.less, ast.LtE: np.less_equal,
    ast.Gt: np.greater, ast.GtE: np.greater_equal,
}  # fmt: skip
_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Atom:
    """One variable of a term: how it is written, its column names, and how its values are made of them."""

    text: str
    tree: ast.expr
    factor: bool = False

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.text == other.text


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
    quoted: list[str] = []

    def hide(m: re.Match[str]) -> str:
        quoted.append(m[1])
        return f"q__{len(quoted) - 1}"

    parts = _NAME.sub(hide, text).split("~")
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
        return ast.parse(part.strip().replace(":", "@"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise DataError(f"formula {text!r}: cannot be read", remedy="write for example y ~ arm + log(x) + a*b") from e


def _expand(node: ast.expr, f: Formula) -> tuple[list[Term], bool]:
    """Terms of a right-hand side, and whether the intercept stays."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        left, keep = _expand(node.left, f)
        if isinstance(node.right, ast.Constant) and node.right.value in (0, 1):
            return left, (node.right.value == 1) == isinstance(node.op, ast.Add)
        right, more = _expand(node.right, f)
        if isinstance(node.op, ast.Sub):
            gone = {frozenset(t) for t in right}
            return [t for t in left if frozenset(t) not in gone], keep
        return left + right, keep and more
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.MatMult):
        (left, _), (right, _) = _expand(node.left, f), _expand(node.right, f)
        crossed = [a + b for a in left for b in right]
        return (left + right + crossed, True) if isinstance(node.op, ast.Mult) else (crossed, True)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return [], node.operand.value != 1
    if isinstance(node, ast.Constant) and node.value in (0, 1) and not isinstance(node.value, bool):
        return [], node.value == 1
    return [(_atom(node, f),)], True


def _atom(node: ast.expr, f: Formula) -> Atom:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "factor":
        if len(node.args) != 1 or node.keywords or not _plain(node.args[0]):
            raise DataError(f"formula {f.text!r}: factor() takes one column", remedy="write factor(x)")
        return Atom(f"factor({_show(node.args[0], f)})", node.args[0], factor=True)
    _check(node, f)
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
    return re.sub(r"q__(\d+)", lambda m: f.quoted[int(m[1])], ast.unparse(node))


def _check(node: ast.expr, f: Formula, inside: bool = False) -> None:
    """DataError for what is not in the language of the head of this file."""
    if _plain(node) or (inside and isinstance(node, ast.Constant) and isinstance(node.value, int | float | str)):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and len(node.args) == 1:
        return _check(node.args[0], f, inside=True)
    if inside and isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check(node.left, f, True)
        return _check(node.right, f, True)
    if inside and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _check(node.operand, f, True)
    if inside and isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        _check(node.left, f, True)
        return _check(node.comparators[0], f, True)
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
        before = reduce(np.logical_and, (_complete(table, [n]) for n in _names(atom.tree, f)), np.ones(len(table), bool))
        bad = np.flatnonzero(before & ~np.isfinite(values))
        if len(bad):
            raise DataError(f"{atom.text} has no finite value", row=int(bad[0]) + 1, remedy="mend the value or the formula")
    return values


def _evaluate(node: ast.expr, table: pl.DataFrame, f: Formula) -> Any:
    if _plain(node):
        s = table[_column(node, f)]
        if s.dtype == pl.String or s.dtype in (pl.Categorical, pl.Enum):
            return s.cast(pl.String).to_numpy()
        return s.cast(pl.Float64).to_numpy()
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return np.asarray(FUNCTIONS[node.func.id](_number(_evaluate(node.args[0], table, f), node, f)), float)
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](*(_number(_evaluate(x, table, f), x, f) for x in (node.left, node.right)))
    if isinstance(node, ast.UnaryOp):
        return -_number(_evaluate(node.operand, table, f), node, f)
    assert isinstance(node, ast.Compare)
    left, right = _evaluate(node.left, table, f), _evaluate(node.comparators[0], table, f)
    return np.asarray(_COMPARE[type(node.ops[0])](left, right), float)


def _number(value: Any, node: ast.expr, f: Formula) -> Any:
    if np.asarray(value).dtype.kind not in "fiub":
        raise DataError(f"formula {f.text!r}: {_show(node, f)} holds words", remedy="use it without a function, as a factor")
    return value


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
    present: set[frozenset[Atom]] = {frozenset(t) for t in f.terms} | ({frozenset()} if f.intercept else set())
    columns: list[Array] = [np.ones(len(table))] if f.intercept else []
    names = ["(Intercept)"] if f.intercept else []
    term_of = [-1] * f.intercept
    for k, term in enumerate(f.terms):
        blocks = [_block(a, codes[a], contrasts=frozenset(set(term) - {a}) in present) for a in term]
        for picked in product(*(range(len(b)) for b in reversed(blocks))):  # the first variable runs fastest, as in R
            chosen = [b[i] for b, i in zip(blocks, reversed(picked), strict=True)]
            columns.append(reduce(np.multiply, (c for _, c in chosen)))
            names.append(":".join(n for n, _ in chosen))
            term_of.append(k)
    if len(columns) > COLUMN_LIMIT:
        raise DataError(
            f"formula {f.text!r}: {len(columns)} columns", remedy=f"at most {COLUMN_LIMIT}; a factor has too many levels"
        )
    matrix = np.column_stack(columns) if columns else np.empty((len(table), 0))
    return matrix, tuple(names), tuple(term_of), order


def _coded(atom: Atom, values: NDArray[Any], order: Mapping[str, tuple[str, ...]]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Level number of each row, and the levels."""
    inner = atom.text[7:-1] if atom.factor else atom.text
    given = order.get(atom.text) or order.get(inner)
    if values.dtype.kind in "fiub":
        number = values.astype(float)
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
