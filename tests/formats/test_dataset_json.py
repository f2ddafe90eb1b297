"""Dataset-JSON: the form that CDISC's specification asks for, round trips, files of other makers, and hostile files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gemello.base.errors import DataError
from gemello.formats import cdisc, dataset_json, xpt
from gemello.formats.tables import Column, Metadata

CREATED = datetime(2026, 1, 2, 3, 4, 5)


def column(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"itemOID": f"IT.DM.{name}", "name": name, "label": f"label of {name}", "dataType": kind, **more}


def document(columns: list[dict[str, Any]], rows: list[list[Any]], **more: Any) -> dict[str, Any]:
    head = {"datasetJSONCreationDateTime": "2026-01-02T03:04:05", "datasetJSONVersion": "1.1.0", "itemGroupOID": "IG.DM"}
    return head | {"records": len(rows), "name": "DM", "label": "Demographics", "columns": columns, "rows": rows} | more


SOUND = document([column("USUBJID", "string", length=3, keySequence=1), column("AGE", "integer")], [["a", 63], ["b", None]])


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Write text, bytes or a document to a file."""

    def save(content: Any, name: str = "dm.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return save


# ---- what the specification says -----------------------------------------------------------------------------------------
def test_every_type_of_1_1(saved: Callable[..., Path]) -> None:
    columns = [
        column("S", "string"), column("I", "integer"), column("D", "decimal", targetDataType="decimal"), column("F", "float"),
        column("G", "double"), column("B", "boolean"), column("DTC", "date"), column("ADT", "date", targetDataType="integer"),
        column("ADTM", "datetime", targetDataType="integer"), column("ATM", "time", targetDataType="integer"), column("U", "URI"),
    ]  # fmt: skip
    row = ["x", 1, "1.25", 2, 2.5, True, "2014-01", "2014-01-31", "2014-01-31T10:11:12", "10:11:12", "http://x"]
    frame, said = dataset_json.read(saved(document(columns, [row, [None] * 11, [""] + [None] * 10])))
    assert frame.row(0) == (
        "x", 1, 1.25, 2.0, 2.5, True, "2014-01", date(2014, 1, 31), datetime(2014, 1, 31, 10, 11, 12), time(10, 11, 12), "http://x"
    )  # fmt: skip
    assert frame.row(1) == (None,) * 11
    assert frame.row(2) == (None,) * 11
    assert (said.name, said.label, said.kind, said.attributes["itemGroupOID"]) == (
        "DM",
        "Demographics",
        "Dataset-JSON 1.1.0",
        "IG.DM",
    )
    assert said.columns[0] == Column("S", "label of S", "string", oid="IT.DM.S")


def test_what_is_written_is_the_form_of_the_specification(tmp_path: Path) -> None:
    frame = pl.DataFrame({"USUBJID": ["a", None], "AVAL": [1.5, None], "ADT": [date(2014, 1, 2), None], "DTC": ["2014", None]})
    columns = (Column("USUBJID", "Subject", key=1), Column("AVAL", "Value", "float", format="8.2"), Column("DTC", "Date", "date"))
    said = Metadata("ADX", "A label", columns, attributes={"studyOID": "S1", "not in 1.1": 3})
    path = dataset_json.write(tmp_path / "a.json", frame, said, created=CREATED)
    assert json.loads(path.read_text()) == {
        "datasetJSONCreationDateTime": "2026-01-02T03:04:05", "datasetJSONVersion": "1.1.0", "studyOID": "S1",
        "itemGroupOID": "IG.ADX", "records": 2, "name": "ADX", "label": "A label",
        "columns": [
            {
                "itemOID": "IT.ADX.USUBJID", "name": "USUBJID", "label": "Subject", "dataType": "string", "length": 1,
                "keySequence": 1,
            },
            {"itemOID": "IT.ADX.AVAL", "name": "AVAL", "label": "Value", "dataType": "float", "displayFormat": "8.2"},
            {
                "itemOID": "IT.ADX.ADT", "name": "ADT", "label": "ADT", "dataType": "date", "targetDataType": "integer",
                "displayFormat": "DATE9.",
            },
            {"itemOID": "IT.ADX.DTC", "name": "DTC", "label": "Date", "dataType": "date"},
        ],
        "rows": [["a", 1.5, "2014-01-02", "2014"], [None, None, None, None]],
    }  # fmt: skip
    lines = dataset_json.write(tmp_path / "a.ndjson", frame, said, created=CREATED).read_text().splitlines()
    assert "rows" not in json.loads(lines[0])
    assert [json.loads(r) for r in lines[1:]] == [["a", 1.5, "2014-01-02", "2014"], [None, None, None, None]]


def test_version_1_0(saved: Callable[..., Path]) -> None:
    """As version 1.0 has it: one item group under clinicalData, a first column that counts, SAS's numbers for dates."""
    items = [
        {"OID": "ITEMGROUPDATASEQ", "name": "ITEMGROUPDATASEQ", "label": "Record Identifier", "type": "integer"},
        {"OID": "IT.USUBJID", "name": "USUBJID", "label": "Subject", "type": "string", "length": 9, "keySequence": 1},
        {"OID": "IT.ADT", "name": "ADT", "label": "Date", "type": "integer", "displayFormat": "date9."},
    ]
    group = {"records": 2, "name": "ADX", "label": "Analysis", "items": items, "itemData": [[1, "a", 19725], [2, "b", None]]}
    data = {"studyOID": "S", "metaDataVersionOID": "V", "itemGroupData": {"IG.ADX": group}}
    head = {"creationDateTime": "2023-01-01T00:00:00", "datasetJSONVersion": "1.0.0", "clinicalData": data}
    frame, said = dataset_json.read(saved(head))
    assert frame.to_dict(as_series=False) == {"USUBJID": ["a", "b"], "ADT": [date(2014, 1, 2), None]}
    assert (said.name, said.label, said.kind) == ("ADX", "Analysis", "Dataset-JSON 1.0.0")
    assert (said.attributes["studyOID"], said.attributes["itemGroupOID"]) == ("S", "IG.ADX")
    data["itemGroupData"]["IG.TWO"] = group  # type: ignore[index]
    with pytest.raises(DataError, match="no single itemGroupData"):
        dataset_json.read(saved(head))


def test_lines_are_known_by_their_content(saved: Callable[..., Path]) -> None:
    head = {k: v for k, v in SOUND.items() if k != "rows"}
    text = "\n".join(json.dumps(x) for x in (head, *SOUND["rows"])).encode()
    for name in ("dm.ndjson", "dm.json"):
        assert dataset_json.read(saved(text + b"\n\n", name))[0].rows() == [("a", 63), ("b", None)]
    pretty = json.dumps(SOUND, indent=1).encode()
    assert dataset_json.read(saved(b"\xef\xbb\xbf" + pretty))[0].rows() == [("a", 63), ("b", None)]


@pytest.mark.parametrize("name", ["adsl", "adas_total", "cibic"])
@pytest.mark.parametrize("ending", ["json", "ndjson"])
def test_the_cdisc_pilot_comes_back(shared_data: Path, tmp_path: Path, name: str, ending: str) -> None:
    dates = ["TRTSDT", "TRTEDT"] + (["RFENDT"] if name == "adsl" else ["ADT"])
    frame, said = cdisc.read_table(shared_data / "trial" / f"cdiscpilot_{name}.csv", dates=dates)
    said = cdisc.renamed(said, name[:4].upper(), "CDISC Pilot 01")
    back, _ = dataset_json.read(dataset_json.write(tmp_path / f"a.{ending}", frame, said))
    assert_frame_equal(back, frame, check_exact=True)
    through, again = xpt.read(xpt.write(tmp_path / "a.xpt", back, said))  # and on, through a transport file
    assert_frame_equal(through, frame.with_columns(pl.col(pl.Int64).cast(pl.Float64)), check_exact=True)
    assert dataset_json.read(dataset_json.write(tmp_path / "b.json", through, again))[0].equals(through)


ROW = st.tuples(
    st.none() | st.text(min_size=1).filter(lambda t: t.isprintable()),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.booleans(), st.none() | st.dates(date(1583, 1, 1)),
    st.none() | st.datetimes(datetime(1583, 1, 1)), st.none() | st.times(),
)  # fmt: skip


@given(st.lists(ROW), st.sampled_from(["json", "ndjson"]))
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], ending: str) -> None:
    types = [pl.String, pl.Float64, pl.Int64, pl.Boolean, pl.Date, pl.Datetime("us"), pl.Time]
    frame = pl.DataFrame(rows, schema=dict(zip("ABCDEFG", types, strict=True)), orient="row")
    path = dataset_json.write(tmp_path_factory.getbasetemp() / f"any.{ending}", frame, Metadata("T"))
    assert_frame_equal(dataset_json.read(path)[0], frame, check_exact=True)


