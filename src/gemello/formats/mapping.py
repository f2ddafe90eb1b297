"""Which column of a file plays which role, and in which unit it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, ModelError
from gemello.base.units import factor
from gemello.formats.columns import Table, find
from gemello.model.contract import Model
from gemello.model.schedule import OCCASION

ROLES = ("ID", "TIME", "EVID", "AMT", "RATE", "II", "ADDL", "SS", "CMT", "MDV", "DV", "DVID", "CENS", "C")
SYNONYMS = {  # taken only where the file has no column of the name itself; a note says so
    "ID": ("SUBJECT", "SUBJID", "USUBJID"),
    "AMT": ("AMOUNT",),
    "DVID": ("OUTPUT",),
    "CMT": ("COMPARTMENT",),
}
_DATES = ("DATE", "DAT1", "DAT2", "DAT3")  # NONMEM adds these to TIME


@dataclass(frozen=True)
class Heads:
    """roles: NONMEM's names, covariates and bound columns that the file has, to positions in its header."""

    roles: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, table: Table, model: Model, columns: Mapping[str, str], bind: Mapping[str, str]) -> Heads:
        """Find every role. Raises DataError for a missing, unknown or ambiguous column, ModelError for an unknown parameter."""
        for parameter in bind:
            if parameter not in model.parameters.theta_names:
                known = ", ".join(model.parameters.theta_names)
                raise ModelError(f"model {model.name}: no parameter {parameter!r} to bind to a column; it has {known}")
        covariates = [c.name for c in model.covariates]
        roles, notes = {}, []
        occasion = [OCCASION] if model.parameters.occasion_names and OCCASION not in covariates else []
        renamed = _renamed(table, columns, [*ROLES, *covariates, *occasion, *bind.values()])
        for role in (*ROLES, *covariates, *occasion):
            if role == "C" and _is_data(table, renamed):
                continue
            at, note = _find(table, role, renamed)
            notes += [note] if note else []
            if at is not None:
                roles[role] = at
        for column in bind.values():
            at, _ = _find(table, column, renamed)
            if at is not None:
                roles[column] = at
        _require(table, roles, ("ID", "TIME"), "a data set needs this column")
        _require(table, roles, covariates, f"{model.name} needs this covariate")
        _require(table, roles, list(bind.values()), "a parameter is bound to this column")
        for name in _DATES:
            if find(table.header, name) is not None and name not in covariates:
                raise DataError(
                    "a date, which would change the meaning of TIME", source=table.source, column=name,
                    remedy="give TIME since the first record and leave the date out",
                )  # fmt: skip
        return cls(roles, tuple(notes))

    def name(self, role: str, table: Table) -> str:
        """Name of a role in the file."""
        return table.header[self.roles[role]] if role in self.roles else role

    def used(self, table: Table) -> dict[str, str]:
        """Role to name in the file."""
        return {r: table.header[i] for r, i in self.roles.items()}

    def unused(self, table: Table) -> list[str]:
        """Names of the file that play no role."""
        taken = set(self.roles.values())
        return [h or f"(column {i + 1})" for i, h in enumerate(table.header) if i not in taken]


def _renamed(table: Table, columns: Mapping[str, str], known: list[str]) -> dict[str, int]:
    upper = {k.upper(): k for k in known}
    out: dict[str, int] = {}
    for role, name in columns.items():
        if role.upper() not in upper:
            raise DataError("plays no role here", column=role, remedy=f"use one of {', '.join(dict.fromkeys(known))}")
        at = find(table.header, name)
        if at is None:
            raise DataError(f"no such column, to be read as {role}", source=table.source, column=name, remedy=_have(table))
        out[upper[role.upper()]] = at
    return out


def _find(table: Table, role: str, renamed: Mapping[str, int]) -> tuple[int | None, str]:
    if role in renamed:
        return renamed[role], ""
    at = find(table.header, role)
    if at is not None:
        return at, ""
    others = [(s, i) for s in SYNONYMS.get(role, ()) if (i := find(table.header, s)) is not None]
    if len(others) > 1:
        both = " and ".join(table.header[i] for _, i in others)
        raise DataError(f"could be {both}", source=table.source, column=role, remedy="say which, by mapping the column")
    return (others[0][1], f"{role} is read from the column {table.header[others[0][1]]}") if others else (None, "")


