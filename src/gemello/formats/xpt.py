"""SAS transport files (XPORT): versions 5 and 8/9 are read, version 5 is written, the form that SDTM and ADaM are submitted in.

In NumPy rather than through a C library, so that a hostile file is an error and not a crash. After SAS's technical notes TS-140
(version 5: records of 80 bytes, big-endian integers, IBM System/360 floating point, special missing values) and its successor for
version 8 (names of 32 characters, long labels in a LABELV8 or LABELV9 section). A blank text is a missing value (null).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.formats.ibm import decode_ibm
from gemello.formats.tables import (
    Column,
    Metadata,
    check_encoding,
    check_size,
    converted,
    join_format,
    read_bytes,
    split_format,
)
from gemello.formats.xpt_write import NAMESTR, RECORD, write

__all__ = ["members", "read", "write"]

MAGIC = b"HEADER RECORD*******LIB"


@dataclass(frozen=True)
class _Member:
    """One data set of a library: where its headers begin and its records end, in bytes."""

    name: str
    label: str
    start: int  # of its NAMESTR header
    stop: int
    namestr: int  # bytes of one description of a variable
    created: str


@dataclass(frozen=True)
class _Variable:
    column: Column
    text: bool
    length: int
    position: int


# ---- reading -----------------------------------------------------------------------------------------------------------
def members(path: Path | str) -> tuple[str, ...]:
    """Names of the data sets in a transport file, in order. Raises DataError."""
    data, source, version = _open(path)
    return tuple(m.name for m in _members(data, source, version, "utf-8"))


def read(
    path: Path | str, *, member: str | None = None, encoding: str = "utf-8", dates: bool = True
) -> tuple[pl.DataFrame, Metadata]:
    """The data set of a transport file: text as String, numbers as Float64, with SAS date formats as Date, Datetime or Time.

    member: which data set, where the file holds several. encoding: of text ("cp1252" for many older files). dates: False leaves
    SAS's numbers. Raises DataError with place and remedy for what is no such file, was cut off, or contradicts itself.
    """
    check_encoding(encoding)
    data, source, version = _open(path)
    found = _members(data, source, version, encoding)
    names = ", ".join(m.name for m in found)
    if member is None and len(found) > 1:
        raise DataError(f"holds {len(found)} data sets", source=source, remedy=f"choose one with member=: {names}")
    chosen = next((m for m in found if member is None or m.name.upper() == member.upper()), None)
    if chosen is None:
        raise DataError("no such data set in the file", source=source, value=member, remedy=f"it holds {names}")
    variables, at, declared = _variables(data, chosen, source, version, encoding)
    table = _rows(data[at : chosen.stop], variables, declared, source)
    frame, special = _frame(table, variables, source, encoding)
    columns = tuple(v.column for v in variables)
    frame, notes = converted(frame, columns) if dates else (frame, [])
    kind = f"SAS transport {version}"
    return frame, Metadata(chosen.name, chosen.label, columns, kind, source, {"created": chosen.created}, special, tuple(notes))


def _open(path: Path | str) -> tuple[bytes, str, int]:
    data, source = read_bytes(path), Path(path).name
    if not data.startswith(MAGIC):
        what = "a SAS data set (sas7bdat)" if data[12:14] == b"\xc2\xea" else "a CPORT file" if b"COMPRESSED" in data[:80] else ""
        raise DataError(
            f"is no SAS transport file{f' but {what}' if what else ''}", source=source, remedy="export it with the XPORT engine"
        )
    version = 8 if data[20:28] == b"LIBV8   " else 5 if data[20:28] == b"LIBRARY " else 0
    if not version:
        raise DataError(
            "unknown version of a transport file", source=source, value=data[20:28], remedy="export it as version 5 or 8"
        )
    if len(data) % RECORD:
        raise DataError(
            f"was cut off: {len(data)} bytes are no whole number of records of 80",
            source=source,
            remedy="copy it anew, in binary",
        )
    return data, source, version


def _members(data: bytes, source: str, version: int, encoding: str) -> list[_Member]:
    tag, wide = (b"MEMBV8  ", 32) if version == 8 else (b"MEMBER  ", 8)
    starts = list(_find(data, b"HEADER RECORD*******" + tag + b"HEADER RECORD!!!!!!!"))
    if not starts or starts[0] != 3 * RECORD:
        raise DataError("no data set in the file, or a damaged header", source=source, remedy="export it anew")
    out = []
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        head = data[start : start + 4 * RECORD]
        _header(head, RECORD, b"DSCPTV8 " if version == 8 else b"DSCRPTR ", source)
        name = _text(head[168 : 168 + wide], "name of the data set", source, encoding)
        label = _text(head[272:312], "label of the data set", source, encoding)
        size = head[74:78]
        if size not in (b"0140", b"0136"):
            raise DataError("unknown size of the descriptions of variables", source=source, value=size, remedy="export it anew")
        created = head[224:240].decode("ascii", "replace").strip()
        out.append(_Member(name, label, start + 4 * RECORD, stop, int(size), created))
    return out


def _find(data: bytes, what: bytes) -> Iterator[int]:
    """Starts of the records that begin with `what`."""
    at = data.find(what)
    while at >= 0:
        if at % RECORD == 0:
            yield at
        at = data.find(what, at + 1)


def _header(data: bytes, at: int, tag: bytes, source: str) -> bytes:
    record = data[at : at + RECORD]
    if not record.startswith(b"HEADER RECORD*******" + tag + b"HEADER RECORD!!!!!!!"):
        raise DataError(
            f"expected a header {tag.decode().strip()}", source=source, row=at // RECORD + 1, value=record[:40],
            remedy="the file is damaged or cut off; export it anew",
        )  # fmt: skip
    return record


def _text(raw: bytes, what: str, source: str, encoding: str) -> str:
    try:
        return raw.rstrip(b" \0").decode(encoding)
    except UnicodeError:
        raise DataError(
            f"{what} is not {encoding}", source=source, value=raw, remedy='name its encoding, as encoding="cp1252"'
        ) from None


def _number(raw: bytes, what: str, source: str) -> int:
    if not raw.isdigit():
        raise DataError(f"{what} is no number", source=source, value=raw, remedy="the file is damaged; export it anew")
    return int(raw)


def _variables(data: bytes, member: _Member, source: str, version: int, encoding: str) -> tuple[list[_Variable], int, int | None]:
    """The variables, where the rows begin, and how many rows the file says that it has (None where it does not)."""
    record = _header(data, member.start, b"NAMSTV8 " if version == 8 else b"NAMESTR ", source)
    count = _number(record[48:58], "number of variables", source)
    at = member.start + RECORD
    end = at + -(-count * member.namestr // RECORD) * RECORD
    if not count or end + RECORD > member.stop:
        problem = f"says {count} variables, more than the file can hold" if count else "has no variables"
        raise DataError(problem, source=source, remedy="the file is damaged or cut off; export it anew")
    found: list[_Variable] = []
    for k in range(count):
        raw = data[at + k * member.namestr : at + (k + 1) * member.namestr].ljust(140, b"\0")
        found.append(_variable(raw, k, found[-1] if found else None, source, version, encoding))
    declared = None
    if version == 8:
        found, end = _long_labels(data, end, member.stop, found, source, encoding)
        digits = _header(data, end, b"OBSV8   ", source)[48:63].strip()
        declared = _number(digits, "number of rows", source) if digits else None
    else:
        _header(data, end, b"OBS     ", source)
    names = [v.column.name.upper() for v in found]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None) if len(set(names)) < count else None
    if twice:
        raise DataError("two variables have this name", source=source, column=twice, remedy="rename one of them")
    return found, end + RECORD, declared or None


def _variable(raw: bytes, index: int, before: _Variable | None, source: str, version: int, encoding: str) -> _Variable:
    kind, _, length, _, name8, label, form, width, decimals, _, _, _, _, _, position, name32, _, _ = NAMESTR.unpack(raw)
    raw_name = name32 if version == 8 and name32.strip(b" \0") else name8
    name = _text(raw_name, f"name of variable {index + 1}", source, encoding)
    place = name or f"{index + 1}"
    if not name or not name.isprintable():
        raise DataError(
            "a variable without a readable name", source=source, column=place, remedy="the file is damaged; export it anew"
        )
    if kind not in (1, 2):
        raise DataError(
            "is neither number nor text", source=source, column=place, value=kind, remedy="the file is damaged; export it anew"
        )
    if not (1 <= length <= 32767 if kind == 2 else 2 <= length <= 8):
        raise DataError(
            "an impossible length", source=source, column=place, value=length, remedy="the file is damaged; export it anew"
        )
    expected = before.position + before.length if before else 0
    if position != expected:
        raise DataError(
            f"begins at byte {position} of a row, expected {expected}", source=source, column=place, remedy="export it anew"
        )
    words = _text(form, f"format of {place}", source, encoding)
    column = Column(
        name, _text(label, f"label of {place}", source, encoding), "string" if kind == 2 else "double", length,
        join_format(words, max(width, 0), max(decimals, 0)),
    )  # fmt: skip
    return _Variable(column, kind == 2, length, position)


def _long_labels(
    data: bytes, at: int, stop: int, found: list[_Variable], source: str, encoding: str
) -> tuple[list[_Variable], int]:
    """Variables with the labels (and formats) of a LABELV8/LABELV9 section, if there is one, and where OBSV8 stands."""
    tag = data[at + 20 : at + 28]
    if tag not in (b"LABELV8 ", b"LABELV9 "):
        return found, at
    words = _header(data, at, tag, source)[48:78].split()
    count = _number(words[0][:5] if words else b"", "number of long labels", source)
    parts = 5 if tag == b"LABELV9 " else 3
    at += RECORD
    by_name = {v.column.name.upper(): i for i, v in enumerate(found)}
    out = list(found)
    for _ in range(count):
        sizes = struct.unpack(f">{parts}H", data[at : at + 2 * parts].ljust(2 * parts, b"\xff"))[1:]
        if at + 2 * parts + sum(sizes) > stop:
            raise DataError("a label runs beyond the file", source=source, row=at // RECORD + 1, remedy="export the file anew")
        at += 2 * parts
        texts = []
        for size in sizes:
            texts.append(_text(data[at : at + size], "label", source, encoding))
            at += size
        i = by_name.get(texts[0].upper())
        if i is None:
            raise DataError(
                "a label for a variable that is not there", source=source, column=texts[0], remedy="export the file anew"
            )
        old = out[i].column
        form = old.format if parts == 3 or not texts[1] else _long_format(texts[1], old.format)
        out[i] = _Variable(Column(old.name, texts[-1], old.type, old.length, form), out[i].text, out[i].length, out[i].position)
    return out, -(-at // RECORD) * RECORD


def _long_format(name: str, short: str) -> str:
    """A long format name, with the width and decimals of the short one; a name that comes with its width stays."""
    _, width, decimals = split_format(short) or ("", 0, 0)
    parts = split_format(name)
    return join_format(*parts) if parts and parts[1] else join_format(name.rstrip("."), width, decimals)


def _rows(data: bytes, variables: Sequence[_Variable], declared: int | None, source: str) -> NDArray[np.uint8]:
    """(rows, bytes) The rows, without the blanks that fill the last record."""
    width = variables[-1].position + variables[-1].length
    count, rest = divmod(len(data), width)
    if declared is not None:
        if declared > count:
            raise DataError(f"says {declared} rows but holds {count}", source=source, remedy="the file was cut off; copy it anew")
        count, rest = declared, len(data) - declared * width
        if rest >= RECORD or data[len(data) - rest :].strip(b" "):
            raise DataError(f"says {declared} rows but holds more", source=source, remedy="the file is damaged; export it anew")
    elif data[len(data) - rest :].strip(b" "):
        raise DataError(f"was cut off in row {count + 1}", source=source, row=count + 1, remedy="copy it anew, in binary")
    check_size(count, len(variables), source)
    table = np.frombuffer(data, np.uint8, count * width).reshape(count, width)
    filled = len(data) - (RECORD - 1)  # a row of blanks that begins at or after this byte may be the filling of the last record
    while declared is None and count and (count - 1) * width >= filled and (table[count - 1] == 32).all():
        count -= 1
    return table[:count]


def _frame(
    table: NDArray[np.uint8], variables: Sequence[_Variable], source: str, encoding: str
) -> tuple[pl.DataFrame, dict[str, dict[int, str]]]:
    out, special = [], {}
    for v in variables:
        raw = np.ascontiguousarray(table[:, v.position : v.position + v.length])
        if v.text:
            out.append(_texts(raw, v.column.name, source, encoding))
            continue
        values, codes = decode_ibm(raw)
        letters = {int(i): chr(codes[i]) for i in np.flatnonzero((codes != 0) & (codes != ord(".")))}
        if letters:
            special[v.column.name] = letters
        out.append(pl.Series(v.column.name, values).fill_nan(None))
    return pl.DataFrame(out), special


def _texts(raw: NDArray[np.uint8], name: str, source: str, encoding: str) -> pl.Series:
    cells = raw.reshape(-1).view(f"S{raw.shape[1]}").tolist() if len(raw) else []
    try:
        if encoding.lower() in ("utf-8", "utf8", "ascii"):
            text = pl.Series(name, cells, pl.Binary).cast(pl.String)
        else:
            text = pl.Series(name, [c.decode(encoding) for c in cells], pl.String)
    except (pl.exceptions.PolarsError, UnicodeError):
        i = next(k for k, c in enumerate(cells) if not _decodes(c, encoding))
        raise DataError(
            f"not text in {encoding}", source=source, row=i + 1, column=name, value=cells[i],
            remedy='name the encoding, as encoding="cp1252"',
        ) from None  # fmt: skip
    text = text.str.strip_chars_end(" \0")
    return text.set(text == "", None)


def _decodes(cell: bytes, encoding: str) -> bool:
    try:
        cell.decode(encoding)
    except UnicodeError:
        return False
    return True
