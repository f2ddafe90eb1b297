"""`validate`: its rows have the stated form, pass only for the right reason, and say where they could not be made.

The checks themselves are run by `gemello validate pharmacology`; the slow ones (fits, calibration) not here.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemello.base.reference import check
from gemello.cli.domains import CHECK
from gemello.domains.pharmacology import validate
from gemello.domains.pharmacology.authorities import fits, records, twins


def well_formed(rows: list[dict[str, Any]]) -> None:
    assert rows
    for r in rows:
        assert tuple(r) == CHECK
        assert isinstance(r["passed"], bool)
        assert r["passed"] == (abs(r["value"] - r["reference"]) <= r["tolerance"])
        assert r["tolerance"] >= 0
        assert r["source"]
    assert len({r["check"] for r in rows}) == len(rows)


def test_a_check() -> None:
    row = check("x", 1.05, 1.0, 0.1, "here")
    assert row == {"check": "x", "value": 1.05, "reference": 1.0, "tolerance": 0.1, "source": "here", "passed": True}
    assert not check("x", 1.2, 1.0, 0.1, "here")["passed"]
    assert not check("x", math.nan, 1.0, 0.1, "here")["passed"]
    relative = check("x", 105.0, 100.0, 0.04, "here", relative=True)
    assert (relative["tolerance"], relative["passed"]) == (4.0, False)


@pytest.mark.parametrize("part", [fits.mapbayr, records.varying_covariates, records.dosing_designs])
def test_parts_that_need_data_pass(shared_data: Path, part: Any) -> None:
    rows = list(part(shared_data / "pharmacology"))
    well_formed(rows)
    assert [r["check"] for r in rows if not r["passed"]] == []


def test_the_part_on_vancomycin_passes() -> None:
    rows = list(twins.vancomycin_dosing())
    well_formed(rows)
    assert [r["check"] for r in rows if not r["passed"]] == []
    assert len(rows) == 8


def test_a_wrong_reference_fails(shared_data: Path, tmp_path: Path) -> None:
    """One eta of one subject of NONMEM's table is changed in its third digit."""
    shutil.copytree(shared_data / "pharmacology" / "mapbayr", tmp_path / "mapbayr")
    table = tmp_path / "mapbayr" / "nonmem_run001_phi.csv"
    text = table.read_text()
    assert text.count("4.05058386E-001") == 1
    table.write_text(text.replace("4.05058386E-001", "4.06058386E-001"))
    etas, objective = fits.mapbayr(tmp_path)
    assert not etas["passed"]
    assert etas["value"] == pytest.approx(1e-3, rel=0.01)
    assert objective["passed"]


def test_without_the_data_each_part_says_so_and_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def nothing() -> Iterator[dict[str, Any]]:
        made.append("made")
        yield from ()

    monkeypatch.setattr(validate, "reference_data", lambda area: None)
    monkeypatch.setattr(validate, "WITHOUT", (nothing,))
    rows = list(validate.checks())
    assert [r["check"].partition(": not run")[0] for r in rows] == list(validate.WITH_DATA)
    assert all(set(CHECK) < set(r) and r["ran"] is False and r["passed"] is False and r["value"] is None for r in rows)
    assert all("set GEMELLO_DATA" in r["source"] for r in rows)
    assert made == ["made"]  # those that need no data are still made


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEMELLO_DATA", str(tmp_path))
    assert validate.reference_data("pharmacology") is None
    (tmp_path / "pharmacology").mkdir()
    assert validate.reference_data("pharmacology") == tmp_path / "pharmacology"
