"""SAS transport files: against ReadStat (pyreadstat) and pandas, TS-140's own bytes, and files that are damaged or hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyreadstat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gemello.base.errors import DataError
from gemello.formats import cdisc, xpt
from gemello.formats.ibm import LARGEST, SMALLEST, decode_ibm, encode_ibm
from gemello.formats.tables import Column, Metadata

CREATED = datetime(2026, 1, 2, 3, 4, 5)


def mixed() -> tuple[pl.DataFrame, Metadata]:
    frame = pl.DataFrame(
        {
            "USUBJID": ["01-701-1015", None, "01-701-1016"],
            "AVAL": [1.5, None, -1e-9],
            "N": [1, 2, 3],
            "ADT": [date(2014, 1, 2), None, date(1959, 12, 31)],
            "ADTM": [datetime(2014, 1, 2, 3, 4, 5, 250000), None, datetime(1950, 1, 1)],
            "ATM": [time(1, 2, 3), None, time(23, 59, 59)],
        }
    )
    columns = (Column("USUBJID", "Unique Subject Identifier"), Column("AVAL", "Analysis Value", format="8.2"))
    return frame, Metadata("ADX", "A label", columns, special={"AVAL": {1: "B"}})


def as_pandas(frame: pl.DataFrame) -> dict[str, list[object]]:
    """Values as Python objects, None where missing."""
    return {s.name: s.to_list() for s in frame.iter_columns()}


# ---- numbers -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "hexadecimal"),
    [  # IBM System/360 floating point, by hand: sign, exponent of 16 + 64, fraction
        (1.0, "4110000000000000"),
        (-1.0, "c110000000000000"),
        (0.0, "0000000000000000"),
        (0.5, "4080000000000000"),
        (100.0, "4264000000000000"),
        (-118.625, "c276a00000000000"),
        (19725.0, "444d0d0000000000"),
    ],
)
def test_ibm_numbers_known_by_hand(value: float, hexadecimal: str) -> None:
    raw = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8).reshape(1, 8)
    assert encode_ibm(np.array([value])).tobytes().hex() == hexadecimal
    values, codes = decode_ibm(raw)
    assert (values[0], codes[0]) == (value, 0)


@given(st.lists(st.floats(SMALLEST, LARGEST) | st.floats(-LARGEST, -SMALLEST) | st.just(0.0), min_size=1))
def test_ibm_numbers_come_back_exactly(values: list[float]) -> None:
    back, codes = decode_ibm(encode_ibm(np.array(values)))
    assert back.tolist() == values
    assert not codes.any()


@pytest.mark.parametrize("length", range(2, 8))
def test_a_number_cut_to_fewer_bytes(length: int) -> None:
    whole = encode_ibm(np.array([1234.5, -3.25, 1 / 3]))
    values, _ = decode_ibm(np.ascontiguousarray(whole[:, :length]))
    np.testing.assert_allclose(values, [1234.5, -3.25, 1 / 3], rtol=16.0 ** (2 - 2 * length + 1))


def test_every_missing_value_keeps_its_letter() -> None:
    letters = "._ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    raw = np.array([[ord(c), *[0] * 7] for c in letters], np.uint8)
    values, codes = decode_ibm(raw)
    assert np.isnan(values).all()
    assert bytes(codes).decode() == letters


# ---- against others --------------------------------------------------------------------------------------------------------
def test_others_read_what_is_written(tmp_path: Path) -> None:
    frame, metadata = mixed()
    path = xpt.write(tmp_path / "a.xpt", frame, metadata, created=CREATED)
    theirs, said = pyreadstat.read_xport(str(path))
    assert said.table_name == "ADX"
    assert said.file_label == "A label"
    assert said.column_names == frame.columns
    assert said.column_labels[:2] == ["Unique Subject Identifier", "Analysis Value"]
    assert said.original_variable_types["AVAL"] == "8.2"
    assert said.original_variable_types["ADT"] == "DATE9"
    assert said.creation_time == CREATED
    assert theirs["USUBJID"].tolist() == ["01-701-1015", "", "01-701-1016"]
    np.testing.assert_array_equal(theirs["AVAL"], [1.5, np.nan, -1e-9])
    assert theirs["ADT"].tolist()[::2] == [date(2014, 1, 2), date(1959, 12, 31)]
    assert theirs["ADTM"].tolist()[0] == pd.Timestamp(2014, 1, 2, 3, 4, 5, 250000)
    assert theirs["ATM"].tolist()[::2] == [time(1, 2, 3), time(23, 59, 59)]
    again = pd.read_sas(path, encoding="utf-8")  # dates as SAS's numbers
    np.testing.assert_array_equal(again["ADT"], [19725.0, np.nan, -1.0])
    np.testing.assert_array_equal(again["AVAL"], [1.5, np.nan, -1e-9])


def test_it_reads_what_it_writes(tmp_path: Path) -> None:
    frame, metadata = mixed()
    back, said = xpt.read(xpt.write(tmp_path / "a.xpt", frame, metadata))
    assert_frame_equal(back, frame.with_columns(pl.col("N").cast(pl.Float64)))
    assert (said.name, said.label, said.kind, said.special) == ("ADX", "A label", "SAS transport 5", {"AVAL": {1: "B"}})
    assert said.column("AVAL") == Column("AVAL", "Analysis Value", "double", 8, "8.2")
    assert xpt.members(tmp_path / "a.xpt") == ("ADX",)
    xpt.write(tmp_path / "b.xpt", frame, said, created=CREATED)
    xpt.write(tmp_path / "c.xpt", back, said, created=CREATED)
    assert (tmp_path / "b.xpt").read_bytes() == (tmp_path / "c.xpt").read_bytes()


@pytest.mark.parametrize("version", [5, 8])
def test_it_reads_what_others_write(tmp_path: Path, version: int) -> None:
    long = "AVeryLongVariableName" if version == 8 else "SHORT"
    label = "a label " * (7 if version == 8 else 4)
    theirs = pd.DataFrame({long: [1.0, -2.5e30, np.nan], "S": ["é", "b c", ""], "D": [date(2014, 1, 2), date(1900, 1, 1), None]})
    path = tmp_path / "a.xpt"
    pyreadstat.write_xport(
        theirs, str(path), file_label="lab", table_name="TAB", column_labels=[label, "s", None], file_format_version=version
    )
    frame, said = xpt.read(path)
    assert (said.name, said.label, said.kind) == ("TAB", "lab", f"SAS transport {version}")
    assert said.column(long).label == label.rstrip()
    expected = {long: [1.0, -2.5e30, None], "S": ["é", "b c", None], "D": [date(2014, 1, 2), date(1900, 1, 1), None]}
    assert as_pandas(frame) == expected


@pytest.mark.parametrize("name", ["adsl", "adas_total", "cibic"])
def test_the_cdisc_pilot_is_read_the_same_by_all(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "trial" / f"cdiscpilot_{name}.csv"
    dates = ["TRTSDT", "TRTEDT"] + (["RFENDT", "VISIT1DT"] if name == "adsl" else ["ADT"])
    frame, said = cdisc.read_table(source, dates=dates, text=["SITEID", "SITEGR1"])
    said = cdisc.renamed(said, name[:4].upper(), "CDISC Pilot 01")
    path = xpt.write(tmp_path / "a.xpt", frame, said)
    back, _ = xpt.read(path)
    expected = frame.with_columns(pl.col(pl.Int64).cast(pl.Float64))
    assert_frame_equal(back, expected, check_exact=True)
    theirs, _ = pyreadstat.read_xport(str(path), output_format="dict")
    plain = pd.read_sas(path, encoding="utf-8")
    for s in back.iter_columns():
        if s.dtype == pl.Float64:
            mine = s.fill_null(float("nan")).to_numpy()
            np.testing.assert_array_equal(np.array(theirs[s.name], float), mine)
            np.testing.assert_allclose(plain[s.name].to_numpy(), mine, rtol=0, atol=1e-78)  # pandas reads 0 as 5.4e-79
        elif s.dtype == pl.String:
            assert list(theirs[s.name]) == s.fill_null("").to_list()
        else:
            assert [None if pd.isna(v) else v for v in theirs[s.name]] == s.to_list()


TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
NUMBER = st.floats(-1e70, 1e70).map(lambda v: 0.0 if abs(v) < 1e-70 else v)


@given(st.lists(st.tuples(st.none() | TEXT, st.none() | NUMBER, st.none() | st.dates(date(1583, 1, 1)))))
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float, date]]) -> None:
    frame = pl.DataFrame(rows, schema={"A": pl.String, "B": pl.Float64, "C": pl.Date}, orient="row")
    path = xpt.write(tmp_path_factory.getbasetemp() / "any.xpt", frame, Metadata("T"))
    assert_frame_equal(xpt.read(path)[0], frame, check_exact=True)


@given(st.lists(TEXT | st.none(), min_size=1))
def test_rows_shorter_than_a_record(tmp_path_factory: pytest.TempPathFactory, cells: list[str | None]) -> None:
    frame = pl.DataFrame({"A": pl.Series(cells, dtype=pl.String)})
    path = tmp_path_factory.getbasetemp() / "short.xpt"
    if cells[-1] is None:  # cannot be told from the filling of the last record
        with pytest.raises(DataError, match="the last row is blank"):
            xpt.write(path, frame, Metadata("T"))
    else:
        assert_frame_equal(xpt.read(xpt.write(path, frame, Metadata("T")))[0], frame)


def test_no_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"A": [], "B": []}, schema={"A": pl.String, "B": pl.Float64})
    back, _ = xpt.read(xpt.write(tmp_path / "a.xpt", frame, Metadata("T")))
    assert_frame_equal(back, frame)


def test_long_formats_of_version_9(tmp_path: Path) -> None:
    """A LABELV9 section by hand: number, lengths of name, format, informat and label, then these."""
    path = tmp_path / "a.xpt"
    pyreadstat.write_xport(pd.DataFrame({"LONG_NAME_X": [1.0]}), str(path), column_labels=["y" * 50], file_format_version=8)
    data = path.read_bytes()
    start, stop = data.index(b"HEADER RECORD*******LABELV8"), data.index(b"HEADER RECORD*******OBSV8")
    words = (b"LONG_NAME_X", b"MYLONGFORMAT", b"", b"z" * 60)
    entry = struct.pack(">5H", 1, *map(len, words)) + b"".join(words)
    section = b"HEADER RECORD*******LABELV9 HEADER RECORD!!!!!!!1".ljust(80) + entry.ljust(-(-len(entry) // 80) * 80)
    path.write_bytes(data[:start] + section + data[stop:])
    _, said = xpt.read(path)
    assert said.columns == (Column("LONG_NAME_X", "z" * 60, "double", 8, "MYLONGFORMAT."),)


def test_a_library_of_two_data_sets(tmp_path: Path) -> None:
    parts = []
    for name, value in (("ONE", 1.0), ("TWO", 2.0)):
        parts.append(xpt.write(tmp_path / "p.xpt", pl.DataFrame({"A": [value]}), Metadata(name)).read_bytes())
    path = tmp_path / "a.xpt"
    path.write_bytes(parts[0] + parts[1][240:])
    assert xpt.members(path) == ("ONE", "TWO")
    assert xpt.read(path, member="two")[0]["A"].to_list() == [2.0]
    with pytest.raises(DataError, match=r"holds 2 data sets; choose one with member=: ONE, TWO"):
        xpt.read(path)
    with pytest.raises(DataError, match=r"value 'SIX': no such data set"):
        xpt.read(path, member="six".upper())


def test_an_encoding_is_named_not_guessed(tmp_path: Path) -> None:
    path = xpt.write(tmp_path / "a.xpt", pl.DataFrame({"A": ["café", "b"]}), Metadata("T"), encoding="cp1252")
    assert xpt.read(path, encoding="cp1252")[0]["A"].to_list() == ["café", "b"]
    with pytest.raises(
        DataError, match=r'a.xpt, row 1, column A, .*: not text in utf-8; name the encoding, as encoding="cp1252"'
    ):
        xpt.read(path)
    with pytest.raises(DataError, match="not an encoding"):
        xpt.read(path, encoding="utf-16")


def test_a_date_format_on_what_is_no_date(tmp_path: Path) -> None:
    said = Metadata("T", columns=(Column("ADT", format="YYMMDD10."),))
    back, read = xpt.read(xpt.write(tmp_path / "a.xpt", pl.DataFrame({"ADT": [1.5, 1e60]}), said))
    assert back["ADT"].to_list() == [1.5, 1e60]
    assert read.notes == ("column ADT: has format YYMMDD10. but values that are no date, kept as numbers",)
    whole = xpt.write(tmp_path / "b.xpt", pl.DataFrame({"ADT": [19725]}), said)
    assert xpt.read(whole)[0]["ADT"].to_list() == [date(2014, 1, 2)]
    assert xpt.read(whole, dates=False)[0]["ADT"].to_list() == [19725.0]


# ---- bad input -----------------------------------------------------------------------------------------------------------
def _sound(tmp_path: Path) -> bytes:
    return xpt.write(tmp_path / "sound.xpt", *mixed()).read_bytes()


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "the file is empty"),
    "other": (lambda d: b"PK\3\4" + d, "is no SAS transport file"),
    "cut in a record": (lambda d: d[:-7], "was cut off"),
    "cut in a row": (lambda d: d[:-80], "cut off in row"),
    "cut in the variables": (lambda d: d[:800], "says 6 variables, more than the file can hold"),
    "only headers": (lambda d: d[:240], "no data set in the file"),
    "version": (lambda d: d.replace(b"LIBRARY ", b"LIBV7   ", 1), "unknown version"),
    "count": (lambda d: d.replace(b"0000000006", b"0000999999", 1), "says 999999 variables"),
    "no variables": (lambda d: d.replace(b"0000000006", b"0000000000", 1), "has no variables"),
    "letters for a count": (lambda d: d.replace(b"0000000006", b"00000000x6", 1), "number of variables is no number"),
    "length": (lambda d: d[:644] + b"\x7f\xff" + d[646:], "begins at byte"),
    "zero length": (lambda d: d[:644] + b"\0\0" + d[646:], "an impossible length"),
    "kind": (lambda d: d[:640] + b"\0\7" + d[642:], "is neither number nor text"),
    "name": (lambda d: d[:648] + b"        " + d[656:], "a variable without a readable name"),
    "twice": (lambda d: d.replace(b"ADTM    ", b"USUBJID ", 1), "two variables have this name"),
    "size of descriptions": (lambda d: d.replace(b"0000000140", b"0000000999", 1), "unknown size"),
    "header": (lambda d: d.replace(b"*OBS     ", b"*OBX     ", 1), "expected a header OBS"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_line(tmp_path: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    path = tmp_path / "bad.xpt"
    path.write_bytes(damage(_sound(tmp_path)))
    with pytest.raises(DataError, match=words) as e:
        xpt.read(path)
    assert str(e.value).startswith(("bad.xpt", str(path)))
    assert "\n" not in str(e.value)
    assert e.value.remedy


@pytest.mark.parametrize(("said", "words"), [(9, "says 9 rows but holds"), (1, "says 1 rows but holds more")])
def test_a_wrong_count_of_rows_in_version_8(tmp_path: Path, said: int, words: str) -> None:
    path = tmp_path / "a.xpt"
    pyreadstat.write_xport(pd.DataFrame({"A": [1.0, 2.0], "B": ["x" * 40, "y"]}), str(path), file_format_version=8)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"!!!!!!!              2", f"!!!!!!!{said:15d}".encode(), 1))
    with pytest.raises(DataError, match=words):
        xpt.read(path)


@given(st.data())
def test_no_byte_can_do_worse_than_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    raw = bytearray(_sound(folder))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    (folder / "any.xpt").write_bytes(raw)
    error = ""
    try:
        frame, said = xpt.read(folder / "any.xpt")
    except DataError as e:
        error = str(e)
    assert "\n" not in error
    assert error or frame.columns == [c.name for c in said.columns]


REFUSED: dict[str, tuple[pl.DataFrame, Metadata, str]] = {
    "long name": (pl.DataFrame({"NINELETTE": [1]}), Metadata("T"), "column name 'NINELETTE' is not 1 to 8"),
    "no name": (pl.DataFrame({"A": [1]}), Metadata(""), "data set name '' is not 1 to 8"),
    "twice": (pl.DataFrame({"A": [1], "a": [1]}), Metadata("T"), "two columns have this name"),
    "label": (pl.DataFrame({"A": [1]}), Metadata("T", columns=(Column("A", "x" * 41),)), "the label of A is longer than 40"),
    "long text": (pl.DataFrame({"A": ["x" * 201]}), Metadata("T"), "row 1, column A: text longer than 200 bytes"),
    "not ASCII": (pl.DataFrame({"A": ["a", "µ"]}), Metadata("T"), "row 2, column A, value 'µ': not text in ascii"),
    "nan": (pl.DataFrame({"A": [1.0, float("nan")]}), Metadata("T"), "row 2, column A, value 'nan': not a finite number"),
    "inf": (pl.DataFrame({"A": [float("-inf")]}), Metadata("T"), "row 1, column A, value '-inf': not a finite number"),
    "large": (pl.DataFrame({"A": [1e300]}), Metadata("T"), "a number that a transport file cannot hold"),
    "small": (pl.DataFrame({"A": [1e-100]}), Metadata("T"), "a number that a transport file cannot hold"),
    "long integer": (pl.DataFrame({"A": [2**60 + 1]}), Metadata("T"), "a number that a transport file cannot hold"),
    "boolean": (pl.DataFrame({"A": [True]}), Metadata("T"), "a column of type Boolean"),
    "list": (pl.DataFrame({"A": [[1]]}), Metadata("T"), r"a column of type List\(Int64\)"),
    "format": (pl.DataFrame({"A": [1]}), Metadata("T", columns=(Column("A", format="not one"),)), "not a SAS format"),
    "special": (pl.DataFrame({"A": [1]}), Metadata("T", special={"A": {0: "B"}}), "a special missing value where"),
    "no columns": (pl.DataFrame(), Metadata("T"), "0 columns"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_version_5_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path, kind: str) -> None:
    frame, said, words = REFUSED[kind]
    path = tmp_path / "a.xpt"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match=words) as e:
        xpt.write(path, frame, said)
    assert "\n" not in str(e.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written: No such file"):
        xpt.write(tmp_path / "none" / "a.xpt", *mixed())
    with pytest.raises(DataError, match="no such file"):
        xpt.read(tmp_path / "none.xpt")
    with pytest.raises(DataError, match="is not a file"):
        xpt.read(tmp_path)
