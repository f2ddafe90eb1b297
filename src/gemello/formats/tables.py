"""What a table file says about itself, SAS date formats, and files that are read within limits and written whole or not at all.

Shared by the CDISC readers and writers. A SAS date is a number of days, a SAS date-time a number of seconds, since 1960-01-01.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from gemello.base.errors import DataError

SIZE_LIMIT = 500_000_000  # bytes
ROW_LIMIT = 20_000_000
CELL_LIMIT = 200_000_000
EPOCH = date(1960, 1, 1)  # day 0 of SAS
Kind = Literal["date", "datetime", "time"]

_DAY, _UNIX = 86_400, (date(1970, 1, 1) - EPOCH).days  # seconds; days from SAS's epoch to that of polars
_KINDS: Mapping[Kind, str] = {
    "date": r"DATE|DAY|DDMMYY[BCDNPS]?|DOWNAME|E8601DA|B8601DA|IS8601DA|JULDAY|JULIAN|MMDDYY[BCDNPS]?|MMYY[CDNPS]?|MONNAME|"
    r"MONTH|MONYY|NENGO|NLDATE\w*|QTR|QTRR|WEEKDATE|WEEKDATX|WEEKDAY|WORDDATE|WORDDATX|YEAR|YYMM[CDNPS]?|YYMMDD[BCDNPS]?|YYMON|"
    r"YYQ[CDNPS]?|YYQR[CDNPS]?",
    "datetime": r"DATETIME|DATEAMPM|DTDATE|DTMONYY|DTWKDATX|DTYEAR|DTYYQC|"
    r"E8601DN|E8601DT|B8601DN|B8601DT|IS8601DT|MDYAMPM|NLDATM\w*",
    "time": r"TIME|TIMEAMPM|TOD|HHMM|HOUR|MMSS|E8601TM|B8601TM|IS8601TM|NLTIM\w*",
}  # fmt: skip
_FORMAT = re.compile(r"(\$?(?:[A-Za-z_]\w*[A-Za-z_]|[A-Za-z_])?)(\d{0,5})(?:\.(\d{0,5}))?")


@dataclass(frozen=True)
class Column:
    """One variable. name and label as written. type: Dataset-JSON's word (string, integer, float, double, decimal, boolean, date,
    datetime, time, URI). length: bytes of text or of the number, None where the file does not say. format: SAS's ("DATE9.").
    key: place in the sort key, from 1. oid: identifier in a Define-XML.
    """

    name: str
    label: str = ""
    type: str = "string"
    length: int | None = None
    format: str = ""
    key: int | None = None
    oid: str = ""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its table. kind: its format ("SAS transport 5", "Dataset-JSON 1.1.0", "CSV" …). attributes: what
    else it says, by its own names (studyOID, originator, created …). special: by column, the letter of SAS's special missing
    values (.A to .Z, ._) by row, counted from 0; such a value is null in the table. notes: what a reader should know.
    """

    name: str
    label: str = ""
    columns: tuple[Column, ...] = ()
    kind: str = ""
    source: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    special: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """The variable of that name. Raises DataError."""
        for c in self.columns:
            if c.name == name:
                return c
        known = ", ".join(c.name for c in self.columns[:20])
        raise DataError("no such column", source=self.source or self.name, column=name, remedy=f"the table has {known}")


# ---- SAS formats and dates ----------------------------------------------------------------------------------------------
def split_format(text: str) -> tuple[str, int, int] | None:
    """A SAS format as name, width and decimals (0 where unsaid): "E8601DA10." is ("E8601DA", 10, 0). None if it is no format."""
    found = _FORMAT.fullmatch(text.strip())
    return (found[1], int(found[2] or 0), int(found[3] or 0)) if found else None


def join_format(name: str, width: int, decimals: int) -> str:
    """The format in SAS's writing, "" for none."""
    if not name and not width:
        return ""
    return f"{name}{width or ''}.{decimals or ''}"


def kind_of_format(text: str) -> Kind | None:
    """Whether numbers with this SAS format are dates, date-times or times of day."""
    parts = split_format(text)
    if parts is None or not parts[0]:
        return None
    return next((k for k, names in _KINDS.items() if re.fullmatch(names, parts[0].upper())), None)


