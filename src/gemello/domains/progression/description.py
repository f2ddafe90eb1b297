"""A history described in a YAML file: which table, which columns, and what they are. docs/progression.md shows the form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from gemello.base.errors import DataError
from gemello.domains.progression import history
from gemello.formats import cdisc, yamlfile
from gemello.model.fields import Fields
from gemello.model.generator import KINDS, History, Variable

SCHEMA = "gemello-history/1"
KEYS = (
    "schema", "file", "person", "where", "time", "time_unit", "longitudinal", "visits", "baseline", "events", "kinds", "bounds",
    "units", "since_first",
)  # fmt: skip


@dataclass(frozen=True)
class Description:
    """A described history: where the table lies, and how it is read (arguments of `history.from_long` or `from_wide`)."""

    file: Path
    where: Mapping[str, tuple[Any, ...]]
    arguments: Mapping[str, Any]
    wide: bool

    def read(self, like: tuple[Variable, ...] | None = None) -> History:
        """The history. like: read it as another one's variables."""
        table, _ = cdisc.read_table(self.file)
        for column, values in self.where.items():
            if column not in table.columns:
                remedy = f"it has {', '.join(table.columns[:30])}"
                raise DataError("no such column", source=self.file.name, column=column, remedy=remedy)
            names = {yamlfile.name_of(v) for v in values}
            table = table.filter(
                pl.Series([v is not None and yamlfile.name_of(v) in names for v in table[column].to_list()], dtype=pl.Boolean)
            )
        if not len(table):
            raise DataError("no row stays", source=self.file.name, column=", ".join(self.where), remedy="mend where:")
        make = history.from_wide if self.wide else history.from_long
        return make(table, **self.arguments, like=like)


def read(path: Path | str) -> Description:
    """The description of a YAML file; the table lies beside it. Raises DataError or ModelError."""
    path = Path(path)
    content = yamlfile.read(path, typed=True, example=f"schema: {SCHEMA}")
    f = Fields(path.name, content)
    if content.get("schema") != SCHEMA:
        found = content.get("schema", "")
        raise DataError(
            "not a described history", source=path.name, column="schema", value=found, remedy=f"write schema: {SCHEMA}"
        )
    f.only(KEYS)
    if ("visits" in f) == ("time" in f):
        raise DataError(
            "give either time (one row a visit) or visits (one row a person)", source=path.name, remedy="see docs/progression.md"
        )
    wide = "visits" in f
    common = {
        "baseline": f.texts("baseline", ()), "events": _events(f), "kinds": dict(f.section("kinds", {}).values),
        "bounds": {k: _pair(f, k, v) for k, v in f.section("bounds", {}).values.items()},
        "units": dict(f.section("units", {}).values), "time_unit": f.text("time_unit", "day"),
    }  # fmt: skip
    own: dict[str, Any] = (
        {"person": f.text("person") if "person" in f else None, "visits": _visits(f)}
        if wide
        else {"person": f.text("person"), "time": f.text("time"), "longitudinal": f.texts("longitudinal", ()),
              "since_first": f.flag("since_first", False)}
    )  # fmt: skip
    _declared(path.name, common, own)
    where = {str(k): tuple(v) if isinstance(v, list) else (v,) for k, v in f.section("where", {}).values.items()}
    return Description(yamlfile.beside(path, f.text("file"), "file"), where, common | own, wide)


def _declared(source: str, common: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """DataError for a kind, bound or unit of a variable that the file does not declare, an unknown kind, a variable twice."""
    names = [*own.get("visits", ()), *own.get("longitudinal", ()), *common["baseline"], *common["events"]]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise DataError("declared twice", source=source, column=twice, remedy="a variable is baseline, longitudinal or an event")
    for key in ("kinds", "bounds", "units"):
        for name, value in common[key].items():
            if str(name).split("=")[0] not in names:
                raise DataError("of no variable", source=source, column=f"{key} {name}", remedy=f"they are {', '.join(names)}")
            if key == "kinds" and value not in KINDS:
                raise DataError(
                    "no kind", source=source, column=f"{key} {name}", value=value, remedy=f"one of {', '.join(KINDS)}"
                )


def _events(f: Fields) -> dict[str, tuple[str, str]]:
    out = {}
    for name, value in f.section("events", {}).values.items():
        g = Fields(f"{f.where} event {name}", value if isinstance(value, dict) else {})
        g.only(("time", "seen"))
        out[str(name)] = (g.text("time"), g.text("seen"))
    return out


def _visits(f: Fields) -> dict[str, dict[float, str]]:
    out: dict[str, dict[float, str]] = {}
    for name, at in f.section("visits").values.items():
        if not isinstance(at, dict) or not at:
            raise DataError(
                "not a mapping of times to columns", source=f.where, column=str(name), remedy="write {0: cd40, 140: cd420}"
            )
        out[str(name)] = {Fields(f.where, {"time": t}).number("time"): str(c) for t, c in at.items()}
    return out


def _pair(f: Fields, name: str, value: Any) -> tuple[float, float]:
    low, high = Fields(f"{f.where} bounds", {name: value}).numbers(name, 2)
    return low, high
