"""CDISC Dataset-JSON: read versions 1.0 and 1.1, as one JSON text or as NDJSON (the metadata, then one row a line); write 1.1.

After CDISC's Dataset-JSON 1.1 specification. `date`, `datetime` and `time` variables with targetDataType "integer" are SAS
numbers elsewhere: they become Date, Datetime and Time here. Without it they are ISO 8601 text, which may be partial, and
stay text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from gemello.base.errors import DataError
from gemello.formats.tables import (
    SIZE_LIMIT,
    Column,
    Metadata,
    check_finite,
    check_size,
    converted,
    kind_of_format,
    read_bytes,
    stamp,
    write_whole,
)

JSON_LIMIT = 100_000_000  # bytes of one JSON text, held as objects while it is read; NDJSON goes row by row
LINE_LIMIT = 10_000_000  # bytes of one line of NDJSON
TYPES = ("string", "integer", "decimal", "float", "double", "boolean", "date", "datetime", "time", "URI")

_DATES: Mapping[str, Any] = {"date": pl.Date, "datetime": pl.Datetime("us"), "time": pl.Time}
_FORMATS = {"date": "DATE9.", "datetime": "DATETIME20.", "time": "TIME8."}
_STRUCTURE = ("columns", "rows", "records", "name", "label", "itemGroupData", "clinicalData", "referenceData")
_SPEC = "see the Dataset-JSON 1.1 specification"


# ---- reading -----------------------------------------------------------------------------------------------------------
def read(path: Path | str) -> tuple[pl.DataFrame, Metadata]:
    """The data set of a .json or .ndjson file: String, Int64, Float64, Boolean, and dates as the module says. "" is null.

    Raises DataError with place and remedy: no such file, no JSON, too large or too deep, another structure, rows that do not fit
    the columns, fewer or more rows than `records` says, numbers that are not finite.
    """
    path = Path(path)
    head, rows, source = _parts(path)
    version = head.get("datasetJSONVersion")
    if not isinstance(version, str) or not version.startswith(("1.0", "1.1")):
        raise DataError("not Dataset-JSON 1.0 or 1.1", source=source, column="datasetJSONVersion", value=version, remedy=_SPEC)
    group = _group_1_0(head, source) if version.startswith("1.0") else head
    columns, targets = _columns(group, source, version)
    rows = group.get("itemData") if version.startswith("1.0") else rows
    if not isinstance(rows, list):
        raise DataError("no rows", source=source, remedy=f"give a list of rows; {_SPEC}")
    _check_records(group.get("records"), len(rows), source)
    check_size(len(rows), len(columns), source)
    frame = _frame(rows, columns, targets, source)
    if columns[0].name.upper() == "ITEMGROUPDATASEQ":  # number of the row, in 1.0
        columns, frame = columns[1:], frame[:, 1:]
    frame, notes = converted(frame, columns)
    attributes = {k: v for k, v in (head | group).items() if k not in _STRUCTURE and not isinstance(v, list)}
    words = [group.get(k, "") for k in ("name", "label")]
    if not all(isinstance(w, str) for w in words) or not words[0]:
        raise DataError("name and label of the data set must be text", source=source, remedy=_SPEC)
    return frame, Metadata(words[0], words[1], columns, f"Dataset-JSON {version}", source, attributes, notes=tuple(notes))


def _parts(path: Path) -> tuple[dict[str, Any], Any, str]:
    """Metadata, rows, and the file's name."""
    source = path.name
    data = read_bytes(path, SIZE_LIMIT).removeprefix(b"\xef\xbb\xbf")
    first, _, rest = data.partition(b"\n")
    lines = path.suffix.lower() == ".ndjson" or (
        first.rstrip().endswith(b"}") and b'"columns"' in first and b'"rows"' not in first and rest.lstrip()[:1] == b"["
    )
    if not lines:
        if len(data) > JSON_LIMIT:
            raise DataError(f"more than {JSON_LIMIT / 1e6:g} MB in one JSON text", source=source, remedy="write it as NDJSON")
        head = _load(data, source, None)
        return _object(head, source), head.get("rows"), source
    head = _object(_load(first, source, 1), source)
    rows = []
    for i, line in enumerate(rest.split(b"\n"), start=2):
        if not line.strip():
            continue
        if len(line) > LINE_LIMIT:
            raise DataError(f"a line of more than {LINE_LIMIT / 1e6:g} MB", source=source, row=i, remedy="give one row a line")
        row = _load(line, source, i)
        if not isinstance(row, list):
            raise DataError("a line that is no row", source=source, row=i, value=line[:40], remedy="give one list a line")
        rows.append(row)
    return head, rows, source


