"""The one door for tables of a trial: what picks the reader, what a CSV becomes, SDTM's rules, and bad input."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gemello.base.errors import DataError
from gemello.formats import cdisc
from gemello.formats.tables import Column, Metadata, split_format


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# ---- CSV ----------------------------------------------------------------------------------------------------------------
def test_a_csv_becomes_numbers_and_text(tmp_path: Path) -> None:
    text = "ID,SITE,AGE,AVAL,SEX,EMPTY,ADT\n1,007,63,1.5,F,,2014-01-31\n2,008,.,NA,.,NA,\n3,010,70,-2e3,M,.,2014-02-01\n"
    frame, said = cdisc.read_table(write(tmp_path / "a.csv", text), dates=["ADT"])
    assert frame.to_dict(as_series=False) == {
        "ID": [1, 2, 3], "SITE": ["007", "008", "010"], "AGE": [63, None, 70], "AVAL": [1.5, None, -2000.0],
        "SEX": ["F", None, "M"],
        "EMPTY": [None] * 3, "ADT": [date(2014, 1, 31), None, date(2014, 2, 1)],
    }  # fmt: skip
    assert frame.dtypes == [pl.Int64, pl.String, pl.Int64, pl.Float64, pl.String, pl.String, pl.Date]
    assert [c.type for c in said.columns] == ["integer", "string", "integer", "double", "string", "string", "date"]
    assert (said.name, said.kind, said.source) == ("a", "CSV", "a.csv")
    assert said.notes == ("column SITE: numbers with leading zeros or more than 15 digits, kept as text",)
    assert cdisc.read_table(tmp_path / "a.csv", text=["ID"])[0]["ID"].to_list() == ["1", "2", "3"]


def test_words_among_numbers_are_told(tmp_path: Path) -> None:
    frame, said = cdisc.read_table(write(tmp_path / "a.csv", "A,B\n1,x\n<2,y\n3,z\n"))
    assert frame["A"].to_list() == ["1", "<2", "3"]
    assert said.notes == ("column A: 1 of 3 values are no numbers (row 3: '<2'), kept as text",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A,A\n1,2\n", "a.csv, row 1, column A"),
        ("A,B\n1\n", "a.csv, row 2"),
        ("A\n1\nnan\n", "row 3, column A, value 'nan': not a finite number; leave the cell empty"),
        ("A\n-inf\n1\n", "row 2, column A, value '-inf': not a finite number"),
        ("A\n1\n1e999\n", "row 3, column A, value '1e999': not a finite number"),
        ("", "the file is empty"),
        ('A\n"1\n', "a.csv"),
    ],
)
def test_a_bad_csv_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as e:
        cdisc.read_table(write(tmp_path / "a.csv", text))
    assert "\n" not in str(e.value)


def test_bad_requests(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "A,ADT\n1,2014-01\n")
    with pytest.raises(DataError, match="column Z: no such column; it has A, ADT"):
        cdisc.read_table(path, text=["Z"])
    with pytest.raises(DataError, match=r"row 2, column ADT, value '2014-01': not a complete date; write it as 2014-01-31"):
        cdisc.read_table(path, dates=["ADT"])
    with pytest.raises(DataError, match=r"unknown kind of file '.sas7bdat'; give one of .csv, .parquet, .xpt"):
        cdisc.read_table(tmp_path / "a.sas7bdat")
    for ending in cdisc.FORMS:
        with pytest.raises(DataError, match="no such file"):
            cdisc.read_table(tmp_path / f"none{ending}")


@given(
    st.lists(
        st.tuples(st.integers(-(10**14), 10**14), st.floats(-1e300, 1e300), st.sampled_from(["a", "b,c", 'd"e'])), min_size=1
    )
)
def test_any_csv_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, str]]) -> None:
    frame = pl.DataFrame(rows, schema={"A": pl.Int64, "B": pl.Float64, "C": pl.String}, orient="row")
    path = cdisc.write_table(tmp_path_factory.getbasetemp() / "any.csv", frame, Metadata("T"))
    assert_frame_equal(cdisc.read_table(path)[0], frame, check_exact=True)


def test_every_trial_data_set_is_read(shared_data: Path) -> None:
    count = 0
    for path in sorted((shared_data / "trial").glob("*.csv")):
        if path.name == "leaspy_simulated_joint.csv":  # separated by semicolons
            with pytest.raises(DataError, match="not separated by commas"):
                cdisc.read_table(path)
            continue
        frame, _ = cdisc.read_table(path)
        count += 1
        assert frame.height > 0
    assert count > 50
    frame, _ = cdisc.read_table(shared_data / "trial" / "ACTG175.csv")
    assert frame.height == 2139
    assert frame["cd496"].null_count() == (frame["r"] == 0).sum()


# ---- other forms -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xpt", ".json", ".ndjson"])
def test_one_table_through_every_door(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame(
        {"USUBJID": ["a", "b", None], "AVAL": [1.5, None, 2.25], "ADT": [date(2014, 1, 2), None, date(2015, 1, 2)]}
    )
    path = cdisc.write_table(tmp_path / f"adx{ending}", frame, Metadata("ADX", "X"))
    back, said = cdisc.read_table(path, **({"dates": ["ADT"]} if ending == ".csv" else {}))  # type: ignore[arg-type]
    assert_frame_equal(back, frame)
    assert said.name.upper() == "ADX"
    assert [c.name for c in said.columns] == frame.columns
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "holds"), [("a.csv", "SAS transport"), ("a.xpt", "Dataset-JSON"), ("a.json", "Parquet"), ("a.parquet", "CSV")]
)
def test_a_file_named_otherwise(tmp_path: Path, name: str, holds: str) -> None:
    ending = {v: k for k, v in reversed(cdisc.FORMS.items())}[holds]
    path = cdisc.write_table(tmp_path / f"true{ending}", pl.DataFrame({"A": [1.5]}), Metadata("T"))
    (tmp_path / name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"is named \.\w+ but (holds|does not hold)"):
        cdisc.read_table(tmp_path / name)


@pytest.mark.parametrize("ending", [*cdisc.FORMS])
def test_what_is_not_finite_is_never_written(tmp_path: Path, ending: str) -> None:
    with pytest.raises(DataError, match="row 2, column A, value 'nan': not a finite number"):
        cdisc.write_table(tmp_path / f"a{ending}", pl.DataFrame({"A": [1.0, float("nan")]}), Metadata("T"))
    assert list(tmp_path.iterdir()) == []


def test_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame({"A": [1.0, float("nan"), None], "B": ["x", "", None]})
    frame.write_parquet(tmp_path / "a.parquet")
    back, said = cdisc.read_table(tmp_path / "a.parquet")
    assert back.to_dict(as_series=False) == {"A": [1.0, None, None], "B": ["x", None, None]}
    assert said.notes == ("column A: NaN taken as missing",)
    data = (tmp_path / "a.parquet").read_bytes()
    for bad in (data[:-20], data[:100] + b"\xff" * 60 + data[160:], data[:8] + data[-8:]):
        (tmp_path / "b.parquet").write_bytes(bad)
        with pytest.raises(DataError, match="no readable Parquet file"):
            cdisc.read_table(tmp_path / "b.parquet")
    for column, words in (
        ([[1]], "a column of type List"),
        ([float("inf")], "row 1, column A, value 'inf': not a finite number"),
    ):
        pl.DataFrame({"A": column}).write_parquet(tmp_path / "c.parquet")
        with pytest.raises(DataError, match=words):
            cdisc.read_table(tmp_path / "c.parquet")


# ---- rules ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "valid"),
    [  # SDTM Implementation Guide 3.4, 4.4.1 and 4.4.2: complete, partial, unknown parts as "-", intervals
        ("2003-12-15T13:14:17", True), ("2003-12-15T13:14:17.123", True), ("2003-12-15T13:14", True), ("2003-12-15", True),
        ("2003-12", True), ("2003", True), ("2003---15", True), ("--12-15", True), ("2003-12-15T-:15", True),
        ("2003-12-15T13:14Z", True), ("2003-12-15T13:14+01:00", True), ("2003-12-01/2003-12-10", True), ("2003-01/2003-06", True),
        ("", False), ("-", False), ("2003-13", False), ("2003-02-30", False), ("2003-12-15T24:00", False), ("15DEC2003", False),
        ("2003-1-5", False), ("2003-12-", False), ("03-12-15", False), ("2003-12-15 13:14", False), ("2003/2004/2005", False),
    ],
)  # fmt: skip
def test_dates_of_iso_8601(value: str, valid: bool) -> None:
    assert cdisc.is_iso_date(value) is valid


def sdtm(**more: list[object]) -> tuple[pl.DataFrame, Metadata]:
    base: dict[str, list[object]] = {
        "STUDYID": ["S", "S"], "DOMAIN": ["VS", "VS"], "USUBJID": ["a", "a"], "VSSEQ": [1, 2], "VSDTC": ["2014", "2014-01-31"],
    }  # fmt: skip
    frame = pl.DataFrame(base | more)
    return frame, Metadata("VS", columns=tuple(Column(n, f"label of {n}") for n in frame.columns))


def test_a_sound_domain_breaks_no_rule() -> None:
    assert cdisc.check_sdtm(*sdtm()) == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"VSSEQ": [1, 1]}, "row 2: a second record of a, 1; USUBJID, VSSEQ must be unique"),
        ({"VSSEQ": [1, None]}, "row 2: no USUBJID or VSSEQ; give it"),
        (
            {"VSDTC": ["2014", "31/01/2014"]},
            "VSDTC: '31/01/2014' is no date of ISO 8601; write it as 2014-01-31, or 2014-01 if partial",
        ),
        ({"VSDTC": [1, 2]}, "VSDTC: a --DTC variable is ISO 8601 text, not Int64; write it as 2014-01-31"),
        ({"DOMAIN": ["VS", "AE"]}, "DOMAIN: is one code of two letters in all rows; correct it"),
        ({"vsname": [1, 2]}, "vsname: a name is 1 to 8 capitals, digits or _, not beginning with a digit; rename it"),
        ({"VSORRES": ["x" * 201, ""]}, "VSORRES: text of more than 200 bytes; split it"),
        ({"ADT": ["2014-01-31", None]}, "ADT: a variable that ends in DT or DTM is a date, not text; convert it"),
    ],
)
def test_rules_of_sdtm(more: dict[str, list[object]], words: str) -> None:
    assert [str(f) for f in cdisc.check_sdtm(*sdtm(**more))] == [words]


def test_missing_variables_and_labels() -> None:
    frame, said = sdtm()
    assert [f.place for f in cdisc.check_sdtm(frame.drop("USUBJID", "STUDYID"), said)] == ["STUDYID", "USUBJID"]
    long = Metadata("VS", columns=(Column("VSSEQ", "x" * 41), *(c for c in said.columns if c.name != "VSSEQ")))
    assert [str(f) for f in cdisc.check_sdtm(frame, long)] == ["VSSEQ: a label has 1 to 40 characters, this one 41; give one"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("DATE9.", ("DATE", 9, 0)),
        ("E8601DA10.", ("E8601DA", 10, 0)),
        ("8.2", ("", 8, 2)),
        ("$20.", ("$", 20, 0)),
        ("BEST12", ("BEST", 12, 0)),
    ],
)
def test_sas_formats(text: str, parts: tuple[str, int, int]) -> None:
    assert split_format(text) == parts
