"""The library of published models: against PKPDsim's files (read and integrated apart), published values, and its page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gemello.base.errors import ModelError
from gemello.domains.pharmacology import library, registry
from gemello.domains.pharmacology.authorities import library as authority
from gemello.domains.pharmacology.authorities.library_cases import cases
from gemello.domains.pharmacology.authorities.pkpdsim import Code, Reference, Values
from gemello.domains.pharmacology.library.listing import rows, table
from gemello.model import registry as models

PAGE = Path(__file__).resolve().parents[3] / "docs" / "library.md"
CASES = cases()
FILES = "pharmacology/pkpdsim_models"


# ---- against the files -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_against_the_file(shared_data: Path, name: str) -> None:
    checks = list(authority.of_model(name, CASES[name], shared_data / FILES))
    assert [c for c in checks if not c["passed"]] == []
    assert len(checks) == 2 + 2 * len(CASES[name].departures)


def test_every_file_is_there(shared_data: Path) -> None:
    files = {p.name for p in (shared_data / FILES).glob("*.json5")}
    assert len(files) == 25
    assert {f"{c.file}.json5" for c in CASES.values()} == files


@pytest.mark.parametrize(
    ("old", "new", "failing"),
    [('"CL": 6.54', '"CL": 6.5401', 0), ("0.071289", "0.0713", 1), ("1.73/BSA", "1.7301/BSA", 0), ("[0.189]", "[0.19]", 1)],
)
def test_a_changed_file_fails(shared_data: Path, tmp_path: Path, old: str, new: str, failing: int) -> None:
    case = CASES["vancomycin_adane2015"]
    file = f"{case.file}.json5"
    text = (shared_data / FILES / file).read_text()
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new))
    passed = [c["passed"] for c in authority.of_model("vancomycin_adane2015", case, tmp_path)]
    assert passed == [k != failing for k in range(2)]


def test_a_departure_must_be_the_stated_one(shared_data: Path) -> None:
    case = replace(CASES["vancomycin_colin2019"], departures={("cp_additive",): (1.109, 1.24)})
    checks = list(authority.of_model("vancomycin_colin2019", case, shared_data / FILES))
    assert [c["passed"] for c in checks] == [True, True, True, False]
    hidden = list(authority.of_model("vancomycin_colin2019", replace(case, departures={}), shared_data / FILES))
    assert [c["passed"] for c in hidden] == [True, False]


def test_published_values() -> None:
    checks = list(authority.published())
    assert [c for c in checks if not c["passed"]] == []
    assert len(checks) == 14


# ---- the reading of the files ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("x = 1 + 2*3 - 4/2", 5.0),
        ("x = 2 - 3 - 4", -5.0),
        ("x = -pow(2, -2.0) * .5e1", -1.25),
        ("x = a < 3 & a != 1 ? 10 : 20", 10.0),
        ("x = a == 2 ? (a > 1 ? 7 : 8) : 9", 7.0),
        ("x = min(a, 1.5) + max(a, 1.5)", 3.5),
        ("x = 1; if(a > 1) { x = 2 \n } else { x = 3 }", 2.0),
        ("x = 1\nif(a > 5) { x = 2; }\n  if (a >= 2 & a <= 2) { if(a == 2) { x = x + 4; } else { x = 0; } }", 5.0),
        ("x = 1 // if (a > 0) { \n x = x + 1 // }", 2.0),
        ("x = A[3] + A[0]", 40.0),
    ],
)
def test_code_means_what_it_says(code: str, value: float) -> None:
    values: Values = {"a": 2.0, "A[3]": 30.0, "A[0]": 10.0}
    Code(code).run(values)
    assert values["x"] == value


@pytest.mark.parametrize("code", ["x = a @ 2", "x = 'a'", "x + 1", "x = (1 + 2", "if(a) x = 1", "x = system(1)"])
def test_code_that_cannot_be_read_is_refused(code: str) -> None:
    with pytest.raises((ValueError, KeyError, IndexError)):
        Code(code).run({"a": 2.0})


def test_the_reference_is_a_bolus_by_hand(shared_data: Path) -> None:
    """1 mg/kg of Dao's model at V 0.628 L/kg: 1/0.628 mg/L at once, then exp(−CL t/V)."""
    reference = Reference(shared_data / FILES / "pk_vanco_dao.json5")
    covariates = {"WT": 1.0, "CR": 0.61, "PMA": 46.4, "CL_HEMO": 0.0}
    (later,) = reference.solve(covariates, [(0.0, 1.0, 0.0)], [5.0])
    assert later["CLi"] == pytest.approx(0.273 / 2.0, rel=1e-12)  # half mature
    assert later["observed"] == pytest.approx(2.718281828459045 ** (-0.1365 * 5.0 / 0.628) / 0.628, rel=1e-8)