def _object(value: Any, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError("is no JSON object", source=source, remedy=_SPEC)
    return value


def _load(data: bytes, source: str, line: int | None) -> Any:
    row: int | None
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_constant, object_pairs_hook=_unique, parse_float=_float)
        if re.search(rb"\\u[dD][89a-fA-F]", data):  # half of a pair is no character
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except json.JSONDecodeError as e:
        row, problem = (line or e.lineno), e.msg
        problem, value = f"not JSON ({problem})", e.doc[e.pos : e.pos + 20] or "end of the file"
    except UnicodeDecodeError as e:
        row, problem, value = (line or data.count(b"\n", 0, e.start) + 1), "not UTF-8 text", f"byte {data[e.start]:#x}"
    except UnicodeEncodeError:
        row, problem, value = line, "half of a surrogate pair, which is no character", None
    except RecursionError:
        row, problem, value = line, "nested too deeply", None
    except ValueError as e:  # numbers that are not finite or have thousands of digits, keys that repeat
        row, problem, value = line, str(e).partition(";")[0], None
    raise DataError(problem, source=source, row=row, value=value, remedy="make the file anew where it came from")


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return out


def _group_1_0(head: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The one item group of version 1.0, with the identifiers around it."""
    data = next((head[k] for k in ("clinicalData", "referenceData") if k in head), None)
    groups = data.get("itemGroupData") if isinstance(data, dict) else None
    if not isinstance(groups, dict) or len(groups) != 1:
        raise DataError("no single itemGroupData", source=source, remedy="give a file with one data set")
    ((oid, group),) = groups.items()
    outer = {k: v for k, v in data.items() if k != "itemGroupData"} if isinstance(data, dict) else {}
    return {"itemGroupOID": oid} | outer | _object(group, source)


def _columns(group: Mapping[str, Any], source: str, version: str) -> tuple[tuple[Column, ...], list[str | None]]:
    """The variables, and the targetDataType of each."""
    old = version.startswith("1.0")
    raw = group.get("items" if old else "columns")
    if not isinstance(raw, list) or not raw or not all(isinstance(c, dict) for c in raw):
        raise DataError("no columns", source=source, remedy=f"describe every column; {_SPEC}")
    check_size(0, len(raw), source)
    out, targets, seen = [], [], set()
    for i, c in enumerate(raw, start=1):
        name, kind = c.get("name"), c.get("type" if old else "dataType")
        if not isinstance(name, str) or not name.strip():
            raise DataError("a column without a name", source=source, column=str(i), remedy=_SPEC)
        if name.upper() in seen:
            raise DataError("two columns have this name", source=source, column=name, remedy="rename one of them")
        if kind not in TYPES:
            raise DataError("unknown dataType", source=source, column=name, value=kind, remedy=f"use one of {', '.join(TYPES)}")
        target = c.get("targetDataType")
        if target not in (None, "integer", "decimal"):
            raise DataError("unknown targetDataType", source=source, column=name, value=target, remedy="use integer or decimal")
        seen.add(name.upper())
        label, form, oid = (c.get(k) or "" for k in ("label", "displayFormat", "OID" if old else "itemOID"))
        length, key = (c.get(k) for k in ("length", "keySequence"))
        if not all(isinstance(t, str) for t in (label, form, oid)) or not all(_whole(n) for n in (length, key)):
            raise DataError(
                "a label or format that is no text, or a length or key that is no whole number",
                source=source,
                column=name,
                remedy=_SPEC,
            )
        out.append(Column(name, label, kind, length, form, key, oid))
        targets.append(target)
    return tuple(out), targets


def _whole(n: Any) -> bool:
    return n is None or (isinstance(n, int) and not isinstance(n, bool) and n >= 0)


def _check_records(said: Any, rows: int, source: str) -> None:
    if not isinstance(said, int) or isinstance(said, bool) or said != rows:
        raise DataError(
            f"holds {rows} rows but says {said!r}"[:120], source=source, column="records",
            remedy="the file was cut off or edited; make it anew",
        )  # fmt: skip


def _frame(rows: Sequence[Any], columns: Sequence[Column], targets: Sequence[str | None], source: str) -> pl.DataFrame:
    for i, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            what = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise DataError(
                f"a row of {what}, expected {len(columns)}", source=source, row=i, remedy="give every column a value or null"
            )
    cells: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pl.DataFrame([_series(v, c, t, source) for v, c, t in zip(cells, columns, targets, strict=True)])


def _series(values: Sequence[Any], column: Column, target: str | None, source: str) -> pl.Series:
    """One column, each value checked against its dataType."""
    kind = column.type
    allowed: tuple[type, ...] = (str,)
    if kind in ("integer", "float", "double"):
        allowed = (int, float)
    elif kind == "decimal":
        allowed = (str, int, float)
    elif kind == "boolean":
        allowed = (bool,)
    kinds = set(map(type, values)) - {type(None)}
    if not kinds <= set(allowed):
        _refuse(values, lambda v: v is None or type(v) in allowed, column, source, f"is no {kind}")
    if kind in ("string", "URI") or (kind in _DATES and target is None):
        return pl.Series(column.name, [v or None for v in values], pl.String)
    if kind == "boolean":
        return pl.Series(column.name, values, pl.Boolean)
    if kind in _DATES:
        return _dates([v or None for v in values], column, source)
    if kind == "integer":
        _refuse(values, lambda v: v is None or (v == int(v) and abs(v) < 2**63), column, source, "is no whole number of 64 bits")
        return pl.Series(column.name, [None if v is None else int(v) for v in values], pl.Int64)
    _refuse(values, lambda v: v is None or v == "" or _finite(v), column, source, "is no finite number")
    return pl.Series(column.name, [None if v is None or v == "" else float(v) for v in values], pl.Float64)


def _finite(value: Any) -> bool:
    try:
        return "_" not in str(value) and math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _refuse(values: Sequence[Any], fits: Any, column: Column, source: str, problem: str) -> None:
    i = next((i for i, v in enumerate(values, start=1) if not fits(v)), None)
    if i is not None:
        raise DataError(
            problem, source=source, row=i, column=column.name, value=values[i - 1], remedy="correct the value or the dataType"
        )


def _dates(values: Sequence[str | None], column: Column, source: str) -> pl.Series:
    """ISO 8601 text that must be complete, as dates; a date-time without seconds or with a Z is taken."""
    text = pl.Series(column.name, values, pl.String)
    if column.type == "date":
        out = text.str.to_date("%Y-%m-%d", strict=False)
        bad = ~text.str.contains(r"^\d{4}-\d\d-\d\d$")
    elif column.type == "time":
        whole = text.str.replace(r"^(\d\d:\d\d)$", "$1:00")
        out, bad = whole.str.to_time("%H:%M:%S%.f", strict=False), ~whole.str.contains(r"^\d\d:\d\d:\d\d(\.\d+)?$")
    else:
        whole = text.str.strip_suffix("Z").str.replace(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d)$", "$1:00")
        out = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us")
        bad = ~whole.str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$")
    wrong = (text.is_not_null() & (bad | out.is_null())).to_list()
    _refuse(
        list(zip(values, wrong, strict=True)), lambda v: not v[1], column, source, f"is no complete {column.type} of ISO 8601"
    )
    return out


# ---- writing -----------------------------------------------------------------------------------------------------------
def write(path: Path | str, frame: pl.DataFrame, metadata: Metadata, *, created: datetime | None = None) -> Path:
    """Write Dataset-JSON 1.1.0; as NDJSON where the path ends so. Labels, formats, keys are taken from the metadata by name.

    created: time in the file, now by default. Attributes of the metadata that 1.1 knows (studyOID, originator …) are kept;
    special missing values have no place there and are null. Raises
    DataError, and writes nothing, for names that repeat, types without a place (durations, lists), numbers that are not finite.
    """
    source = Path(path).name
    if not metadata.name or not frame.width:
        raise DataError("a data set needs a name and a column", source=source, remedy="give Metadata(name=...) and a table")
    check_size(frame.height, frame.width, source)
    known = {c.name: c for c in metadata.columns}
    columns, plain, seen = [], [], set()
    for values in frame.iter_columns():
        if values.name.upper() in seen or not values.name.strip():
            raise DataError("two columns have this name, or none", source=source, column=values.name, remedy="rename one of them")
        seen.add(values.name.upper())
        kind, cells = _plain(values, known.get(values.name, Column(values.name)), source)
        plain.append(cells)
        columns.append(_described(values, kind, known.get(values.name, Column(values.name)), metadata.name))
    head = _heading(metadata, frame.height, columns, stamp(created))
    lines = Path(path).suffix.lower() == ".ndjson"
    opening = _dump(head) if lines else "{\n" + _dump(head)[1:-1] + ', "rows": ['
    rows = zip(*plain, strict=True)

    def fill(f: Any) -> None:
        f.write(opening.encode())
        for i, row in enumerate(rows):
            f.write(("\n" if lines or i == 0 else ",\n").encode() + _dump(row).encode())
        f.write(b"\n" if lines else b"\n]}\n")

    return write_whole(path, fill)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(values: pl.Series, column: Column, source: str) -> tuple[str, list[Any]]:
    """dataType and JSON values of one column."""
    kind = values.dtype
    if kind in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        text = values.cast(pl.String)
        return (column.type if column.type in ("date", "datetime", "time", "URI") else "string"), text.to_list()
    if kind == pl.Boolean:
        return "boolean", values.to_list()
    if kind == pl.Date:
        return "date", values.dt.strftime("%Y-%m-%d").to_list()
    if kind == pl.Time:
        return "time", [None if t is None else t.isoformat() for t in values]
    if kind == pl.Datetime:
        return "datetime", [None if t is None else t.isoformat() for t in values.cast(pl.Datetime("us"))]
    if kind.is_integer():
        return "integer", values.to_list()
    if kind.is_float():
        check_finite(values, source)
        return ("float" if column.type == "float" else "double"), values.cast(pl.Float64).to_list()
    raise DataError(
        f"a column of type {kind} has no place in Dataset-JSON",
        source=source,
        column=values.name,
        remedy="make it text or numbers",
    )


def _described(values: pl.Series, kind: str, column: Column, dataset: str) -> dict[str, Any]:
    """The description of one variable. A missing label is the name, since 1.1 asks for one."""
    out: dict[str, Any] = {
        "itemOID": column.oid or f"IT.{dataset}.{column.name}", "name": column.name, "label": column.label or column.name,
        "dataType": kind,
    }  # fmt: skip
    form = column.format
    if values.dtype.is_temporal():
        out["targetDataType"] = "integer"
        form = form if kind_of_format(form) == kind else _FORMATS[kind]
    if kind == "string":
        longest = values.cast(pl.String).str.len_chars().max()
        out["length"] = max(int(longest or 0), column.length or 1)  # type: ignore[arg-type]
    if form:
        out["displayFormat"] = form
    if column.key:
        out["keySequence"] = column.key
    return out


def _heading(metadata: Metadata, rows: int, columns: Sequence[Mapping[str, Any]], created: datetime) -> dict[str, Any]:
    known = ("fileOID", "dbLastModifiedDateTime", "originator", "sourceSystem", "studyOID", "metaDataVersionOID", "metaDataRef")
    kept = {k: metadata.attributes[k] for k in known if k in metadata.attributes}
    return {
        "datasetJSONCreationDateTime": created.isoformat(), "datasetJSONVersion": "1.1.0", **kept,
        "itemGroupOID": metadata.attributes.get("itemGroupOID", f"IG.{metadata.name}"), "records": rows, "name": metadata.name,
        "label": metadata.label or metadata.name, "columns": list(columns),
    }  # fmt: skip
