"""One door for the tables of a trial (CSV, Parquet, SAS transport, CDISC Dataset-JSON), and the rules that CDISC's tables share.

A missing value is null in every table, whatever the file calls it: an empty cell, "." or "NA" in a CSV, a blank text or "." to
".Z" in a transport file, null or "" in Dataset-JSON, null or NaN in Parquet.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from gemello.base.errors import DataError
from gemello.formats import columns as csv_table
from gemello.formats import dataset_json, xpt
from gemello.formats.tables import Column, Metadata, check_finite, check_size, read_bytes, write_whole

FORMS = {".csv": "CSV", ".parquet": "Parquet", ".xpt": "SAS transport", ".json": "Dataset-JSON", ".ndjson": "Dataset-JSON"}
EXACT = 2**53  # whole numbers beyond it lose digits as floating point

_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_ISO = re.compile(  # a date and time, of which any right part may be missing, and parts inside given as "-"
    r"(?:\d{4}|-)(?:-(?:0[1-9]|1[0-2]|-)(?:-(?:0[1-9]|[12]\d|3[01]|-)(?:T(?:[01]\d|2[0-3]|-)(?::(?:[0-5]\d|-)(?::[0-5]\d(?:\.\d+)?)?)?"
    r"(?:Z|[+-]\d\d:?\d\d)?)?)?)?"
)


@dataclass(frozen=True)
class Finding:
    """A rule that a table breaks. rule: in a few words. place: column, or row counted from 1. problem: with its remedy."""

    rule: str
    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


# ---- reading -----------------------------------------------------------------------------------------------------------
def read_table(
    path: Path | str,
    *,
    text: Sequence[str] = (),
    dates: Sequence[str] = (),
    member: str | None = None,
    encoding: str = "utf-8",
) -> tuple[pl.DataFrame, Metadata]:
    """The table of a .csv, .parquet, .xpt, .json or .ndjson file, and what the file says about it.

    CSV: a column of numbers becomes Int64 or Float64, unless a number is written with leading zeros or has more than 15 digits
    (an identifier); any other stays text. text: columns of a CSV to leave as text.
    dates: columns of a CSV that are complete dates
    (2014-01-31). member, encoding: of a transport file. Raises DataError with place and remedy.
    """
    path = Path(path)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise DataError(f"unknown kind of file {path.suffix!r}", source=path.name, remedy=f"give one of {', '.join(FORMS)}")
    _check_content(path, form)
    if form == "CSV":
        return _read_csv(path, text, dates)
    if text or dates:
        raise DataError("text and dates are for CSV files", source=path.name, remedy="leave them out: the file says its types")
    if form == "Parquet":
        return _read_parquet(path)
    if form == "SAS transport":
        return xpt.read(path, member=member, encoding=encoding)
    return dataset_json.read(path)


def _check_content(path: Path, form: str) -> None:
    """A file whose content is that of another kind than its name says."""
    try:
        with path.open("rb") as f:
            start = f.read(200).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, ValueError):
        return  # the reader says what is wrong
    begins = {"SAS transport": b"HEADER RECORD*******", "Parquet": b"PAR1", "Dataset-JSON": b"{"}
    found = next((k for k, magic in begins.items() if start.startswith(magic)), None)
    if found != form and (found is not None or form != "CSV") and start:
        is_a = f"holds {found}" if found else f"does not hold {form}"
        raise DataError(
            f"is named {path.suffix} but {is_a}", source=path.name, remedy="give the file the ending of what it holds"
        )


def _read_csv(path: Path, text: Sequence[str], dates: Sequence[str]) -> tuple[pl.DataFrame, Metadata]:
    table = csv_table.read(path)
    unknown = [n for n in (*text, *dates) if n not in table.header]
    if unknown:
        raise DataError("no such column", source=table.source, column=unknown[0], remedy=f"it has {', '.join(table.header[:20])}")
    out, notes = [], []
    for i, name in enumerate(table.header):
        cells = table.cells(i)
        cells = cells.set(cells.is_in(csv_table.MISSING), None).alias(name)
        if name in dates:
            out.append(_csv_dates(cells, table.lines, table.source))
        elif name in text:
            out.append(cells)
        else:
            series, note = _csv_numbers(cells, table.lines, table.source)
            out.append(series)
            notes += [note] if note else []
    frame = pl.DataFrame(out)
    return frame, Metadata(path.stem, columns=_described(frame), kind="CSV", source=table.source, notes=tuple(notes))


def _csv_numbers(cells: pl.Series, lines: np.ndarray, source: str) -> tuple[pl.Series, str]:
    """The column as numbers where it is one, else as it is; and what a reader should know."""
    values = cells.cast(pl.Float64, strict=False)
    known = cells.is_not_null()
    number = values.is_finite().fill_null(False) & known
    if not number.any():
        return cells, ""
    bad = known & ~number
    if bad.any():
        odd = bad & cells.str.to_lowercase().str.contains(r"^[+-]?(nan|inf|infinity|1\.#.*)$|^[+-]?[\d.]+e[+-]?\d+$").fill_null(
            False
        )
        i = int(np.argmax((odd if odd.any() else bad).to_numpy()))
        place = f"(row {int(lines[i])}: {str(cells[i])[:30]!r})"
        if (odd == bad).all():
            raise DataError(
                "not a finite number", source=source, row=int(lines[i]), column=cells.name, value=cells[i],
                remedy="leave the cell empty",
            )  # fmt: skip
        return cells, f"column {cells.name}: {int(bad.sum())} of {int(known.sum())} values are no numbers {place}, kept as text"
    if cells.str.contains(r"^[+-]?0\d|^[+-]?\d{16,}$").any():
        return cells, f"column {cells.name}: numbers with leading zeros or more than 15 digits, kept as text"
    whole = cells.drop_nulls().str.contains(r"^[+-]?\d+$").all()
    return (values.cast(pl.Int64) if whole else values), ""


def _csv_dates(cells: pl.Series, lines: np.ndarray, source: str) -> pl.Series:
    out = cells.str.to_date("%Y-%m-%d", strict=False)
    bad = cells.is_not_null() & (out.is_null() | ~cells.str.contains(r"^\d{4}-\d\d-\d\d$"))
    if bad.any():
        i = int(np.argmax(bad.to_numpy()))
        raise DataError(
            "not a complete date", source=source, row=int(lines[i]), column=cells.name, value=cells[i],
            remedy="write it as 2014-01-31",
        )  # fmt: skip
    return out


def _read_parquet(path: Path) -> tuple[pl.DataFrame, Metadata]:
    data = read_bytes(path)
    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
        rows = int(pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item())
        check_size(rows, len(schema), path.name)
        frame = pl.read_parquet(io.BytesIO(data))
    except DataError:
        raise
    except BaseException as e:  # a panic inside polars is no Exception
        if isinstance(e, (KeyboardInterrupt, SystemExit)):
            raise
        raise DataError("no readable Parquet file", source=path.name, remedy="write it anew") from None
    nan: list[str] = []
    for s in frame.iter_columns():
        if s.dtype.is_nested() or s.dtype in (pl.Binary, pl.Object, pl.Duration):
            raise DataError(f"a column of type {s.dtype}", source=path.name, column=s.name, remedy="give numbers, text or dates")
        if s.dtype.is_float() and s.is_infinite().any():
            i = int(np.argmax(s.is_infinite().fill_null(False).to_numpy()))
            raise DataError(
                "not a finite number", source=path.name, row=i + 1, column=s.name, value=s[i], remedy="give null instead"
            )
        nan += [s.name] if s.dtype.is_float() and s.is_nan().any() else []
    frame = frame.with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String), pl.col(pl.Decimal).cast(pl.Float64), pl.col(nan).fill_nan(None)
    )
    frame = frame.with_columns(pl.when(pl.col(pl.String) != "").then(pl.col(pl.String)))
    notes = tuple(f"column {n}: NaN taken as missing" for n in nan)
    return frame, Metadata(path.stem, columns=_described(frame), kind="Parquet", source=path.name, notes=notes)


def _described(frame: pl.DataFrame) -> tuple[Column, ...]:
    """Names and types of a table that comes without a description."""

    def word(kind: pl.DataType) -> str:
        if kind == pl.Boolean:
            return "boolean"
        if kind.is_temporal():
            return "date" if kind == pl.Date else "time" if kind == pl.Time else "datetime"
        return "integer" if kind.is_integer() else "double" if kind.is_float() else "string"

    return tuple(Column(s.name, type=word(s.dtype)) for s in frame.iter_columns())


# ---- writing -----------------------------------------------------------------------------------------------------------
def write_table(
    path: Path | str, frame: pl.DataFrame, metadata: Metadata, *, created: datetime | None = None, encoding: str = "ascii"
) -> Path:
    """Write a .xpt (version 5), .json or .ndjson (1.1), .parquet or .csv file, whole or not at all. encoding: of a
    transport file. Raises DataError."""
    path = Path(path)
    form = FORMS.get(path.suffix.lower())
    if form == "SAS transport":
        return xpt.write(path, frame, metadata, created=created, encoding=encoding)
    if form == "Dataset-JSON":
        return dataset_json.write(path, frame, metadata, created=created)
    for values in frame.iter_columns():
        check_finite(values, path.name)
    if form == "Parquet":
        return write_whole(path, frame.write_parquet)
    if form == "CSV":
        return write_whole(path, frame.write_csv)
    raise DataError(f"unknown kind of file {path.suffix!r}", source=path.name, remedy=f"give one of {', '.join(FORMS)}")


# ---- rules that SDTM and ADaM share ------------------------------------------------------------------------------------------
def is_iso_date(value: str) -> bool:
    """Whether a text is a date (and time) of ISO 8601 as SDTM takes it: complete, or with parts unknown ("2014",
    "2014---15"); or two of them with a / between. A date that the calendar does not have is none."""
    parts = value.split("/")
    return len(parts) <= 2 and all(_is_date(p) for p in parts)


def _is_date(value: str) -> bool:
    if not _ISO.fullmatch(value) or not re.search(r"\d", value) or value.endswith("-"):
        return False
    try:
        datetime.strptime(value[:10], "%Y-%m-%d") if re.match(r"\d{4}-\d\d-\d\d", value) else None
    except ValueError:
        return False
    return True


def check_names(frame: pl.DataFrame, metadata: Metadata) -> Iterator[Finding]:
    """Names of 1 to 8 capitals, digits or _, labels of 1 to 40 characters, text of at most 200 bytes."""
    labels = {c.name: c.label for c in metadata.columns}
    for s in frame.iter_columns():
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,7}", s.name):
            yield Finding("name", s.name, "a name is 1 to 8 capitals, digits or _, not beginning with a digit; rename it")
        label = labels.get(s.name, "")
        if not label or len(label) > 40:
            yield Finding("label", s.name, f"a label has 1 to 40 characters, this one {len(label)}; give one")
        if s.dtype in _TEXTS and int(s.cast(pl.String).str.len_bytes().max() or 0) > 200:  # type: ignore[arg-type]
            yield Finding("length", s.name, "text of more than 200 bytes; split it")


def check_dates(frame: pl.DataFrame) -> Iterator[Finding]:
    """--DTC variables are ISO 8601 text; variables that end in DT, DTM or TM are dates, or SAS's numbers."""
    for s in frame.iter_columns():
        if s.name.endswith("DTC"):
            if s.dtype not in _TEXTS and not (s.dtype == pl.Null or s.null_count() == len(s)):
                yield Finding("date", s.name, f"a --DTC variable is ISO 8601 text, not {s.dtype}; write it as 2014-01-31")
                continue
            for value in s.cast(pl.String).drop_nulls().unique(maintain_order=True):
                if not is_iso_date(value):
                    yield Finding(
                        "date", s.name, f"{value[:40]!r} is no date of ISO 8601; write it as 2014-01-31, or 2014-01 if partial"
                    )
                    break
        elif re.search(r"[A-Z0-9](DT|DTM)$", s.name) and s.dtype in _TEXTS and s.null_count() < len(s):
            yield Finding("date", s.name, "a variable that ends in DT or DTM is a date, not text; convert it")


