"""Histories described in YAML: read as declared, refused with the place where they are not; and the two commands on one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from gemello.base.errors import DataError, GemelloError
from gemello.cli import output
from gemello.domains.progression import commands, description

WIDE = """\
schema: gemello-history/1
file: t.csv
person: id
visits: {cd4: {0: c0, 20: c20}}
baseline: [age]
units: {cd4: cells/mm3}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(5)
    c0, age = random.normal(350, 80, 60), random.normal(40, 9, 60)
    c20 = 0.7 * c0 + 80 + random.normal(0, 50, 60)
    table = pl.DataFrame({"id": np.arange(60), "age": age, "c0": c0, "c20": c20, "arm": np.arange(60) % 2})
    table.write_csv(tmp_path / "t.csv")
    (tmp_path / "h.yaml").write_text(WIDE)
    return tmp_path


def test_one_row_a_person(folder: Path) -> None:
    found = description.read(folder / "h.yaml").read()
    assert len(found) == 60
    assert {v.name: v.role for v in found.variables} == {"age": "baseline", "cd4": "longitudinal"}
    assert sorted(set(found.time.tolist())) == [0.0, 20.0]


def test_some_rows(folder: Path) -> None:
    (folder / "h.yaml").write_text(WIDE + "where: {arm: 0}\n")
    assert len(description.read(folder / "h.yaml").read()) == 30


@pytest.mark.parametrize(("line", "words"), [
    ("kinds: {cd4: foo}", "no kind"),
    ("kinds: {weight: continuous}", "of no variable"),
    ("bounds: {weight: [0, 1]}", "of no variable"),
    ("time: day", "give either time"),
    ("colour: red", "unknown key"),
    ("where: {sex: 1}", "no such column"),
    ("where: {arm: 7}", "no row stays"),
])  # fmt: skip
def test_what_is_refused(folder: Path, line: str, words: str) -> None:
    (folder / "h.yaml").write_text(f"{WIDE}{line}\n")
    with pytest.raises(GemelloError, match=words):
        description.read(folder / "h.yaml").read()


def test_a_variable_is_declared_once(folder: Path) -> None:
    (folder / "h.yaml").write_text(WIDE.replace("[age]", "[age, cd4]"))
    with pytest.raises(DataError, match="declared twice"):
        description.read(folder / "h.yaml")


def test_train_then_forecast(folder: Path) -> None:
    """A person's forecast is the same alone and among others, to the last bit."""
    run = lambda *a: CliRunner().invoke(commands.app, [*map(str, a)], obj=output, catch_exceptions=False)  # noqa: E731
    done = run("train", folder / "h.yaml", "-o", folder / "g.json", "--kind", "mixed", "--json")
    assert json.loads(done.stdout)["persons"] == 60
    ask = ("forecast", folder / "g.json", folder / "h.yaml", "--at", 20, "--draws", 50, "--json")
    every = json.loads(run(*ask).stdout)
    pl.read_csv(folder / "t.csv").filter(pl.col("id") == 7).write_csv(folder / "t.csv")
    (alone,) = json.loads(run(*ask).stdout)
    assert alone == next(r for r in every if r["person"] == "7")
    assert alone["low90"] < alone["median"] < alone["high90"]
    for known in ("nan", "30"):
        with pytest.raises(DataError, match="not a time after"):
            run(*ask, "--known", known)
