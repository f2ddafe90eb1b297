"""NONMEM data sets: what each column means, units, and bad input, each with its one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemello.base.errors import DataError, ModelError
from gemello.formats import nonmem
from gemello.model import registry
from gemello.model.contract import Model
from gemello.model.schedule import Schedule

Csv = Callable[[str | bytes], Path]


def only(path: Path, model: Model, **how: Any) -> Schedule:
    """The schedule of a file's single subject."""
    (subject,) = nonmem.read(path, model, **how).subjects
    return subject.schedule


# ---- meaning ------------------------------------------------------------------------------------------------------------
def test_every_column_arrives(csv: Csv, bare: Model) -> None:
    s = only(
        csv("C,id,Time,EVID,AMT,RATE,II,ADDL,SS,CMT,MDV,DV,DVID/.,7,0,1,100,50,12,3,1,2,1,.,/.,7,1.5,0,.,.,.,.,.,.,0,4.5,effect"),
        bare,
    )
    expected = dict(
        time=[0, 1.5], evid=[1, 0], amount=[100, 0], rate=[50, 0], interval=[12, 0], additional=[3, 0], steady_state=[1, 0],
        port=[2, 0], value=[np.nan, 4.5], output=[0, 1], row=[2, 3],
    )  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(s, name), values, err_msg=name)


def test_events_are_inferred_where_there_is_no_evid(csv: Csv, bare: Model) -> None:
    data = nonmem.read(csv("ID,TIME,AMT,DV/1,0,10,0/1,1,0,3/1,2,.,."), bare)
    s = data.subjects[0].schedule
    assert s.evid.tolist() == [1, 0, 0]
    assert s.measured.tolist() == [False, True, False]
    assert data.notes[0] == "no column EVID: rows with AMT above 0 are doses, the others observations"
    assert "1 observation records without a value: predicted only" in data.notes


def test_mdv_takes_a_value_out(csv: Csv, bare: Model) -> None:
    s = only(csv("ID,TIME,EVID,MDV,DV/1,0,0,1,BLQ/1,1,0,0,3/1,2,2,0,9"), bare)
    np.testing.assert_array_equal(s.value, [np.nan, 3, np.nan])
    assert s.evid.tolist() == [0, 0, 2]


def test_observations_before_the_first_dose_and_subjects_in_file_order(csv: Csv, bare: Model) -> None:
    data = nonmem.read(csv("ID,TIME,EVID,AMT,DV/b 2,0,0,.,1/b 2,1,1,5,./a,0,1,5,."), bare)
    assert [s.id for s in data.subjects] == ["b 2", "a"]
    assert [len(s.schedule) for s in data.subjects] == [2, 1]
    assert data.records == 3


def test_ignored_rows_and_a_column_c_that_is_data(csv: Csv, bare: Model) -> None:
    data = nonmem.read(csv("C,ID,TIME,DV/.,1,0,1/C,1,zero,x/#,1,,/,1,1,2"), bare)
    assert data.subjects[0].schedule.row.tolist() == [2, 5]
    assert "2 rows marked as comments were passed over" in data.notes
    s = only(csv("ID,TIME,C/1,0,1/1,1,2"), bare, columns={"DV": "C"})
    assert s.value.tolist() == [1, 2]
    assert "C" not in nonmem.read(csv("ID,TIME,C/1,0,1/1,1,C"), bare).columns


def test_names_are_found_by_synonym_or_map(csv: Csv, two: Model) -> None:
    path = csv("Subject,time,conc,Weight,sex,extra/1,0,1,70,0,x/1,1,2,70,0,y")
    data = nonmem.read(path, two, columns={"dv": "CONC", "WT": "weight"})
    assert data.columns == {"ID": "Subject", "TIME": "time", "DV": "conc", "WT": "Weight", "SEX": "sex"}
    assert data.notes[0] == "ID is read from the column Subject"
    assert data.notes[-1] == "columns not used: extra"
    assert data.subjects[0].schedule.columns["WT"].tolist() == [70, 70]


def test_bound_columns(csv: Csv, bare: Model) -> None:
    path = csv("ID,TIME,tlag/1,0,1/1,1,2")
    assert only(path, bare, bind={"LAG": "TLAG"}).columns["TLAG"].tolist() == [1, 2]
    for bind, message in (({"NO": "tlag"}, "no parameter 'NO'"), ({"add": "tlag"}, "no parameter 'add'")):
        with pytest.raises(ModelError, match=message):
            nonmem.read(path, bare, bind=bind)
    with pytest.raises(DataError, match="column LAGG: no such column; a parameter is bound to this column"):
        nonmem.read(path, bare, bind={"LAG": "LAGG"})


