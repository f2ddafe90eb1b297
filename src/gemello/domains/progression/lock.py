"""Locking: a trained generator as a file that a trial refers to by its hash.

The file is canonical JSON (keys sorted, no spaces, shortest decimal form of every number) of what the generator is, how it was
trained, on whom, and the SHA-256 of all that. Whatever is changed in it, a space included, is seen when it is read. It is data:
reading it runs no code of its own, and the class that takes it is found in a table of this domain.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from gemello.base.errors import DataError, DomainError, RefusalError
from gemello.base.provenance import Provenance, data_hash
from gemello.domains.progression.overlap import marks
from gemello.domains.progression.registry import GENERATORS
from gemello.domains.progression.validity import Validity
from gemello.formats import tables
from gemello.model.generator import Array, Generator, History

SCHEMA = "gemello locked generator"
SCHEMA_VERSION = 2
LARGEST = 32 * 2**20  # bytes
DIGITS = 9  # significant digits of a score, of its spread: the last bits differ between machines
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Locked:
    """A generator that will not change. hash: SHA-256 (64 hexadecimal digits). provenance: of its training: data hash, seed,
    persons, rows, options, held-out scores, versions, date, and `content`: the hash of the generator alone, which
    training anew on the same data with the same seed gives again. validity: the population that it learned from; persons: their
    marks (see `overlap`)."""

    generator: Generator
    hash: str
    provenance: Mapping[str, Any]
    validity: Validity
    persons: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Name of the method."""
        return self.generator.kind

    def history_of(
        self,
        table: pl.DataFrame,
        *,
        person: str | None = None,
        time: str | None = None,
        measured: Mapping[str, float] | None = None,
    ) -> History:
        """What a trial's table says of its participants before randomisation, in the generator's variables; see `score`."""
        return _before_randomisation(self.generator, table, person, time, measured or {})

    def score(
        self, table: pl.DataFrame, variable: str, at: float, *, person: str | None = None, time: str | None = None,
        measured: Mapping[str, float] | None = None, outside: Literal["allow", "refuse"] = "allow",
    ) -> Array:  # fmt: skip
        """(persons,) prognostic score: the expected value of `variable` at time `at` on control, given what is known at
        randomisation.

        table: a row a participant with a column for each of the generator's variables (of a longitudinal one, its value at
        baseline), or with `time` a row a visit (times up to 0, randomisation). person: column of names, in the order of whose
        first rows the scores come; measured: time of a column's measurement where it is not 0. outside: what to do with
        participants outside of what was learned from ("allow" leaves them to the drift gate).

        Raises RefusalError for anything seen after randomisation (a visit or measurement at a time above 0, the column of an
        event), and for outsiders where asked to; DataError for missing columns, values, names.
        """
        names = [v.name for v in self.generator.variables if v.role == "longitudinal"]
        if variable not in names:
            raise DataError(f"no longitudinal variable {variable!r}", remedy=f"the generator forecasts {', '.join(names)}")
        if not np.isfinite(at) or at <= 0:
            raise DataError("not a time after randomisation", column="at", value=at, remedy="give a time above 0")
        seen = self.history_of(table, person=person, time=time, measured=measured)
        strange = self.generator.check(seen)
        if strange and outside == "refuse":
            who, why = next(iter(strange.items()))
            raise RefusalError(f"{len(strange)} of {len(seen)} participants are outside of what was learned from: {who}: {why}")
        value = self.generator.expected(seen, np.array([float(at)]))[variable][:, 0]
        if not np.all(np.isfinite(value)):
            raise RefusalError(f"no finite score for {seen.persons[int(np.argmin(np.isfinite(value)))]}")
        return stable(value)


def stable(score: Array) -> Array:
    """Scores to nine significant digits of the largest: equal on machines that differ in the last bits."""
    top = float(np.max(np.abs(score), initial=0.0))
    return np.round(score, DIGITS - 1 - math.floor(math.log10(top))) + 0.0 if top > 0 else score + 0.0


# ---- files -----------------------------------------------------------------------------------------------------------------
def write(
    generator: Generator, path: str | Path, *, history: History, seed: int, options: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None, notes: str = "",
) -> str:  # fmt: skip
    """Lock a trained generator: write its file and return its hash.

    history, seed, options: what it was trained with. scores: of held-out persons, by name (plain numbers, lists, words).
    Raises DataError for a kind that no table knows, and where the file would not give the generator back.
    """
    _class_of(generator.kind)
    content = {
        "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "kind": generator.kind, "version": generator.version,
        "generator": generator.to_dict(), "provenance": _provenance(generator, history, seed, options or {}, scores or {}, notes),
        "validity": Validity.of(history).to_dict(), "persons": sorted(marks(history)),
    }  # fmt: skip
    body = _coded(content)
    digest = _digest(body)
    text = canonical({**body, "sha256": digest})
    if len(text) > LARGEST:
        raise DataError(f"{len(text)} bytes", source=str(path), remedy=f"a locked generator has at most {LARGEST}")
    _unlock(json.loads(text), str(path))
    tables.write_whole(path, lambda f: f.write(text))
    return digest