# ---- names -------------------------------------------------------------------------------------------------------------
def test_the_library_is_in_the_registry() -> None:
    assert len(library.MODELS) == 24
    for name in library.MODELS:
        assert registry.MODELS[name] == f"gemello.domains.pharmacology.library:{name}"
        model = models.get(name)
        assert model.name == name
        assert models.get(name) is model  # one object, so that its compiled programs serve again
    with pytest.raises(AttributeError, match="no_such_model"):
        library.no_such_model  # noqa: B018


def test_models_of_a_drug() -> None:
    vancomycin = library.for_drug("vancomycin")
    assert len(vancomycin) == 18
    assert "vancomycin_goti2018" in vancomycin
    assert library.for_drug(" Busulfan ") == ("busulfan_mccune2014", "busulfan_shukla2020")
    assert library.for_drug("vancomycin", "obese adults") == (
        "vancomycin_adane2015",
        "vancomycin_carreno2017",
        "vancomycin_hughes2024",
    )
    assert library.for_drug("cefepime", "neonates") == ()
    with pytest.raises(ModelError, match="no published model of 'aspirin'; there are models of busulfan"):
        library.for_drug("aspirin")
    with pytest.raises(ModelError, match="no group 'old'"):
        library.for_drug("vancomycin", "old")


def test_every_model_but_the_templates_belongs_to_a_group() -> None:
    grouped = {n for names in library.GROUPS.values() for n in names}
    assert grouped <= {*library.MODELS, "vancomycin_goti2018"}
    assert {*library.MODELS} - grouped == {"neutropenia_template1", "neutropenia_template2"}


def test_models_of_vancomycin_can_stand_for_one_another() -> None:
    for name in library.for_drug("vancomycin"):
        model = models.get(name)
        assert {(o.name, o.unit) for o in model.outputs} == {("cp", "mg/L"), ("auc", "mg*h/L")}
        assert [(q.name, q.unit) for q in model.ports] == [("central", "mg")]
        units = {"WT": "kg", "HT": "cm", "CR": "mg/dL", "CRCL": "mL/min", "PMA": "week", "GA": "week", "AGE": "year"}
        assert all(units.get(c.name, c.unit) == c.unit for c in model.covariates)


def test_what_is_assumed_is_said() -> None:
    """A card says of its ranges that they are assumed, or where they are published."""
    for name in library.MODELS:
        valid = " ".join(models.get(name).card.sections["Valid range"].split())
        assert re.search(r"[Aa]ssumed here|Table|mean ± 2 SD|without patients", valid), name


# ---- the page ----------------------------------------------------------------------------------------------------------
def test_the_page_shows_the_library() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(rows()) == 25
    assert table() in text, "docs/library.md: its table is out of date; put library.listing.table() there"


def test_the_page_names_every_departure() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, case in CASES.items():
        if case.departures or {*case.values} - {"CL_HEMO"}:
            assert f"| {name} | " in text.partition("## The models")[0]


def test_the_example_of_the_page_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(block, {})