def test_outputs_by_number_name_and_compartment(csv: Csv, bare: Model) -> None:
    assert only(csv("ID,TIME,DV,DVID/1,0,1,2/1,1,1,CP/1,2,1,1.0"), bare).output.tolist() == [1, 0, 0]
    path = csv("ID,TIME,DV,CMT/1,0,1,2/1,1,1,5")
    assert only(path, bare, observed={2: "cp", 5: "effect"}).output.tolist() == [0, 1]
    with pytest.raises(
        DataError, match=r"row 3, column CMT, value '5': subject 1: observations of compartments 2, 5, and nothing says"
    ):
        nonmem.read(path, bare)


# ---- units --------------------------------------------------------------------------------------------------------------
UNITS = {"TIME": "min", "AMT": "g", "RATE": "mg/min", "DV": "ug/L", "WT": "lb"}
TIMED = "ID,TIME,EVID,AMT,RATE,II,ADDL,DV,WT,SEX/1,0,1,1,2,60,2,.,100,1/1,90,0,0,0,0,0,500,100,1"


def test_units_are_converted_to_the_models(csv: Csv, two: Model) -> None:
    s = only(csv(TIMED), two, units=UNITS)
    np.testing.assert_allclose(s.time, [0, 1.5])
    np.testing.assert_allclose(s.amount, [1000, 0])
    np.testing.assert_allclose(s.rate, [120, 0])
    np.testing.assert_allclose(s.interval, [1, 0])  # II goes with TIME
    np.testing.assert_allclose(s.value[1], 0.5)
    np.testing.assert_allclose(s.columns["WT"], 45.359237)
    assert s.columns["SEX"].tolist() == [1, 1]


def test_codes_of_rate_have_no_unit(csv: Csv, bare: Model) -> None:
    path = csv("ID,TIME,EVID,AMT,RATE/1,0,1,5,-2/1,1,1,5,-1")
    assert only(path, bare, units={"TIME": "min", "AMT": "mg"}).rate.tolist() == [-2, -1]


def test_each_port_and_output_has_its_own_unit(csv: Csv, bare: Model) -> None:
    path = csv("ID,TIME,EVID,AMT,CMT,DV,DVID/1,0,1,5,2,.,./1,0,1,7,3,.,./1,1,0,.,.,0.5,effect/1,1,0,.,.,100,cp")
    how = {"TIME": "h", "AMT": "g", "AMT.clamp": "umol/L", "DV": "ug/L", "DV.effect": "1"}
    s = only(path, bare, units=how)
    np.testing.assert_allclose(s.amount[:2], [5000, 0.007])
    np.testing.assert_allclose(s.value[2:], [50, 0.1])
    with pytest.raises(DataError, match="column AMT: unit 'g' is not a unit of 'mmol/L'"):
        nonmem.read(path, bare, units={"TIME": "h", "AMT": "g", "DV.cp": "mg/L", "DV.effect": "1"})


@pytest.mark.parametrize("missing", sorted(UNITS))
def test_a_unit_that_is_missing_is_named(csv: Csv, two: Model, missing: str) -> None:
    with pytest.raises(DataError, match=rf"^d\.csv, column {missing}: its unit is not given; add its unit, {missing}="):
        nonmem.read(csv(TIMED), two, units={k: v for k, v in UNITS.items() if k != missing})


@pytest.mark.parametrize(("key", "unit"), [("TIME", "mg"), ("DV", "foo"), ("AMT", "mmol"), ("RATE", "mg"), ("WT", "m")])
def test_a_unit_that_does_not_fit_is_named(csv: Csv, two: Model, key: str, unit: str) -> None:
    with pytest.raises(DataError, match=rf"column {key}: unit '{unit}' is not a unit of"):
        nonmem.read(csv(TIMED), two, units=UNITS | {key: unit})


def test_a_unit_for_nothing_is_refused(csv: Csv, bare: Model) -> None:
    with pytest.raises(DataError, match="column DVV: a unit for a column that the file does not have; the file has ID, TIME, DV"):
        nonmem.read(csv("ID,TIME,DV/1,0,1"), bare, units={"TIME": "h", "DVV": "mg/L"})