def check_sdtm(frame: pl.DataFrame, metadata: Metadata) -> tuple[Finding, ...]:
    """Basic rules of an SDTM data set: STUDYID, DOMAIN and USUBJID are there, one DOMAIN of two letters, --SEQ unique within a
    subject, names, labels, dates. Empty where all hold."""
    found = [*check_names(frame, metadata), *check_dates(frame)]
    found += [Finding("variable", n, "is missing; add it") for n in ("STUDYID", "DOMAIN") if n not in frame.columns]
    domain = frame["DOMAIN"].cast(pl.String).unique().to_list() if "DOMAIN" in frame.columns else []
    if domain and (len(domain) > 1 or not re.fullmatch("[A-Z][A-Z0-9]", str(domain[0]))):
        found.append(Finding("domain", "DOMAIN", "is one code of two letters in all rows; correct it"))
    trial_design = bool(domain) and str(domain[0]).startswith("T")
    if not trial_design and "USUBJID" not in frame.columns:
        found.append(Finding("variable", "USUBJID", "is missing; add it"))
    sequence = f"{domain[0]}SEQ" if len(domain) == 1 else ""
    if domain == ["DM"]:
        found += list(check_unique(frame, ("USUBJID",)))
    elif sequence in frame.columns and "USUBJID" in frame.columns:
        found += list(check_unique(frame, ("USUBJID", sequence)))
    return tuple(found)


def check_unique(frame: pl.DataFrame, keys: Sequence[str], used: pl.Series | None = None) -> Iterator[Finding]:
    """The first row without a key, and the first whose keys an earlier row has. used: (rows,) those that count; default all."""
    at = pl.int_range(1, frame.height + 1, eager=True).alias("_row")
    rows = frame.select(*keys).with_columns(at)
    rows = rows if used is None else rows.filter(used)
    missing = rows.filter(pl.any_horizontal(pl.col(*keys).is_null()))
    if missing.height:
        yield Finding("key", f"row {missing['_row'][0]}", f"no {' or '.join(keys)}; give it")
    known = rows.drop_nulls(keys)
    again = known.filter(~pl.struct(*keys).is_first_distinct())
    if again.height:
        values = ", ".join(str(again[k][0]) for k in keys)
        yield Finding("key", f"row {again['_row'][0]}", f"a second record of {values}; {', '.join(keys)} must be unique")


def renamed(metadata: Metadata, name: str, label: str) -> Metadata:
    """The metadata under another data set name and label."""
    return replace(metadata, name=name, label=label)