# ---- bad input -----------------------------------------------------------------------------------------------------------
A = column("A", "string")
BAD: dict[str, tuple[Any, str]] = {
    "empty": (b"", "the file is empty"),
    "cut": (json.dumps(SOUND).encode()[:-30], r"row 1, value '.*': not JSON"),
    "no object": ([1], "is no JSON object"),
    "latin": (json.dumps(SOUND).encode().replace(b'"a"', b'"\xe9"'), "value 'byte 0xe9': not UTF-8 text"),
    "deep": (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
    "deep in a row": (json.dumps(SOUND).encode().replace(b"63", b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
    "long number": (json.dumps(SOUND).encode().replace(b"63", b"9" * 5000), "integer string conversion"),
    "infinite number": (json.dumps(SOUND).encode().replace(b"63", b"1e999"), "1e999 is too large a number"),
    "NaN": (json.dumps(SOUND).encode().replace(b"63", b"NaN"), "NaN is no number in JSON"),
    "surrogate": (json.dumps(SOUND).encode().replace(b'"a"', b'"\\ud800"'), "half of a surrogate pair"),
    "key twice": (json.dumps(SOUND).encode().replace(b'"records"', b'"name": "X", "records"'), "the key 'name' is there twice"),
    "version": (SOUND | {"datasetJSONVersion": "2.0"}, "value '2.0': not Dataset-JSON 1.0 or 1.1"),
    "no version": ({"resourceType": "Patient"}, "not Dataset-JSON 1.0 or 1.1"),
    "no rows": ({k: v for k, v in SOUND.items() if k != "rows"}, "no rows"),
    "no columns": (SOUND | {"columns": []}, "no columns"),
    "count": (SOUND | {"records": 10**12}, "holds 2 rows but says 1000000000000"),
    "no count": (SOUND | {"records": None}, "holds 2 rows but says None"),
    "short row": (SOUND | {"rows": [["a", 63], ["b"]]}, "row 2: a row of 1 values, expected 2"),
    "row of an object": (SOUND | {"rows": [["a", 63], {"A": 1}]}, "row 2: a row of no list"),
    "text for a number": (SOUND | {"rows": [["a", 63], ["b", "64"]]}, "row 2, column AGE, value '64': is no integer"),
    "number for text": (SOUND | {"rows": [[1, 63], ["b", 64]]}, "row 1, column USUBJID, value '1': is no string"),
    "true for a number": (SOUND | {"rows": [["a", True], ["b", 64]]}, "row 1, column AGE, value 'True': is no integer"),
    "fraction": (SOUND | {"rows": [["a", 1.5], ["b", 64]]}, "row 1, column AGE, value '1.5': is no whole number"),
    "large integer": (SOUND | {"rows": [["a", 2**70], ["b", 64]]}, "row 1, column AGE, .* is no whole number of 64 bits"),
    "list": (SOUND | {"rows": [["a", [1]], ["b", 64]]}, "row 1, column AGE, .* is no integer"),
    "decimal": (document([column("A", "decimal")], [["1,5"]]), "value '1,5': is no finite number"),
    "decimal of Python": (document([column("A", "decimal")], [["1_0"]]), "value '1_0': is no finite number"),
    "infinite decimal": (document([column("A", "decimal")], [["inf"]]), "value 'inf': is no finite number"),
    "partial date": (document([column("A", "date", targetDataType="integer")], [["2014-01"]]), "is no complete date of ISO 8601"),
    "no date": (document([column("A", "date", targetDataType="integer")], [["2014-02-30"]]), "is no complete date"),
    "no name": (document([A | {"name": ""}], [["x"]]), "a column without a name"),
    "same name": (document([A, A | {"name": "a"}], [["x", "y"]]), "column a: two columns have this name"),
    "type": (document([A | {"dataType": "blob"}], [["x"]]), "value 'blob': unknown dataType"),
    "target": (document([A | {"targetDataType": "blob"}], [["x"]]), "unknown targetDataType"),
    "length": (document([A | {"length": "long"}], [["x"]]), "a length or key that is no whole number"),
    "label": (document([A | {"label": ["x"]}], [["x"]]), "a label or format that is no text"),
    "data set's name": (SOUND | {"name": 3}, "name and label of the data set must be text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(saved: Callable[..., Path], kind: str) -> None:
    content, words = BAD[kind]
    with pytest.raises(DataError, match=words) as e:
        dataset_json.read(saved(content))
    assert "\n" not in str(e.value)
    assert e.value.remedy
    assert len(str(e.value)) < 400


def test_bad_lines(saved: Callable[..., Path]) -> None:
    head = json.dumps({k: v for k, v in SOUND.items() if k != "rows"}).encode()
    for line, words in (
        (b'["a"', "row 2, .*not JSON"), (b'{"a": 1}', "row 2, .*a line that is no row"),
        (b"[" * 99999, "row 2: nested too deeply"),
        (b'["a", 1]', "column records: holds 1 rows but says 2"), (b'["a"]\n["b", 1]', "row 1: a row of 1 values"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            dataset_json.read(saved(head + b"\n" + line, "a.ndjson"))


def test_a_text_beyond_the_limit(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(SOUND)
    monkeypatch.setattr(dataset_json, "JSON_LIMIT", 100)
    with pytest.raises(DataError, match=r"more than 0.0001 MB in one JSON text; write it as NDJSON"):
        dataset_json.read(path)
    monkeypatch.setattr(dataset_json, "LINE_LIMIT", 5)
    head = {k: v for k, v in SOUND.items() if k != "rows"}
    with pytest.raises(DataError, match=r"row 2: a line of more than"):
        dataset_json.read(saved(json.dumps(head).encode() + b'\n["aaaa", 1]', "a.ndjson"))
    monkeypatch.setattr(dataset_json, "SIZE_LIMIT", 20)
    with pytest.raises(DataError, match=r"more than 2e-05 MB; split the file"):
        dataset_json.read(path)


REFUSED: dict[str, tuple[pl.DataFrame, str]] = {
    "nan": (pl.DataFrame({"A": [1.0, float("nan")]}), "row 2, column A, value 'nan': not a finite number"),
    "inf": (pl.DataFrame({"A": [float("inf")]}), "row 1, column A, value 'inf': not a finite number"),
    "list": (pl.DataFrame({"A": [[1]]}), "has no place in Dataset-JSON"),
    "twice": (pl.DataFrame({"A": [1], "a": [2]}), "column a: two columns have this name"),
    "nothing": (pl.DataFrame(), "a data set needs a name and a column"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_is_refused_and_nothing_is(tmp_path: Path, kind: str) -> None:
    frame, words = REFUSED[kind]
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match=words):
        dataset_json.write(path, frame, Metadata("T"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