def test_without_units_the_models_own_are_taken_and_said(csv: Csv, two: Model) -> None:
    assert (
        "no units given: the model's own are taken (TIME h, AMT.depot mg, RATE.depot mg/h, II h, DV.cp mg/L, WT kg)"
        in nonmem.read(csv(TIMED), two).notes
    )


# ---- bad input ----------------------------------------------------------------------------------------------------------
COLUMNS = "ID,TIME,EVID,AMT,RATE,II,ADDL,SS,CMT,MDV,DV,DVID,WT,SEX"
GOOD = "1,0,1,100,0,0,0,0,1,1,.,.,70,0\n1,1,0,0,0,0,0,0,0,0,5,cp,70,0\n1,2,0,0,0,0,0,0,0,0,4,cp,70,0\n"
BAD = [  # row 3 with one cell changed: column, value, what the message says
    ("ID", "", "a record of nobody; give every record an ID"),
    ("TIME", "soon", "subject 1: not a finite number; give a number, or . where there is none"),
    ("TIME", "9:30", "subject 1: a clock time or date; give the time since the first record as a decimal number"),
    ("TIME", ".", "subject 1: no time; give every record a time"),
    ("TIME", "-1", "subject 1: time is negative; count time from the first record"),
    ("TIME", "1e400", "subject 1: not a finite number"),
    ("TIME", "1e40", "subject 1: an absurdly large number; give one below 1e+30"),
    ("TIME", "nan", "subject 1: not a finite number"),
    ("EVID", "5", "subject 1: unknown event; use 0 observation"),
    ("EVID", "101", "subject 1: a compound event code; use 0 to 4"),
    ("EVID", "0.5", "subject 1: not a whole number"),
    ("AMT", "12", "subject 1: an observation with an amount; use EVID 1"),
    ("AMT", "1,000", "subject 1: not a finite number"),
    ("RATE", "12", "subject 1: an observation with a rate"),
    ("SS", "99", "subject 1: unknown steady state; use 0 (none), 1 or 2"),
    ("II", "-1", "subject 1: interval is not 0 or more"),
    ("ADDL", "-1", "subject 1: negative number of additional doses"),
    ("CMT", "-1", "subject 1: negative compartment number"),
    ("MDV", "2", "subject 1: is neither 0 nor 1"),
    ("DV", "<0.5", "subject 1: not a finite number"),
    ("DV", "Inf", "subject 1: not a finite number"),
    ("DVID", "3", "subject 1: no such output of two; use one of: 1 cp, 2 effect"),
    ("DVID", "pca", "subject 1: no such output of two; use one of: 1 cp, 2 effect"),
    ("WT", "-70", "subject 1: impossible covariate; give a value between 0.3 and 700 kg"),
    ("WT", "", "subject 1: no value; give it in every record"),
    ("WT", "heavy", "subject 1: not a finite number"),
    ("SEX", "2", "subject 1: impossible covariate; give a value one of 0, 1"),
]


def with_cell(column: str, value: str, row: int = 1) -> str:
    lines = [line.split(",") for line in GOOD.split()]
    lines[row][COLUMNS.split(",").index(column)] = f'"{value}"' if "," in value else value
    return COLUMNS + "\n" + "\n".join(",".join(r) for r in lines)


@pytest.mark.parametrize(("column", "value", "problem"), BAD)
def test_bad_cells(csv: Csv, two: Model, column: str, value: str, problem: str) -> None:
    with pytest.raises(DataError) as e:
        nonmem.read(csv(with_cell(column, value)), two)
    shown = f", value {value!r}" if column != "ID" else ""
    assert str(e.value).startswith(f"d.csv, row 3, column {column}{shown}: {problem}")
    assert (e.value.row, e.value.column) == (3, column)
    assert e.value.remedy
    assert "\n" not in str(e.value)


DOSES = [  # the dose in row 2
    ("TIME", "-1", "time is negative"),
    ("AMT", "-5", "amount is negative"),
    ("AMT", ".", "a dose without an amount"),
    ("RATE", "-3", "impossible rate"),
    ("ADDL", "1000000000", "more than 100000 additional doses"),
    ("CMT", "4", "no such compartment to dose in two; use one of: 1 depot, 2 central, 3 clamp"),
    ("II", "12", "an interval without ADDL or SS"),
]


