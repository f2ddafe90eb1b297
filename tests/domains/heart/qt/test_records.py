"""Reader of concentration-QTc files: what is understood, and what is refused with its row and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.domains.heart.qt.studies import HEADER, write

from gemello.base.errors import DataError
from gemello.domains.heart.qt.records import read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "study.csv", slope=0.1)


def changed(file: Path, line: int, column: str, value: str) -> Path:
    """The file with one cell changed; line 1 is the header."""
    lines = file.read_text(encoding="utf-8").splitlines()
    cells = lines[line - 1].split(",")
    cells[HEADER.split(",").index(column)] = value
    lines[line - 1] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_a_study(file: Path) -> None:
    s = read(file)
    assert (s.drug, s.unit, len(s), s.crossover) == ("Drug", "ng/mL", 120, True)
    assert s.times == pytest.approx([0.5, 1, 2, 4, 8, 24])
    assert s.change == pytest.approx(s.qtcf - s.baseline)


def test_the_real_files(shared_data: Path) -> None:
    s = read(shared_data / "heart" / "cqt" / "ecgrdvq_cqtkit_dofetilide.csv")
    assert (s.drug, s.unit, len(s), len(set(s.subject.tolist()))) == ("Dofetilide", "pg/mL", 657, 22)
    assert set(s.subject.tolist()) >= {"1001", "1022"}


def test_names_units_and_intervals_may_be_others(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    other = tmp_path / "adeg.csv"
    other.write_text(text.replace("ID,TRTG", "USUBJID,TRTA", 1).replace("CONC,", "PLASMA,", 1).replace("QTCF,", "X,", 1), "utf-8")
    a, b = read(file), read(other, columns={"CONC": "PLASMA"}, unit="ug/L")
    assert b.unit == "ug/L"
    assert b.conc == pytest.approx(a.conc)
    assert b.qtcf == pytest.approx(a.qtcf, abs=0.01)
    assert any("Fridericia" in n for n in b.notes)
    assert read(file, unit="pg/mL").conc == pytest.approx(1000.0 * a.conc)


def test_a_baseline_from_rows_before_the_dose(file: Path) -> None:
    s = read(file)
    lines = [r.rsplit(",", 1)[0] for r in file.read_text(encoding="utf-8").splitlines()]
    for who in dict.fromkeys(s.subject.tolist()):
        for arm, dose in (("Placebo", 0), ("Drug", 10)):
            for time, qtcf in ((-0.5, 401.0), (0.0, 405.0)):
                lines.append(f"{who},{arm},{dose},{time},0,ng/mL,1000,{qtcf},{qtcf}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    again = read(file)
    assert len(again) == len(s)
    assert again.baseline == pytest.approx(403.0)


@pytest.mark.parametrize(("line", "column", "value", "said"), [
    (2, "QTCF", "4000", "row 2, column QTCF, value '4000': outside 200 to 800 ms"),
    (3, "RR", "0.95", "row 3, column RR, value '0.95': outside 250 to 3000 ms"),
    (3, "QTCF", "470", "row 3, column QTCF, value '470': differs by more than 5 ms from QT"),
    (9, "CONC", "-1", "row 9, column CONC, value '-1': a negative concentration"),
    (9, "CONC", "", "no concentration beside this ECG"),
    (2, "CONC", "5", "a concentration under placebo"),
    (9, "CONC", "high", "is not a number"),
    (9, "CONCU", "h", "row 9, column CONCU, value 'h': is not a unit of concentration"),
    (9, "CONCU", "nmol/L", "cannot be turned into ng/mL"),
    (9, "CONCU", "", "no unit beside a concentration"),
    (2, "DOSE", "10", "placebo with a dose"),
    (9, "DOSE", "0", "dose 0 of a treatment that is not placebo"),
    (3, "QTCFBL", "420", "row 3, column QTCFBL, value '420': changes within one subject and treatment"),
    (3, "NTLD", "0.5", "row 3, column NTLD, value '0.5': a second row of this subject, treatment and time"),
    (4, "ID", "", "row 4, column ID: is missing"),
    (9, "TRTG", "Other", "2 active treatments"),
])  # fmt: skip
def test_a_wrong_cell_is_named(file: Path, line: int, column: str, value: str, said: str) -> None:
    with pytest.raises(DataError) as e:
        read(changed(file, line, column, value))
    text = str(e.value)
    assert said in text.replace(", value ''", "")
    assert "\n" not in text
    assert ";" in text  # the remedy


def test_columns_that_are_not_there(file: Path) -> None:
    with pytest.raises(DataError, match="plays no role"):
        read(file, columns={"WEIGHT": "WT"})
    with pytest.raises(DataError, match="no such column, to be read as CONC"):
        read(file, columns={"CONC": "CP"})
    file.write_text(file.read_text(encoding="utf-8").replace("NTLD", "WHEN", 1), encoding="utf-8")
    with pytest.raises(DataError, match="column TIME: no such column"):
        read(file)


def test_placebo_is_needed_and_a_drug_is_chosen(file: Path) -> None:
    with pytest.raises(DataError, match="the file has Drug"):
        read(file, treatment="Other")
    assert read(file, treatment="drug").drug == "Drug"
    text = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(r for r in text if "Placebo" not in r) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="no placebo rows"):
        read(file)


def test_no_unit_is_no_guess(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace("CONCU", "REMARK", 1), encoding="utf-8")
    with pytest.raises(DataError, match="unit of the concentration is not given"):
        read(file)
    assert read(file, unit="ng/mL").unit == "ng/mL"
    with pytest.raises(DataError, match="not a unit of concentration"):
        read(file, unit="mg")


def test_the_hash_is_of_the_numbers(file: Path) -> None:
    first = read(file).hash
    assert read(file).hash == first
    assert read(changed(file, 9, "CONC", "12.5")).hash != first


def test_rows_after_the_dose_are_needed_of_both(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    time = HEADER.index("NTLD") if not isinstance(HEADER, str) else HEADER.split(",").index("NTLD")
    for which, said in (("Placebo", "no row of placebo"), ("Drug", "no row of Drug")):
        rows = [r.split(",") for r in lines[1:]]
        early = [[*r[:time], "-1", *r[time + 1 :]] if which in r else r for r in rows]
        file.write_text("\n".join([lines[0], *map(",".join, early)]) + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=said):
            read(file)


def test_a_number_is_no_part_of_a_unit(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace("CONCU", "REMARK", 1), encoding="utf-8")
    for unit in ("±1 ng/mL", "1 ng/mL"):
        with pytest.raises(DataError, match="not a unit of concentration"):
            read(file, unit=unit)
