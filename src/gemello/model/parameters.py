"""The parameter table: name, value, unit, range, between-subject distribution, source. Read and checked, never decoration."""

from __future__ import annotations

import csv
import hashlib
import keyword
import math
from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gemello.base.errors import ModelError
from gemello.base.units import check_unit

COLUMNS = ("name", "value", "unit", "lower", "upper", "kind", "distribution", "variance", "estimate", "source", "description")
OPTIONAL_COLUMNS = ("occasion_variance",)
KINDS = ("theta", "constant", "residual")
DISTRIBUTIONS = ("none", "lognormal", "normal", "logitnormal")


@cache
def named(typename: str, names: tuple[str, ...]) -> Any:
    """One NamedTuple type for each set of names, so that compiled programs are found again."""
    return namedtuple(typename, names)  # noqa: PYI024  (names are data here)


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    kind: `theta` (may be estimated), `constant` (never), `residual` (a standard deviation of the residual error).
    distribution: how individuals vary around the typical value, with `variance` of eta: `lognormal` p = typical·exp(eta),
    `normal` p = typical + eta, `logitnormal` logit p = logit typical + eta, `none`. occasion_variance: of what one individual
    changes from occasion to occasion, on the same scale, added to eta (Karlsson & Sheiner 1993); it may be there with variance 0.
    """

    name: str
    value: float
    unit: str
    lower: float = 0.0
    upper: float = math.inf
    kind: str = "theta"
    distribution: str = "none"
    variance: float = 0.0
    estimate: bool = True
    source: str = ""
    description: str = ""
    occasion_variance: float = 0.0

    def __post_init__(self) -> None:
        where = f"parameter {self.name}"
        if not self.name.isidentifier() or keyword.iskeyword(self.name) or self.name.startswith("_"):
            raise ModelError(f"parameter {self.name!r}: not a name; use letters, digits and _, not starting with a digit or _")
        check_unit(self.unit, where)
        if self.kind not in KINDS or self.distribution not in DISTRIBUTIONS:
            raise ModelError(f"{where}: kind {self.kind!r}, distribution {self.distribution!r}; use {KINDS} and {DISTRIBUTIONS}")
        if not self.lower <= self.value <= self.upper:
            raise ModelError(f"{where}: value {self.value:g} outside its range [{self.lower:g}, {self.upper:g}]")
        if not (self.variance >= 0 and math.isfinite(self.variance)):
            raise ModelError(f"{where}: variance {self.variance:g}; give a finite number, 0 or more")
        if not (self.occasion_variance >= 0 and math.isfinite(self.occasion_variance)):
            raise ModelError(f"{where}: occasion_variance {self.occasion_variance:g}; give a finite number, 0 or more")
        spread = max(self.variance, self.occasion_variance)
        if self.distribution == "none" and spread > 0:
            raise ModelError(f"{where}: variance {spread:g} without a distribution; name lognormal, normal or logitnormal")


@dataclass(frozen=True)
class ParameterTable:
    """All parameters of a model, in order; `covariances` holds off-diagonal elements of OMEGA by pairs of names."""

    rows: tuple[Parameter, ...]
    covariances: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [r.name for r in self.rows]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ModelError(f"parameter table: {', '.join(twice)} given more than once; keep one row each")
        for pair in self.covariances:
            for n in pair:
                if n not in self.eta_names:
                    raise ModelError(f"parameter table: covariance of {n!r}, which does not vary between subjects")

    # ---- reading ---------------------------------------------------------------------------------------------------
    @classmethod
    def read(cls, path: Path | str, only: Iterable[str] | None = None, **changes: Any) -> ParameterTable:
        """Table from a CSV file with the columns `COLUMNS`; `only` keeps these rows. Raises ModelError with row and column."""
        path = Path(path)
        with path.open(newline="", encoding="utf-8") as f:
            reader = csv.DictReader(f)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise ModelError(f"{path.name}: no column {', '.join(missing)}; a parameter table has {', '.join(COLUMNS)}")
            rows = []
            for i, r in enumerate(reader, start=2):
                if None in r or None in r.values():
                    raise ModelError(f"{path.name} row {i}: not {len(COLUMNS)} cells; quote a text that has a comma in it")
                rows.append(_row(r, f"{path.name} row {i}"))
        if only is not None:
            chosen = tuple(only)
            unknown = set(chosen) - {r.name for r in rows}
            if unknown:
                raise ModelError(f"{path.name}: no row {', '.join(sorted(unknown))}")
            rows = [r for r in rows if r.name in chosen]
        return cls(tuple(rows), **changes)

    # ---- views -----------------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Parameter:
        for r in self.rows:
            if r.name == name:
                return r
        raise ModelError(f"no parameter {name!r}; the table has {', '.join(r.name for r in self.rows)}")

    def __contains__(self, name: object) -> bool:
        return any(r.name == name for r in self.rows)

    @cached_property
    def theta_names(self) -> tuple[str, ...]:
        """Names that are not residual: what `theta` holds."""
        return tuple(r.name for r in self.rows if r.kind != "residual")

    @cached_property
    def residual_names(self) -> tuple[str, ...]:
        return tuple(r.name for r in self.rows if r.kind == "residual")

    @cached_property
    def eta_names(self) -> tuple[str, ...]:
        """Parameters that vary between subjects, in order: the rows and columns of OMEGA."""
        return tuple(r.name for r in self.rows if r.distribution != "none" and (r.variance > 0 or r.occasion_variance == 0))

    @cached_property
    def occasion_names(self) -> tuple[str, ...]:
        """Parameters that vary from occasion to occasion within a subject, in order."""
        return tuple(r.name for r in self.rows if r.occasion_variance > 0)

    def omega(self) -> list[list[float]]:
        """Between-subject covariance of the etas, in the order of `eta_names`."""
        n = self.eta_names
        out = [[self[a].variance if a == b else 0.0 for b in n] for a in n]
        for (a, b), v in self.covariances.items():
            out[n.index(a)][n.index(b)] = out[n.index(b)][n.index(a)] = v
        return out

    def with_values(self, values: Mapping[str, float]) -> ParameterTable:
        """The table with these values; a value outside its range or an unknown name raises ModelError."""
        for n in values:
            self[n]
        rows = (replace(r, value=float(values[r.name])) if r.name in values else r for r in self.rows)
        return replace(self, rows=tuple(rows))

    def hash(self) -> str:
        """Hash of every number and word of the table, for provenance."""
        return hashlib.sha256(repr((self.rows, sorted(self.covariances.items()))).encode()).hexdigest()[:16]


def _row(cells: dict[str, str], where: str) -> Parameter:
    def number(column: str, default: float) -> float:
        text = (cells[column] or "").strip()
        try:
            return float(text) if text else default
        except ValueError:
            raise ModelError(f"{where}, column {column}, value {text!r}: not a number") from None

    text = {c: (cells[c] or "").strip() for c in COLUMNS}
    cells = {**dict.fromkeys(OPTIONAL_COLUMNS, ""), **cells}
    if text["estimate"] not in ("yes", "no", ""):
        raise ModelError(f"{where}, column estimate, value {text['estimate']!r}: use yes or no")
    return Parameter(
        text["name"],
        number("value", math.nan),
        text["unit"],
        number("lower", 0.0),
        number("upper", math.inf),
        text["kind"] or "theta",
        text["distribution"] or "none",
        number("variance", 0.0),
        text["estimate"] != "no",
        text["source"],
        text["description"],
        number("occasion_variance", 0.0),
    )
