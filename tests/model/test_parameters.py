"""The parameter table and the card: what is read, what is kept, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import ModelError
from gemello.model.card import SECTIONS, Card
from gemello.model.parameters import COLUMNS, OPTIONAL_COLUMNS, Parameter, ParameterTable

CSV = """name,value,unit,lower,upper,kind,distribution,variance,estimate,source,description
CL,5,L/h,,,,lognormal,0.09,,a paper,clearance
F1,0.8,1,0,1,,logitnormal,0.2,no,a paper,"absorbed, as a fraction"
MW,180,g/mol,0,,constant,,,no,a table,molar mass
sd,2,mg/L,0,,residual,,,,a paper,additive
"""


def read(tmp_path: Path, text: str, **more: Any) -> ParameterTable:
    (tmp_path / "parameters.csv").write_text(text)
    return ParameterTable.read(tmp_path / "parameters.csv", **more)


def test_reading(tmp_path: Path) -> None:
    table = read(tmp_path, CSV)
    assert table["CL"] == Parameter(
        "CL", 5.0, "L/h", distribution="lognormal", variance=0.09, source="a paper", description="clearance"
    )
    assert (table["CL"].lower, table["CL"].upper, table["CL"].kind, table["CL"].estimate) == (0.0, float("inf"), "theta", True)
    assert table["F1"].description == "absorbed, as a fraction"
    assert not table["F1"].estimate
    assert (table.theta_names, table.residual_names, table.eta_names) == (("CL", "F1", "MW"), ("sd",), ("CL", "F1"))
    assert "CL" in table
    assert "KA" not in table


def test_only_some_rows(tmp_path: Path) -> None:
    assert [r.name for r in read(tmp_path, CSV, only=["sd", "CL"])] == ["CL", "sd"]
    with pytest.raises(ModelError, match=r"parameters\.csv: no row KA"):
        read(tmp_path, CSV, only=["KA"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("CL,5", "CL,five", "row 2, column value, value 'five': not a number"),
        ("CL,5,L/h", "CL,5,litters", "parameter CL: unknown unit"),
        ("CL,5,L/h", "CL,5,", "parameter CL: no unit"),
        ("CL,5,L/h", "2CL,5,L/h", "parameter '2CL': not a name"),
        ("CL,5,L/h", "lambda,5,L/h", "parameter 'lambda': not a name"),
        ("CL,5,L/h", "CL,-5,L/h", "value -5 outside its range"),
        ("CL,5,L/h", "CL,,L/h", "value nan outside its range"),
        ("lognormal,0.09", "lognormal,-0.09", "variance -0.09; give a finite number"),
        ("lognormal,0.09", "none,0.09", "variance 0.09 without a distribution"),
        ("lognormal,0.09", "gamma,0.09", "distribution 'gamma'"),
        ("0.2,no", "0.2,maybe", "row 3, column estimate, value 'maybe': use yes or no"),
        ("MW,180", "CL,180", "CL given more than once"),
        ("name,value", "name,values", "no column value"),
    ],
)
def test_a_bad_table_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in CSV
    with pytest.raises(ModelError) as e:
        read(tmp_path, CSV.replace(old, new))
    assert words in str(e.value)


def test_columns_are_those_of_a_row() -> None:
    assert tuple(Parameter.__dataclass_fields__) == (*COLUMNS, *OPTIONAL_COLUMNS)


def test_omega_and_its_covariances(tmp_path: Path) -> None:
    table = read(tmp_path, CSV, covariances={("F1", "CL"): 0.03})
    assert table.omega() == [[0.09, 0.03], [0.03, 0.2]]
    with pytest.raises(ModelError, match="covariance of 'MW', which does not vary between subjects"):
        read(tmp_path, CSV, covariances={("MW", "CL"): 0.03})


def test_new_values(tmp_path: Path) -> None:
    table = read(tmp_path, CSV)
    other = table.with_values({"CL": 7.0})
    assert (other["CL"].value, table["CL"].value, other["F1"]) == (7.0, 5.0, table["F1"])
    with pytest.raises(ModelError, match=r"parameter F1: value 1\.5 outside its range"):
        table.with_values({"F1": 1.5})
    with pytest.raises(ModelError, match="no parameter 'KA'; the table has CL, F1, MW, sd"):
        table.with_values({"KA": 1.0})


@given(st.sampled_from(["value", "lower", "variance", "unit", "source"]), st.sampled_from([0, 1]))
def test_the_hash_depends_on_every_cell(column: str, which: int) -> None:
    rows = [
        Parameter("A", 2.0, "1", variance=1.0, distribution="normal"),
        Parameter("B", 3.0, "1", variance=1.0, distribution="normal"),
    ]
    other = {"value": 2.5, "lower": -1.0, "variance": 2.0, "unit": "mg", "source": "x"}[column]
    changed = [Parameter(**{**vars(r), column: other}) if i == which else r for i, r in enumerate(rows)]
    assert ParameterTable(tuple(rows)).hash() == ParameterTable(tuple(rows)).hash() != ParameterTable(tuple(changed)).hash()


# ---- card --------------------------------------------------------------------------------------------------------------
def card_text(leave_out: str = "") -> str:
    return "# A model\n\n" + "\n\n".join(f"## {s}\nSomething." for s in SECTIONS if s != leave_out)


def test_a_card() -> None:
    card = Card.parse(card_text())
    assert (card.title, set(card.sections)) == ("A model", set(SECTIONS))


@pytest.mark.parametrize("section", SECTIONS)
def test_a_card_without_a_section_is_refused(section: str) -> None:
    with pytest.raises(ModelError, match=f"mine: incomplete card, no {section}; add the heading and its text"):
        Card.parse(card_text(section), "mine")


def test_a_card_with_an_empty_section_or_without_title_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no Question"):
        Card.parse(card_text().replace("## Question\nSomething.", "## Question\n"))
    (tmp_path / "CARD.md").write_text(card_text().removeprefix("# A model"))
    with pytest.raises(ModelError, match=r"CARD\.md: incomplete card, no title"):
        Card.read(tmp_path / "CARD.md")