def _is_data(table: Table, renamed: Mapping[str, int]) -> bool:
    """Whether a column named C holds something else than marks (a concentration, say)."""
    at = find(table.header, "C")
    if at is None or at in renamed.values():
        return True
    return not table.cells(at).str.to_uppercase().is_in(["C", "#", ".", "", "NA"]).all()


def _require(table: Table, roles: Mapping[str, int], wanted: list[str] | tuple[str, ...], why: str) -> None:
    for role in wanted:
        if role not in roles:
            raise DataError(
                f"no such column; {why}", source=table.source, column=role, remedy=f"add it, or map one to it; {_have(table)}"
            )


def _have(table: Table) -> str:
    names = [h for h in table.header if h]
    return f"the file has {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"[:300]


class Units:
    """Factors from the file's units to the model's. given: what the user said, None: the file is in the model's units."""

    def __init__(self, table: Table, heads: Heads, model: Model, given: Mapping[str, str] | None) -> None:
        self.table, self.heads, self.model = table, heads, model
        self.given: dict[str, str] | None = None
        self._taken: dict[str, str] = {}
        if given is None:
            return
        roles = {table.header[i].upper(): r for r, i in heads.roles.items()}
        ports, outputs = [f"AMT.{q.name}" for q in model.ports], [f"DV.{o.name}" for o in model.outputs]
        allowed = {n.upper() for n in (*heads.roles, *table.header, *ports, *outputs)}
        for key in given:
            if key.upper() not in allowed:
                raise DataError(
                    "a unit for a column that the file does not have", source=table.source, column=key, remedy=_have(table)
                )
        upper = {k.upper(): v for k, v in given.items()}
        self.given = {roles[k].upper(): v for k, v in upper.items() if k in roles} | upper

    def factor(self, role: str, wanted: str, instead: str = "", part: str = "") -> float:
        """What to multiply a column by. instead: role whose unit holds where this one has none. part: port or output."""
        if role not in self.heads.roles:
            return 1.0
        self._taken[f"{role}.{part}" if part else role] = wanted
        if self.given is None:
            return 1.0
        keys = [f"{role}.{part}", role, instead]
        unit = next((self.given[k.upper()] for k in keys if k.upper() in self.given), None)
        column = self.heads.name(role, self.table)
        if unit is None:
            if wanted in ("1", "", "dimensionless"):
                return 1.0
            raise DataError(
                "its unit is not given",
                source=self.table.source,
                column=column,
                remedy=f"add its unit, {column}={wanted} or another",
            )
        try:
            return factor(unit, wanted, column)
        except DataError as e:
            raise DataError(e.problem, source=self.table.source, column=column, remedy=e.remedy) from None

    def amounts(self, v: NDArray[np.float64], port: NDArray[np.int64], dose: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Amounts in the unit of each row's port; rows that are no doses are left alone."""
        return self._by_port(v, port, dose & (v != 0), "AMT", "")

    def rates(self, v: NDArray[np.float64], port: NDArray[np.int64], dose: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Rates in the unit of each row's port per time unit; -1 and -2 are codes."""
        return self._by_port(v, port, dose & (v > 0), "RATE", f"/{self.model.time_unit}")

    def _by_port(
        self, v: NDArray[np.float64], port: NDArray[np.int64], rows: NDArray[np.bool_], role: str, per: str
    ) -> NDArray[np.float64]:
        out, index = v.copy(), np.maximum(port, 1) - 1
        for k in np.unique(index[rows]):
            q = self.model.ports[k]
            unit = f"({q.unit}){per}" if per and not q.unit.isalpha() else f"{q.unit}{per}"
            out[rows & (index == k)] *= self.factor(role, unit, part=q.name)
        return out

    def values(self, v: NDArray[np.float64], output: NDArray[np.int64]) -> NDArray[np.float64]:
        """Measured values in the unit of each row's output."""
        out, measured = v.copy(), ~np.isnan(v)
        for k in np.unique(output[measured]):
            o = self.model.outputs[k]
            out[measured & (output == k)] *= self.factor("DV", o.unit, part=o.name)
        return out

    def note(self) -> str:
        """In which units the file was taken to be, where none were given."""
        shown = {k: u for k, u in self._taken.items() if u not in ("1", "")}
        if self.given is not None or not shown:
            return ""
        return f"no units given: the model's own are taken ({', '.join(f'{k} {u}' for k, u in shown.items())})"