def read(path: str | Path, expected: str | None = None) -> Locked:
    """The generator of a file. expected: the hash that a trial refers to.

    Raises DataError where the file is no such file, too large, or changed since it was locked; RefusalError where it is intact
    but not the one that the trial refers to.
    """
    place = str(path)
    try:
        with Path(path).open("rb") as f:
            text = f.read(LARGEST + 1)
    except (OSError, ValueError) as e:  # a name with a null byte
        words = f"cannot be read ({getattr(e, 'strerror', None) or e})"
        raise DataError(words, source=place, remedy="give the file of a locked generator") from e
    if len(text) > LARGEST:
        raise DataError(f"more than {LARGEST} bytes", source=place, remedy="a locked generator is smaller")
    try:
        data = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        if not isinstance(data, dict):
            raise ValueError("no object")
        claimed, again = data.get("sha256"), canonical(data)
    except (ValueError, RecursionError, OverflowError) as e:
        raise DataError(f"no locked generator ({e})", source=place, remedy="give the file that write made") from e
    if data.get("schema") != SCHEMA or data.get("schema_version") != SCHEMA_VERSION:
        found = f"{str(data.get('schema'))[:40]} {str(data.get('schema_version'))[:10]}"
        raise DataError("another schema", source=place, value=found, remedy=f"this gemello reads {SCHEMA} {SCHEMA_VERSION}")
    actual = _digest({k: v for k, v in data.items() if k != "sha256"})
    if claimed != actual:
        words = f"the lock is broken: the file says {str(claimed)[:64]}, its content has {actual}"
        raise DataError(words, source=place, remedy="take the file as it was locked, or train and lock anew")
    if text != again:
        raise DataError(
            "the lock is broken: bytes differ from those that were locked", source=place, remedy="take the original file"
        )
    if expected is not None and expected.lower() != actual:
        raise RefusalError(
            f"{place}: the trial refers to generator {expected[:64]}, this file is {actual}; give the file it refers to"
        )
    return _unlock(data, place)