def from_sas(values: pl.Series, kind: Kind) -> pl.Series | None:
    """SAS's numbers as dates, date-times (µs) or times; None where one is none (fractional day, not in 1582 to 9999)."""
    low, high = (date(1582, 10, 15) - EPOCH).days, (date(9999, 12, 31) - EPOCH).days
    x = values.cast(pl.Float64)
    known = x.drop_nulls()
    unit = 1 if kind == "date" else _DAY
    ends = (0, unit) if kind == "time" else (low * unit, (high + 1) * unit)
    if not ((known >= ends[0]) & (known < ends[1])).all() or (kind == "date" and not (known == known.round()).all()):
        return None
    if kind == "date":
        return (x.cast(pl.Int64) - _UNIX).cast(pl.Int32).cast(pl.Date)
    micro = (x * 1e6).round().cast(pl.Int64)
    if kind == "time":
        return (micro * 1000).cast(pl.Time) if (micro.drop_nulls() < _DAY * 1_000_000).all() else None
    return (micro - _UNIX * _DAY * 1_000_000).cast(pl.Datetime("us"))


def to_sas(values: pl.Series) -> pl.Series:
    """Dates, date-times (without zone, or as UTC) and times as SAS's numbers."""
    if values.dtype == pl.Date:
        return values.cast(pl.Int32).cast(pl.Float64) + _UNIX
    if values.dtype == pl.Time:
        return values.cast(pl.Int64).cast(pl.Float64) / 1e9
    return (values.cast(pl.Datetime("us")).cast(pl.Int64) + _UNIX * _DAY * 1_000_000).cast(pl.Float64) / 1e6


def converted(frame: pl.DataFrame, columns: Iterable[Column]) -> tuple[pl.DataFrame, list[str]]:
    """The frame with numbers that have a SAS date format made dates, and a note for each column where that cannot be."""
    notes, made = [], []
    for c in columns:
        kind = kind_of_format(c.format) if frame[c.name].dtype.is_numeric() else None
        if kind is None:
            continue
        dates = from_sas(frame[c.name], kind)
        if dates is None:
            notes.append(f"column {c.name}: has format {c.format} but values that are no {kind}, kept as numbers")
        else:
            made.append(dates.alias(c.name))
    return frame.with_columns(made), notes


# ---- checks of what is to be written ----------------------------------------------------------------------------------------
def check_finite(values: pl.Series, source: str) -> None:
    """Raise DataError at the first NaN or infinity of a column of numbers."""
    if not values.dtype.is_float():
        return
    bad = ~values.is_finite().fill_null(True)
    if bad.any():
        i = int(np.argmax(bad.to_numpy()))
        raise DataError(
            "not a finite number", source=source, row=i + 1, column=values.name, value=values[i],
            remedy="give null where there is no value",
        )  # fmt: skip


def check_encoding(encoding: str) -> None:
    """Raise DataError for what is no encoding of text that extends ASCII."""
    try:
        plain = bytes(range(32, 127)).decode(encoding)
    except (LookupError, UnicodeError, ValueError, TypeError):
        plain = ""
    if plain != bytes(range(32, 127)).decode("ascii"):
        raise DataError("not an encoding of text that extends ASCII", value=encoding, remedy="use utf-8, cp1252 or latin-1")


def check_size(rows: int, columns: int, source: str) -> None:
    """Raise DataError for a table that is too large to be held."""
    if rows > ROW_LIMIT or rows * columns > CELL_LIMIT:
        raise DataError(
            f"{rows} rows of {columns} columns are more than can be held ({ROW_LIMIT} rows, {CELL_LIMIT} cells)",
            source=source, remedy="split the file by subjects",
        )  # fmt: skip


# ---- files ------------------------------------------------------------------------------------------------------------------
def read_bytes(path: Path | str, limit: int = SIZE_LIMIT) -> bytes:
    """The whole file. Raises DataError for what is no file, cannot be read, is empty, or holds more than `limit` bytes."""
    path = Path(path)
    try:
        if not path.exists():
            raise DataError("no such file", source=str(path), remedy="check the path")
        if not path.is_file():
            raise DataError("is not a file", source=str(path), remedy="give the path of a file")
        with path.open("rb") as f:
            data = f.read(limit + 1)
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise DataError(f"cannot be read: {reason}", source=str(path), remedy="check the path and its permissions") from None
    if len(data) > limit:
        raise DataError(f"more than {limit / 1e6:g} MB", source=path.name, remedy="split the file by subjects")
    if not data:
        raise DataError("the file is empty", source=path.name, remedy="make it anew where it came from")
    return data


def write_whole(path: Path | str, write: Callable[[Any], None]) -> Path:
    """Open a file beside `path`, let `write` fill it, then rename it: nobody ever sees half a file. Raises DataError."""
    path = Path(path)
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        with part.open("wb") as f:
            write(f)
        os.replace(part, path)
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or str(e)
        raise DataError(f"cannot be written: {reason}", source=str(path), remedy="give a path that you may write to") from None
    finally:
        if os.path.lexists(str(part).replace("\0", "")):
            part.unlink(missing_ok=True)
    return path


def stamp(created: datetime | None) -> datetime:
    """`created`, or now, to the second and without zone."""
    return (created or datetime.now()).replace(microsecond=0, tzinfo=None)