@pytest.mark.parametrize(("column", "value", "problem"), DOSES)
def test_bad_doses(csv: Csv, two: Model, column: str, value: str, problem: str) -> None:
    with pytest.raises(DataError) as e:
        nonmem.read(csv(with_cell(column, value, row=0)), two)
    assert str(e.value).startswith(f"d.csv, row 2, column {column}, value {value!r}: subject 1: {problem}")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "1,0,1,1,7,0,./1,0,1,1,7,0,.",
            "row 3, column TIME, value '0': subject 1: the same record as in row 2; take one of them out",
        ),
        ("1,0,0,.,.,.,5/1,0,1,1,9,0,./1,0,0,0,.,0,5.0", "row 4, column TIME, value '0': subject 1: the same record as in row 2"),
        (
            "1,0,0,.,.,.,5/2,0,0,.,.,.,5/1,1,0,.,.,.,6",
            "row 4, column ID, value '1': subject 1: records of this subject stand in two places",
        ),
        (
            "1,0,0,.,.,.,5/1,5,0,.,.,.,5/1,0,4,1,9,0,.",
            "row 4, column TIME, value '0': subject 1: time starts anew at a reset; count",
        ),
        (
            "1,0,1,1,5,0,./1,1,1,3,5,2,.",
            "row 3, column RATE, value '2': subject 1: a rate into a signal; give the level as AMT and RATE 0",
        ),
    ],
)
def test_records_that_do_not_go_together(csv: Csv, bare: Model, rows: str, message: str) -> None:
    with pytest.raises(DataError) as e:
        nonmem.read(csv(f"ID,TIME,EVID,CMT,AMT,RATE,DV/{rows}"), bare)
    assert str(e.value).startswith(f"d.csv, {message}")


def test_replicates_and_equal_records_of_two_subjects_are_no_duplicates(csv: Csv, bare: Model) -> None:
    data = nonmem.read(csv("ID,TIME,DV,DVID/1,0,5,1/1,0,6,1/1,0,5,2/2,0,5,1"), bare)
    assert data.records == 4


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "SUBJ,TIME,DV",
            "column ID: no such column; a data set needs this column; add it, or map one to it; the file has SUBJ, TIME, DV",
        ),
        ("ID,T,DV", "column TIME: no such column"),
        ("ID,TIME,DATE", "column DATE: a date, which would change the meaning of TIME"),
    ],
)
def test_columns_that_are_missing_or_misleading(csv: Csv, bare: Model, header: str, message: str) -> None:
    with pytest.raises(DataError) as e:
        nonmem.read(csv(f"{header}/1,0,1"), bare)
    assert str(e.value).startswith(f"d.csv, {message}")


def test_covariates_and_maps_that_do_not_fit(csv: Csv, two: Model, bare: Model) -> None:
    path = csv("ID,TIME,DV/1,0,1")
    for how, message in (
        ({}, "column WT: no such column; two needs this covariate"),
        ({"columns": {"WT": "mass"}}, "column mass: no such column, to be read as WT"),
        ({"columns": {"WEIGHT": "DV"}}, "column WEIGHT: plays no role here; use one of ID, TIME"),
    ):
        with pytest.raises(DataError, match=message):
            nonmem.read(path, two, **how)
    with pytest.raises(DataError, match="column ID: could be Subject and SUBJID"):
        nonmem.read(csv("Subject,SUBJID,TIME/1,1,0"), bare)


def test_a_bound_value_outside_the_parameters_range(csv: Csv, bare: Model) -> None:
    with pytest.raises(
        DataError, match="row 2, column L, value '11': subject 1: outside the range of LAG; give a value between 0 and 10 h"
    ):
        nonmem.read(csv("ID,TIME,L/1,0,11"), bare, bind={"LAG": "L"})


