"""CSV files as text with line numbers: what is read, and what is refused with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.formats import columns

Csv = Callable[[str | bytes], Path]


def test_lines_are_those_of_the_file(csv: Csv) -> None:
    t = columns.read(csv("# made by hand/\r\nA,B/1,2//3,4/# in between/,/ , /5,6"))
    assert t.header == ("A", "B")
    assert t.lines.tolist() == [4, 6, 10]
    assert t.numbers(0)[0].tolist() == [1, 3, 5]
    assert t.skipped == (2, 4)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks(csv: Csv, ends: str, mark: bytes) -> None:
    t = columns.read(csv(mark + ends.join(["ID,TIME", "1,2.5", "2,3"]).encode()))
    assert (t.header, t.lines.tolist(), t.cells(1).to_list()) == (("ID", "TIME"), [2, 3], ["2.5", "3"])


def test_numbers_missing_values_and_what_is_neither(csv: Csv) -> None:
    cells = ["1", " 2.5 ", "+3", "-1e-3", ".", "", "NA", '"7"', "x", "nan", "inf", "1e400", "1_0", "0x1", "9:30", "1,5", "1d3"]
    body = "\n".join(c if c.startswith('"') else f'"{c}"' if "," in c else f"{c}" for c in cells)
    values, bad = columns.read(csv(("K,V\n" + "\n".join(f"0,{line}" for line in body.split("\n"))).encode())).numbers(1)
    np.testing.assert_array_equal(values[:8], [1, 2.5, 3, -1e-3, np.nan, np.nan, np.nan, 7])
    assert bad.tolist() == [False] * 8 + [True] * 9
    assert np.isnan(values[8:]).all()


def test_quoted_cells_may_hold_commas(csv: Csv) -> None:
    t = columns.read(csv('ID,"NOTE, LONG",DV/1,"a, b ""c""",2/2,plain,3'))
    assert t.header[1] == "NOTE, LONG"
    assert t.cells(1).to_list() == ['a, b "c"', "plain"]
    assert t.numbers(2)[0].tolist() == [2, 3]


REFUSED = [
    (b"", "d.csv: the file is empty; give a CSV file with a header and rows"),
    (b" \n\r\n", "d.csv: the file is empty"),
    (b",,\n,,\n", "d.csv: the file holds no rows"),
    (b"ID,TIME\n", "d.csv: a header and no rows; add the records below the header"),
    (b"ID,TIME\n1,0\n\x00\x00\n", "d.csv, row 3: a NUL byte: not text in UTF-8; save the file as CSV in UTF-8"),
    ("ID,TIME\n1,0".encode("utf-16"), "d.csv, row 1: a NUL byte"),
    (b"ID,TIME\n1,0\n2,\xff\n", "d.csv, row 3, value 'byte 0xff': not UTF-8 text; save the file in UTF-8"),
    (b'{"a": [1,\n2]}\n', "d.csv, row 1, value '{\"a\": [1,': not a CSV file (JSON, XML or HTML); save it as CSV"),
    (b"PK\x03\x04abc\n", "d.csv: not a CSV file (a spreadsheet, an archive or a PDF); save it as CSV"),
    (b"ID,TIME\n1,0\n1,2,3\n", "d.csv, row 3: 3 values where the header has 2 names; give every row one value per name"),
    (b"ID,TIME\n1,0\n\n1\n", "d.csv, row 4: 1 values where the header has 2 names"),
    (b"ID,TIME,id\n1,0,2\n", "d.csv, row 1, column id: the name stands twice in the header (ID, id); rename one"),
    (b"ID;TIME\n1;0\n", "d.csv, row 1, value 'ID;TIME': the names are not separated by commas"),
    (b"ID\tTIME\n1\t0\n", "d.csv, row 1, value 'ID\\tTIME': the names are not separated by commas"),
    (b"1,0,3.5\n1,1,2.5\n", "d.csv, row 1, value '1,0,3.5': numbers where the names of the columns should be; add a header line"),
    (b'ID,TIME\n1,"0\n2,0\n', "d.csv, row 2: a quotation mark is not closed; close it on its line, or take it out"),
    (",".join(f"c{i}" for i in range(1001)).encode() + b"\n", "d.csv, row 1: 1001 columns, more than 1000"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_files_that_are_refused(csv: Csv, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as e:
        columns.read(csv(content))
    assert str(e.value).startswith(message)
    assert "\n" not in str(e.value)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    for path, problem in (
        (tmp_path, "is not a file"),
        (tmp_path / "no.csv", "no such file"),
        ("a\0b", "no such file"),
        ("x" * 5000, "cannot"),
    ):
        with pytest.raises(DataError, match=problem):
            columns.read(path)


def test_a_file_above_the_limit_is_not_opened(csv: Csv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SIZE_LIMIT", 10)
    with pytest.raises(DataError, match="split the file by subjects"):
        columns.read(csv("ID,TIME/1,0/1,1"))


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "d.csv"
    path.write_bytes(b"ID,TIME\n" + content)
    try:
        t = columns.read(path)
    except DataError as e:  # any other error fails the test
        message = str(e)
    else:
        message = ""
        assert len(t) == len(t.cells(0)) > 0
    assert "\n" not in message


@hypothesis.given(
    st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1, max_size=20)
)
def test_numbers_survive_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]) -> None:
    path = tmp_path_factory.mktemp("num") / "d.csv"
    path.write_text("A,B,C\n" + "\n".join(",".join(map(repr, r)) for r in rows))
    t = columns.read(path)
    np.testing.assert_array_equal(np.column_stack([t.numbers(i)[0] for i in range(3)]), np.array(rows))
