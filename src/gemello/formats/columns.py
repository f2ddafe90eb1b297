"""A CSV file as columns of text, with the line of every row, so that each error can name where it is.

Refused here, before any cell is looked at: what is no file, no text, no CSV; repeated names; rows of unequal length.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError

SIZE_LIMIT = 500_000_000  # bytes
COLUMN_LIMIT = 1_000
MISSING = ("", ".", "NA")  # cells that hold no value
_NEWLINE, _COMMA, _QUOTE, _HASH = b'\n,"#'


@dataclass(frozen=True)
class Table:
    """A CSV file. header: names as written. text: one column of text per name, "0", "1", … lines: (rows,) line in the file
    of each row, the first line being 1. skipped: numbers of comment lines (that begin with #) and of lines without a value.
    """

    source: str
    header: tuple[str, ...]
    text: pl.DataFrame
    lines: NDArray[np.int64]
    skipped: tuple[int, int]

    def __len__(self) -> int:
        return len(self.lines)

    def cells(self, index: int) -> pl.Series:
        """Column `index` as text without surrounding blanks; an empty cell is ''."""
        return self.text.to_series(index).fill_null("").str.strip_chars()

    def cell(self, row: int, index: int) -> str:
        """One cell as text."""
        return str(self.text.to_series(index)[row] or "").strip()

    def numbers(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Column `index` as numbers, NaN where missing; and where a cell holds something that is not a finite number."""
        raw = self.text.to_series(index)
        values = raw.cast(pl.Float64, strict=False).to_numpy().copy()
        bad = np.zeros(len(values), bool)
        doubtful = np.flatnonzero(~np.isfinite(values))  # missing, text, blanks around a number, nan, or above 1.8e308
        if len(doubtful):
            cells = raw.gather(doubtful).fill_null("").str.strip_chars()
            again = cells.cast(pl.Float64, strict=False).to_numpy()
            finite = np.isfinite(again)
            values[doubtful] = np.where(finite, again, np.nan)
            bad[doubtful] = ~finite & ~cells.is_in(MISSING).to_numpy()
        return values, bad

    def rows(self, keep: NDArray[np.bool_]) -> Table:
        """The rows where `keep`."""
        return Table(self.source, self.header, self.text.filter(pl.Series(keep)), self.lines[keep], self.skipped)


def read(path: Path | str) -> Table:
    """The file at `path`; UTF-8, separated by commas, names in its first line. Raises DataError."""
    path = Path(path)
    data = _bytes(path)
    source = path.name
    _check_text(data, source)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data or data.isspace():
        raise DataError("the file is empty", source=source, remedy="give a CSV file with a header and rows")
    if not data.endswith(b"\n"):
        data += b"\n"
    return _parse(data, source)


def _bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise DataError("no such file", source=str(path), remedy="check the path")
        if not path.is_file():
            raise DataError("is not a file", source=str(path), remedy="give the path of a CSV file")
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise DataError(
                f"{size / 1e6:.0f} MB is more than {SIZE_LIMIT / 1e6:.0f} MB",
                source=path.name,
                remedy="split the file by subjects",
            )
        return path.read_bytes()
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise DataError(f"cannot be read: {reason}", source=str(path), remedy="check the path and its permissions") from None


def _check_text(data: bytes, source: str) -> None:
    if data.startswith((b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")):
        raise DataError("not a CSV file (a spreadsheet, an archive or a PDF)", source=source, remedy="save it as CSV")
    at = data.find(b"\0")
    if at >= 0:
        row = data.count(b"\n", 0, at) + 1
        raise DataError("a NUL byte: not text in UTF-8", source=source, row=row, remedy="save the file as CSV in UTF-8")
    if data.isascii():
        return
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as e:
        row = data.count(b"\n", 0, e.start) + 1
        raise DataError(
            "not UTF-8 text", source=source, row=row, value=f"byte {data[e.start]:#x}", remedy="save the file in UTF-8"
        ) from None


def _parse(data: bytes, source: str) -> Table:
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == _NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    separator = codes == _COMMA
    comment = codes[starts] == _HASH
    blank = _blank(codes, starts, ends)
    if b'"' in data:
        inside = (np.cumsum(codes == _QUOTE, dtype=np.uint8) & 1).astype(bool)  # even wraps to even
        if inside[ends].any():
            row = int(np.argmax(inside[ends])) + 1
            raise DataError(
                "a quotation mark is not closed", source=source, row=row, remedy="close it on its line, or take it out"
            )
        separator &= ~inside
    fields = np.add.reduceat(separator, starts, dtype=np.int32) + 1
    kept = np.flatnonzero(~comment & ~blank)
    if not len(kept):
        raise DataError("the file holds no rows", source=source, remedy="give a CSV file with a header and rows")
    first, rest = kept[0], kept[1:]
    header = _header(data[starts[first] : ends[first]].decode(), source, int(first) + 1)
    ragged = fields[rest] != len(header)
    if ragged.any():
        line = int(rest[np.argmax(ragged)])
        raise DataError(
            f"{fields[line]} values where the header has {len(header)} names", source=source, row=line + 1,
            remedy="give every row one value per name, and put text that holds a comma in quotation marks",
        )  # fmt: skip
    if not len(rest):
        raise DataError("a header and no rows", source=source, remedy="add the records below the header")
    keep = np.zeros(len(starts), bool)
    keep[rest] = True
    body = (
        data[starts[rest[0]] :] if keep[rest[0] :].all() else codes[np.repeat(keep, np.diff(starts, append=len(data)))].tobytes()
    )
    text = _frame(body, len(header), source)
    if len(text) != len(rest):
        raise DataError(
            "quotation marks that do not enclose whole values",
            source=source,
            remedy="enclose values wholly, or take the marks out",
        )
    return Table(source, header, text, rest + 1, (int(comment.sum()), int((blank & ~comment).sum())))


def _blank(codes: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Lines of commas and blanks only; nearly all lines show in their first byte that they are not."""
    first = codes[starts]
    out = (first <= 32) | (first == _COMMA)  # 32 is the space; what is below it prints nothing
    for i in np.flatnonzero(out):
        line = codes[starts[i] : ends[i]]
        out[i] = not ((line > 32) & (line != _COMMA)).any()
    return out


def _header(line: str, source: str, row: int) -> tuple[str, ...]:
    if line.lstrip()[:1] in ("{", "[", "<"):
        raise DataError("not a CSV file (JSON, XML or HTML)", source=source, row=row, value=line, remedy="save it as CSV")
    names = tuple(n.strip() for n in next(csv.reader([line])))
    if len(names) == 1 and any(s in line for s in ";\t "):
        raise DataError(
            "the names are not separated by commas",
            source=source,
            row=row,
            value=line,
            remedy="save the file with commas between values",
        )
    if len(names) > COLUMN_LIMIT:
        raise DataError(
            f"{len(names)} columns, more than {COLUMN_LIMIT}", source=source, row=row, remedy="leave out what is not needed"
        )
    if all(_is_number(n) for n in names):
        raise DataError(
            "numbers where the names of the columns should be", source=source, row=row, value=line, remedy="add a header line"
        )
    seen: dict[str, str] = {}
    for n in names:
        if n and n.upper() in seen:
            raise DataError(
                f"the name stands twice in the header ({seen[n.upper()]}, {n})",
                source=source,
                row=row,
                column=n,
                remedy="rename one",
            )
        seen[n.upper()] = n
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in MISSING
    return True


def _frame(body: bytes, columns: int, source: str) -> pl.DataFrame:
    schema: dict[str, Any] = {str(i): pl.String for i in range(columns)}
    named = body[:1] == b"x"  # "x^" begins a compressed file, too: a line of names before it says that this is none
    try:
        return pl.read_csv(
            ",".join(schema).encode() + b"\n" + body if named else body, has_header=named, schema=schema, infer_schema=False
        )
    except (pl.exceptions.PolarsError, OSError) as e:
        reason = " ".join(str(e).split())[:100]
        raise DataError(f"not CSV: {reason}", source=source, remedy="save the file as plain CSV") from None


# ---- names -------------------------------------------------------------------------------------------------------------
def find(header: Sequence[str], name: str) -> int | None:
    """Position of a name in a header, capitals or not."""
    wanted = name.strip().upper()
    return next((i for i, h in enumerate(header) if h.upper() == wanted), None) if wanted else None