# ---- quarantine ---------------------------------------------------------------------------------------------------------
def test_quarantine_leaves_out_by_name_and_the_rest_is_untouched(csv: Csv, bare: Model) -> None:
    good = "ID,TIME,DV/1,0,1/1,1,2/4,0,3"
    mixed = "ID,TIME,DV/1,0,1/1,1,2/2,0,x/2,1,1/3,5,1/3,1,1/4,0,3/2,9,9"
    data = nonmem.read(csv(mixed), bare, quarantine=True)
    assert [s.id for s in data.subjects] == ["1", "4"]
    assert data.excluded == (
        ("2", "d.csv, row 4, column DV, value 'x': subject 2: not a finite number; give a number, or . where there is none"),
        ("3", "d.csv, row 7, column TIME, value '1': subject 3: time runs backwards; sort the records of each subject by time"),
    )
    assert data.hash == nonmem.read(csv(good), bare).hash
    with pytest.raises(DataError, match="row 4, column DV"):
        nonmem.read(csv(mixed), bare)
    with pytest.raises(DataError, match=r"no subject can be used; the first: d\.csv, row 2"):
        nonmem.read(csv("ID,TIME,DV/1,0,x"), bare, quarantine=True)
    with pytest.raises(DataError, match="its unit is not given"):
        nonmem.read(csv(mixed), bare, quarantine=True, units={"TIME": "h"})


def test_the_hash_depends_on_the_numbers_only(csv: Csv, bare: Model) -> None:
    base = nonmem.read(csv("ID,TIME,DV/1,0,1/1,60,2"), bare).hash
    assert nonmem.read(csv("#note/DV,ID,x,TIME/1.0,1,a,0e0//2,1,b,60"), bare).hash == base
    assert nonmem.read(csv("ID,TIME,DV/1,0,1/1,3600,2"), bare, units={"TIME": "min", "DV": "mg/L"}).hash == base
    assert nonmem.read(csv("ID,TIME,DV/1,0,1/1,60,2.5"), bare).hash != base
    assert nonmem.read(csv("ID,TIME,DV/1,0,1/2,60,2"), bare).hash != base


# ---- writing ------------------------------------------------------------------------------------------------------------
def test_results_keep_the_order_of_the_file(csv: Csv, bare: Model, tmp_path: Path) -> None:
    data = nonmem.read(csv("ID,TIME,EVID,AMT/b,0,1,5/b,1,0,0/a,0,0,0"), bare)
    out = {"cp": np.array([[1.0, 1 / 3], [3.0, np.nan]]), "effect": np.array([[np.nan, 5], [6, 7.0]])}
    assert nonmem.write(tmp_path / "o.csv", data.subjects, out) == 3
    assert (
        tmp_path / "o.csv"
    ).read_text() == "ID,TIME,EVID,cp,effect\nb,0.0,1,1.0,.\nb,1.0,0,0.3333333333333333,5.0\na,0.0,0,3.0,6.0\n"


# ---- real data sets -----------------------------------------------------------------------------------------------------
def test_real_files_are_read(shared_data: Path) -> None:
    folder = shared_data / "pharmacology"
    pheno = nonmem.read(folder / "pharmpy" / "pheno.csv", registry.get("pheno"))
    assert (len(pheno), pheno.records, sum(int(s.schedule.measured.sum()) for s in pheno.subjects)) == (59, 744, 155)
    mapbayr = nonmem.read(folder / "mapbayr" / "data_to_fit001.csv", registry.get("pk1_oral"))
    assert [s.id for s in mapbayr.subjects] == [str(i) for i in range(1, 9)]
    quinidine = {"columns": {"AMT": "dose", "DV": "conc"}}
    data = nonmem.read(folder / "R" / "Quinidine.csv", registry.get("pk1_oral"), **quinidine)
    assert (len(data), data.records, sum(int(s.schedule.measured.sum()) for s in data.subjects)) == (136, 1471, 361)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("nlmixr2data/Bolus_1CPT.csv", "row 2, column SS, value '99': subject 1: unknown steady state; use 0 (none)"),
        ("nlmixr2data/theo_sd.csv", "row 2, column EVID, value '101': subject 1: a compound event code"),
        (
            "nlmixr2data/warfarin.csv",
            "row 11, column dvid, value 'pca': subject 1: no such output of pk1_oral; use one of: 1 cp, 2 auc",
        ),
        ("mapbayr/data_to_fit401.csv", "row 4, column cmt, value '3': subject 1: observations of compartments 2, 3"),
    ],
)
def test_real_files_that_would_be_misread_are_refused(shared_data: Path, file: str, message: str) -> None:
    with pytest.raises(DataError) as e:
        nonmem.read(shared_data / "pharmacology" / file, registry.get("pk1_oral"))
    assert str(e.value).startswith(f"{Path(file).name}, {message}")