def canonical(data: Mapping[str, Any]) -> bytes:
    """The one way in which data are written: sorted keys, no spaces, ASCII, shortest form of numbers."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


def _unlock(data: Mapping[str, Any], place: str) -> Locked:
    try:
        content = _decoded({k: v for k, v in data.items() if k != "sha256"})
        made = _class_of(content["kind"])
        if content["version"] != made.version:
            words = f"{content['kind']} of version {str(content['version'])[:20]}"
            raise DataError(words, source=place, remedy=f"this gemello has version {made.version}; train and lock anew")
        found = Locked(
            made.from_dict(content["generator"]),
            str(data["sha256"]),
            content["provenance"],
            Validity.from_dict(content["validity"]),
            tuple(str(m) for m in content["persons"]),
        )
        _tried(found)
        return found
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError) as e:
        raise DataError(
            f"no locked generator ({type(e).__name__}: {e})", source=place, remedy="give the file that write made"
        ) from e


def _tried(locked: Locked) -> None:
    """Forecast the most usual person of those learned from: parts that do not fit each other fail here, not in a trial. Raises
    whatever goes wrong, ValueError for a forecast that is not finite; a refusal is an answer."""
    g, v = locked.generator, locked.validity
    usual = {c.name: c.levels[int(np.argmax(c.counts))] if c.levels else c.mean for c in v.covariates}
    value = lambda names: {n: np.array([usual.get(n, np.nan)]) for n in names}  # noqa: E731
    names = {role: [x.name for x in g.variables if x.role == role] for role in ("baseline", "longitudinal")}
    at = np.array([0.25, 0.5]) * (v.last_time or 1.0)
    seen = History(
        g.variables, ("usual",), value(names["baseline"]), np.zeros(1, np.int64), np.zeros(1), value(names["longitudinal"]),
        time_unit=g.time_unit,
    )  # fmt: skip
    try:
        with np.errstate(all="ignore"):
            told = {**g.expected(seen, at), **{f"sampled {n}": a for n, a in g.sample(seen, at, draws=2, seed=0).values.items()}}
    except (RefusalError, DomainError):
        return
    lost = [n for n, a in told.items() if not np.all(np.isfinite(a))]
    if lost:
        raise ValueError(f"it does not forecast {', '.join(lost)}")


def _class_of(kind: object) -> type[Generator]:
    if not isinstance(kind, str) or kind not in GENERATORS:
        raise DataError(
            "no such kind of generator", column="kind", value=kind, remedy=f"kinds are {', '.join(sorted(GENERATORS))}"
        )
    module, attribute = GENERATORS[kind].split(":")
    return getattr(import_module(module), attribute)


def _provenance(
    generator: Generator, history: History, seed: int, options: Mapping[str, Any], scores: Mapping[str, Any], notes: str
) -> dict[str, Any]:
    made = Provenance.collect(data=history_hash(history), seed=seed).to_dict()
    return {
        **made, "model": generator.kind, "model_version": generator.version, "persons": len(history), "rows": len(history.person),
        "events": {k: int(np.sum(a)) for k, a in history.event_seen.items()}, "options": dict(options), "scores": dict(scores),
        "notes": notes, "time_unit": history.time_unit, "content": _digest({"generator": _coded(generator.to_dict())}),
        "variables": {v.name: f"{v.kind}, {v.role}, {v.unit}" for v in history.variables},
    }  # fmt: skip


def history_hash(history: History) -> str:
    """16 hexadecimal digits of all that a history holds."""
    arrays: dict[str, Any] = {"persons": np.array(history.persons), "person": history.person, "time": history.time}
    for part in ("baseline", "values", "event_time", "event_seen"):
        arrays |= {f"{part} {k}": a for k, a in getattr(history, part).items()}
    return data_hash(arrays)


def _coded(value: Any) -> Any:
    """Plain JSON: numbers that JSON does not have become {"$": "inf"}."""
    if isinstance(value, Mapping):
        bad = next((k for k in value if not isinstance(k, str) or k.startswith("$")), None)
        if bad is not None:
            raise DataError("not a name", column=str(bad)[:40], remedy="names are words that do not start with $")
        return {k: _coded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_coded(v) for v in value]
    if isinstance(value, np.ndarray):
        return _coded(value.tolist())
    if isinstance(value, np.generic):
        return _coded(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return {"$": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DataError(f"cannot be locked as {type(value).__name__}", remedy="give numbers, words, lists and mappings")


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return _FLOATS[value["$"]] if set(value) == {"$"} else {k: _decoded(v) for k, v in value.items()}
    return [_decoded(v) for v in value] if isinstance(value, list) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name twice")
    return out


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


# ---- what a trial's table says --------------------------------------------------------------------------------------------
def _before_randomisation(
    generator: Generator, table: pl.DataFrame, person: str | None, time: str | None, measured: Mapping[str, float]
) -> History:
    by_role = {r: [v.name for v in generator.variables if v.role == r] for r in ("baseline", "longitudinal", "event")}
    wanted = by_role["baseline"] + by_role["longitudinal"]
    for name in (*wanted, *(c for c in (person, time) if c)):
        if name not in table.columns:
            raise DataError("no such column", column=name, remedy=f"the table has {', '.join(table.columns[:30])}")
    if not len(table):
        raise DataError("no rows", remedy="give a row a participant")
    for name in by_role["event"]:
        if name in table.columns:
            raise RefusalError(
                f"column {name}: an event is seen after randomisation; a prognostic score may not read it, leave it out"
            )
    for name, when in measured.items():
        if not when <= 0:
            raise RefusalError(
                f"column {name}: measured at {when:g}, after randomisation; a prognostic score may read what was known at time 0"
            )
    numbers = {name: _numbers(table, name) for name in wanted}
    names = [str(i + 1) for i in range(len(table))] if person is None else _names(table, person)
    persons = tuple(dict.fromkeys(names))
    place = {p: i for i, p in enumerate(persons)}
    number = np.array([place[p] for p in names], np.int64)
    when_row = np.zeros(len(table)) if time is None else _numbers(table, time)
    if time is None and len(persons) < len(table):
        twice = next(p for i, p in enumerate(names) if p in names[:i])
        raise DataError(
            "two rows of one participant", column=person, value=twice, remedy="give a row each, or the column of times"
        )
    if np.any(np.isnan(when_row)):
        raise DataError("no time", column=time, row=int(np.argmax(np.isnan(when_row))) + 1, remedy="give every visit's time")
    if np.any(when_row > 0):
        i = int(np.argmax(when_row > 0))
        words = "after randomisation; a prognostic score may read visits up to time 0"
        raise RefusalError(f"row {i + 1}, column {time}: a visit at {when_row[i]:g}, {words}")
    order = np.lexsort((when_row, number))
    baseline = {k: _latest(numbers[k], number, order, len(persons)) for k in by_role["baseline"]}
    return History(
        generator.variables, persons, baseline, number[order], when_row[order] + 0.0,
        {k: numbers[k][order] for k in by_role["longitudinal"]}, time_unit=generator.time_unit,
    )  # fmt: skip


def _latest(values: Array, number: Any, order: Any, persons: int) -> Array:
    """Each person's last value that is not missing."""
    out = np.full(persons, np.nan)
    for i in order:
        if not np.isnan(values[i]):
            out[number[i]] = values[i]
    return out


def _names(table: pl.DataFrame, person: str) -> list[str]:
    column = table[person]
    if column.is_null().any():
        raise DataError(
            "no name", column=person, row=int(np.argmax(column.is_null().to_numpy())) + 1, remedy="name every participant"
        )
    return [str(v) for v in column.to_list()]


def _numbers(table: pl.DataFrame, name: str) -> Array:
    column = table[name]
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise DataError(f"holds {column.dtype}", column=name, remedy="give numbers, coded as in the history")
    out = column.cast(pl.Float64).to_numpy().astype(float)
    if np.any(np.isinf(out)):
        raise DataError("infinite value", column=name, row=int(np.argmax(np.isinf(out))) + 1, remedy="mend it or leave it empty")
    return out
