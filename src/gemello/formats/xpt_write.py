"""SAS transport files, written in version 5 (`gemello.formats.xpt` reads them and offers this `write`)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.formats.ibm import LARGEST, SMALLEST, encode_ibm
from gemello.formats.tables import (
    Column,
    Metadata,
    check_encoding,
    check_finite,
    check_size,
    kind_of_format,
    split_format,
    stamp,
    to_sas,
    write_whole,
)

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,7}")
RECORD = 80
NAMESTR = struct.Struct(">hhhh8s40s8shhh2s8shhl32sh18s")  # a variable: type, hash, length, number, name, label, format …
_ZEROS = "0" * 30 + "  "
_FORMATS = {pl.Date: "DATE9.", pl.Time: "TIME8."}


def write(
    path: Path | str, frame: pl.DataFrame, metadata: Metadata, *, encoding: str = "ascii", created: datetime | None = None
) -> Path:
    """Write a version 5 transport file. Labels, formats and special missing values are taken from the metadata by name.

    Dates get format DATE9., date-times DATETIME20., times TIME8. where the metadata give none. encoding: of text; regulators
    take ASCII. created: time in the header, now by default. Raises DataError, and writes nothing, for what version 5 cannot hold:
    names beyond 8 characters, labels beyond 40, text beyond 200 bytes, numbers that are not finite or beyond IBM's range.
    """
    check_encoding(encoding)
    source = Path(path).name
    known = {c.name: c for c in metadata.columns}
    if not frame.width or frame.width > 9999:
        raise DataError(f"{frame.width} columns", source=source, remedy="give a table with 1 to 9999 columns")
    check_size(frame.height, frame.width, source)
    name = _fitting(metadata.name, 8, "the data set's name", source, encoding)
    label = _fitting(metadata.label, 40, "the data set's label", source, encoding)
    check_names([metadata.name], source, "data set")
    check_names(frame.columns, source, "column")
    parts, descriptions, position = [], [], 0
    for k, values in enumerate(frame.iter_columns(), start=1):
        column = known.get(values.name, Column(values.name))
        cells, form = _encoded(values, column, source, encoding, metadata.special.get(values.name, {}))
        descriptions.append(_describe(column, values.name, k, cells, form, position, source, encoding))
        position += cells[1].shape[1]
        parts.append(cells)
    table = np.concatenate([c for _, c in parts], axis=1) if parts else np.zeros((0, 0), np.uint8)
    if frame.height and position < RECORD and (table[-1] == 32).all():
        raise DataError(
            "the last row is blank, which a transport file cannot tell from its filling", source=source, row=frame.height,
            remedy="leave it out, add a column of numbers, or write Dataset-JSON",
        )  # fmt: skip
    head = _head(name, label, len(descriptions), stamp(created))
    names = b"".join(descriptions)
    body = table.reshape(-1).data if table.size else b""

    def fill(f: Any) -> None:
        f.write(head + names + b" " * (-len(names) % RECORD) + _record("OBS     ", _ZEROS))
        f.write(body)
        f.write(b" " * (-len(body) % RECORD))

    return write_whole(path, fill)


def check_names(names: Sequence[str], source: str, what: str) -> None:
    """Raise DataError for a name that version 5 cannot hold, or that is there twice (capitals or not)."""
    seen: set[str] = set()
    for name in names:
        if not NAME.fullmatch(name):
            raise DataError(
                f"{what} name {name!r} is not 1 to 8 letters, digits or _",
                source=source,
                remedy="rename it, or write Dataset-JSON",
            )
        if name.upper() in seen:
            raise DataError("two columns have this name", source=source, column=name, remedy="rename one of them")
        seen.add(name.upper())


def _fitting(text: str, size: int, what: str, source: str, encoding: str) -> bytes:
    try:
        raw = text.encode(encoding)
    except UnicodeError:
        raise DataError(
            f"{what} is not {encoding}", source=source, value=text, remedy='reword it, or name an encoding, as encoding="utf-8"'
        ) from None
    if len(raw) > size or b"\0" in raw:
        raise DataError(f"{what} is longer than {size} bytes", source=source, value=text, remedy="shorten it")
    return raw.ljust(size)


def _encoded(
    values: pl.Series, column: Column, source: str, encoding: str, special: Mapping[int, str]
) -> tuple[tuple[bool, NDArray[np.uint8]], str]:
    """(is text, bytes (rows, length)) and SAS format of one column."""
    kind = values.dtype
    if kind in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        if kind != pl.Null or column.type in ("string", "date", "datetime", "time", "URI"):
            return (True, _encode_texts(values.cast(pl.String), column, source, encoding)), column.format
        values = values.cast(pl.Float64)
    form = column.format
    if kind in (pl.Date, pl.Datetime, pl.Time):
        same = kind_of_format(form) == ("date" if kind == pl.Date else "time" if kind == pl.Time else "datetime")
        form = form if same else _FORMATS.get(type(kind), "DATETIME20.")  # type: ignore[arg-type]
        values = to_sas(values).alias(values.name)
    elif not (values.dtype.is_integer() or values.dtype.is_float()):
        raise DataError(
            f"a column of type {kind} has no place in a transport file", source=source, column=values.name,
            remedy="make it text or numbers, as Y and N or 1 and 0",
        )  # fmt: skip
    check_finite(values, source)
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    size = np.abs(numbers)
    lost = (size > LARGEST) | ((size < SMALLEST) & (size > 0))
    if values.dtype.is_integer():
        lost |= size > 2.0**53
    if lost.any():
        i = int(np.argmax(lost))
        raise DataError(
            "a number that a transport file cannot hold", source=source, row=i + 1, column=values.name, value=values[i],
            remedy="rescale it, or write Dataset-JSON",
        )  # fmt: skip
    cells = encode_ibm(numbers)
    for i, letter in special.items():
        if not (0 <= i < len(numbers) and np.isnan(numbers[i]) and re.fullmatch(r"[A-Z_]", letter)):
            raise DataError(
                "a special missing value where the table has a value, or with no letter", source=source, row=i + 1,
                column=values.name, value=letter, remedy="give the special missing values of this table",
            )  # fmt: skip
        cells[i, 0] = ord(letter)
    return (False, cells), form


def _encode_texts(values: pl.Series, column: Column, source: str, encoding: str) -> NDArray[np.uint8]:
    try:
        cells = [t.encode(encoding) for t in values.fill_null("").to_list()]
    except UnicodeError:
        i = next(k for k, t in enumerate(values.fill_null("")) if not _encodes(t, encoding))
        raise DataError(
            f"not text in {encoding}", source=source, row=i + 1, column=values.name, value=values[i],
            remedy='reword it, or name an encoding, as encoding="utf-8"',
        ) from None  # fmt: skip
    longest = max(map(len, cells), default=0)
    bad = next((i for i, c in enumerate(cells) if len(c) > 200 or b"\0" in c), None)
    if bad is not None:
        problem = "a NUL in a text" if b"\0" in cells[bad] else "text longer than 200 bytes"
        raise DataError(problem, source=source, row=bad + 1, column=values.name, remedy="shorten it, or write Dataset-JSON")
    said = column.length if column.length and column.type == "string" and column.length <= 200 else 1
    length = max(longest, said)
    return np.frombuffer(b"".join(c.ljust(length) for c in cells), np.uint8).reshape(len(cells), length)


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeError:
        return False
    return True


def _describe(
    column: Column,
    name: str,
    number: int,
    cells: tuple[bool, NDArray[np.uint8]],
    form: str,
    position: int,
    source: str,
    encoding: str,
) -> bytes:
    parts = split_format(form)
    if parts is None or len(parts[0]) > 8 or max(parts[1:]) > 999:
        raise DataError(
            "not a SAS format of 8 characters or fewer", source=source, column=name, value=form, remedy="give one like DATE9."
        )
    label = _fitting(column.label, 40, f"the label of {name}", source, encoding)
    short = _fitting(parts[0], 8, f"the format of {name}", source, encoding)
    text, table = cells
    return NAMESTR.pack(
        2 if text else 1, 0, table.shape[1], number, name.encode("ascii").ljust(8), label, short, parts[1], parts[2], 0, b"\0\0",
        b" " * 8, 0, 0, position, b"\0" * 32, 0, b"\0" * 18,
    )  # fmt: skip


def _record(tag: str, rest: str) -> bytes:
    return f"HEADER RECORD*******{tag}HEADER RECORD!!!!!!!{rest}".encode("ascii").ljust(RECORD)


def _head(name: bytes, label: bytes, count: int, created: datetime) -> bytes:
    months = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")  # whatever the locale
    when = f"{created.day:02}{months[created.month - 1]}{created:%y:%H:%M:%S}".encode("ascii")
    system = b"9.4     " + b"gemello " + b" " * 24 + when
    return b"".join(
        (
            _record("LIBRARY ", _ZEROS), b"SAS     SAS     SASLIB  " + system, when.ljust(RECORD),
            _record("MEMBER  ", "000000000000000001600000000140  "), _record("DSCRPTR ", _ZEROS),
            b"SAS     " + name + b"SASDATA " + system, when.ljust(32) + label + b" " * 8,
            _record("NAMESTR ", f"{count:010d}".ljust(30, "0") + "  "),
        )
    )  # fmt: skip
