"""`gemello simulate`: files in, files out, exact answers, draws that repeat, and nothing half written."""

from __future__ import annotations

import csv
import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import DATA, Result

Gemello = Callable[..., Result]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def test_predictions_at_every_record(gemello: Gemello, here: Path) -> None:
    done = gemello("simulate", "model.py:decay", "data.csv", "-o", "o.csv")
    assert done.status == 0, done.err
    assert done.out.startswith("4 records of 2 subjects, cp in mg/L, time in h, ")
    table = rows(here / "o.csv")
    assert [(r["ID"], float(r["TIME"]), r["EVID"]) for r in table] == [("1", 0, "1"), ("1", 1, "0"), ("2", 0, "1"), ("2", 2, "0")]
    expected = [10, 10 * math.exp(-0.5), 5, 5 * math.exp(-1)]
    np.testing.assert_allclose([float(r["cp"]) for r in table], expected, rtol=1e-12)
    assert sorted(p.name for p in here.iterdir()) == ["data.csv", "model.py", "o.csv"]


def test_values_and_columns_for_parameters(gemello: Gemello, here: Path) -> None:
    done = gemello("simulate", "model.py:decay", "data.csv", "--set", "k=KI", "--set", "V=5", "-o", here / "o.csv")
    assert done.status == 0, done.err
    cp = [float(r["cp"]) for r in rows(here / "o.csv")]
    np.testing.assert_allclose(cp, [20, 20 * math.exp(-0.5), 10, 10 * math.exp(-0.2)], rtol=1e-12)


def test_units_columns_and_method(gemello: Gemello, here: Path) -> None:
    (here / "data.csv").write_text("subj,t,EVID,AMT\n1,0,1,0.1\n1,60,0,0\n")
    done = gemello(
        "simulate", "model.py:decay", "data.csv", "--column", "ID=subj", "--column", "TIME=t",
        "--units", "t=min", "--units", "AMT=g",
        "--method", "tsit5", "--rtol", "1e-9", "-o", "o.csv",
    )  # fmt: skip
    assert done.status == 0, done.err
    table = rows(here / "o.csv")
    assert [float(r["TIME"]) for r in table] == [0, 1]
    np.testing.assert_allclose([float(r["cp"]) for r in table], [10, 10 * math.exp(-0.5)], rtol=1e-7)


def test_standard_output_and_json(gemello: Gemello, here: Path) -> None:
    plain = gemello("simulate", "model.py:decay", "data.csv")
    assert plain.out.splitlines()[0] == "ID,TIME,EVID,cp"
    assert len(plain.out.splitlines()) == 5
    assert "4 records of 2 subjects" in plain.err
    assert gemello("simulate", "model.py:decay", "data.csv", "-o", "-").out == plain.out
    said = json.loads(gemello("simulate", "model.py:decay", "data.csv", "--json").out)
    assert (said["model"], said["subjects"], said["records"], said["seed"], said["output"]) == ("decay", 2, 4, None, None)
    assert said["units"] == {"TIME": "h", "cp": "mg/L"}
    assert said["table"]["cp"][1] == pytest.approx(10 * math.exp(-0.5), rel=1e-12)
    assert said["provenance"]["model"] == "decay"
    assert said["provenance"]["data_hash"]
    assert any("no units given" in n for n in said["notes"])
    filed = json.loads(gemello("simulate", "model.py:decay", "data.csv", "--json", "-o", "o.csv").out)
    assert "table" not in filed
    assert Path(filed["output"]) == here / "o.csv"


def test_a_population_repeats_with_its_seed(gemello: Gemello, here: Path) -> None:
    lines = "".join(f"{i},0,1,100,.,1\n{i},2,0,0,.,1\n" for i in range(1, 401))
    (here / "many.csv").write_text(DATA.splitlines()[0] + "\n" + lines)
    runs = [
        gemello("simulate", "model.py:decay", "many.csv", "--population", "--seed", s, "-o", f"{k}.csv")
        for k, s in enumerate((7, 7, 8))
    ]
    assert [r.status for r in runs] == [0, 0, 0]
    assert "seed 7" in runs[0].out
    texts = [(here / f"{k}.csv").read_text() for k in range(3)]
    assert texts[0] == texts[1] != texts[2]
    table = rows(here / "0.csv")
    assert all(r["DV"] == "." for r in table[::2])
    cp, dv = (np.array([float(r[n]) for r in table[1::2]]) for n in ("cp", "DV"))
    eta = np.log(-np.log(cp / 10) / 2 / 0.5)  # k = 0.5 exp(eta)
    assert abs(eta.mean()) < 4 * 0.3 / 20  # 4 standard errors, 400 subjects
    assert abs(eta.std() / 0.3 - 1) < 4 / math.sqrt(800)
    assert abs((dv - cp).mean()) < 4 * 0.1 / 20
    assert abs((dv - cp).std() / 0.1 - 1) < 4 / math.sqrt(800)


def test_a_seed_is_made_and_told(gemello: Gemello, here: Path) -> None:
    first = json.loads(gemello("simulate", "model.py:decay", "data.csv", "--population", "--json").out)
    again = json.loads(gemello("simulate", "model.py:decay", "data.csv", "--population", "--json", "--seed", first["seed"]).out)
    assert first["table"] == again["table"]
    idle = gemello("simulate", "model.py:decay", "data.csv", "--seed", 1)
    assert idle.status == 0
    assert "note: nothing is drawn without --population" in idle.err


BAD = [
    (["no_model", "data.csv"], 2, "error: no model 'no_model'; "),
    (["model.py:dekay", "data.csv"], 2, "error: model 'model.py:dekay': model.py has no 'dekay'; did you mean decay"),
    (["model.py:decay", "no.csv"], 2, "error: no.csv: no such file"),
    (["model.py:decay", "."], 2, "error: .: is not a file"),
    (["model.py:decay", "data.csv", "-o", "."], 2, "error: {here}, column -o: is a folder"),
    (
        ["model.py:decay", "data.csv", "-o", "no/o.csv"],
        2,
        "error: {here}/no/o.csv, column -o: there is no folder {here}/no; make it first",
    ),
    (["model.py:decay", "data.csv", "-o", "data.csv"], 2, "error: {here}/data.csv, column -o: is the data set itself"),
    (["model.py:decay", "data.csv", "-o", "/dev/null"], 2, "error: /dev/null, column -o: is not an ordinary file"),
    (["model.py:decay", "data.csv", "-o", "x" * 300], 2, "error: {here}/xxx"),
    (["model.py:decay", "data.csv", "--set", "k"], 2, "error: column --set, value 'k': is not of the form NAME=VALUE"),
    (["model.py:decay", "data.csv", "--set", "k=1", "--set", "k=2"], 2, "error: column --set, value 'k=2': k is given twice"),
    (["model.py:decay", "data.csv", "--set", "k=inf"], 2, "error: column --set, value 'k=inf': is not a finite number"),
    (["model.py:decay", "data.csv", "--set", "k=-1"], 2, "error: parameter k, value -1 1/h: outside [0, inf]"),
    (["model.py:decay", "data.csv", "--set", "q=1"], 2, "error: no parameter 'q'"),
    (["model.py:decay", "data.csv", "--set", "k=KX"], 2, "error: data.csv, column KX: no such column"),
    (
        ["model.py:decay", "data.csv", "--units", "AMT=mg"],
        2,
        "error: data.csv, column TIME: its unit is not given; add its unit, TIME=h",
    ),
    (["model.py:decay", "data.csv", "--method", "euler"], 2, "error: model decay: method 'euler'"),
    (["model.py:decay", "data.csv", "--rtol", "2"], 2, "error: column --rtol, value '2.0': is not a relative tolerance"),
    (["model.py:decay", "data.csv", "--population", "--seed", "-1"], 2, "error: column seed, value '-1': not a seed"),
    (["model.py:decay", "data.csv", "--observed", "x=cp"], 2, "error: column --observed, value 'x'"),
    (["model.py:decay"], 2, "error: Missing argument 'DATA.csv'; see gemello simulate --help"),
    (["model.py:decay", "data.csv", "--rtol", "x"], 2, "error: Invalid value for '--rtol'"),
    (["model.py:decay", "data.csv", "--colour"], 2, "error: No such option"),
    (["model.py:lost", "data.csv"], 1, "error: model lost, subject 1, time "),
    (["model.py:broken", "data.csv"], 1, "bug: KeyError: "),
]


@pytest.mark.parametrize(("arguments", "status", "message"), BAD)
def test_bad_input_is_one_line(gemello: Gemello, here: Path, arguments: list[str], status: int, message: str) -> None:
    before = {p: p.read_bytes() for p in here.iterdir()}
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "o.csv"]
    done = gemello("simulate", *arguments)
    assert done.error().startswith("gemello: " + message.format(here=here))
    assert done.status == status
    assert done.out == ""
    assert {p: p.read_bytes() for p in here.iterdir() if p.name != "__pycache__"} == before


def test_a_bad_data_set_leaves_the_old_result(gemello: Gemello, here: Path) -> None:
    (here / "o.csv").write_text("old")
    (here / "data.csv").write_text(DATA.replace("1,1,0", "1,-1,0"))
    done = gemello("simulate", "model.py:decay", "data.csv", "-o", "o.csv")
    assert (done.status, done.out) == (2, "")
    assert done.error().startswith("gemello: error: data.csv, row 3, column TIME, value '-1': subject 1: time is negative; ")
    assert (here / "o.csv").read_text() == "old"


def test_a_result_replaces_the_old_one_through_a_link(gemello: Gemello, here: Path) -> None:
    (here / "real.csv").write_text("old")
    (here / "o.csv").symlink_to("real.csv")
    assert gemello("simulate", "model.py:decay", "data.csv", "-o", "o.csv").status == 0
    assert (here / "o.csv").is_symlink()
    assert (here / "real.csv").read_text().startswith("ID,TIME,EVID,cp")
    assert stat.S_IMODE((here / "real.csv").stat().st_mode) & 0o600 == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_one_may_not_write_to(gemello: Gemello, here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    done = gemello("simulate", "model.py:decay", "data.csv", "-o", "locked/o.csv")
    assert done.status == 2
    assert "cannot be written" in done.error()


def test_nonmem_s_dosing_designs(gemello: Gemello, here: Path, shared_data: Path) -> None:
    """29 designs (lags, infusions, modelled durations, steady states, resets); NONMEM's table has 5 significant digits."""
    folder = shared_data / "pharmacology" / "nmtests"
    sets = [f"--set={s}" for s in ("CL=1.1", "V=20", "KA=1.5", "ALAG2=LAGT", "F2=BIOAV", "D2=DUR2")]
    done = gemello("simulate", "pk1_oral", folder / "dosing_data_1001.csv", *sets, "-o", "o.csv")
    assert done.status == 0, done.err
    ours, theirs = rows(here / "o.csv"), rows(folder / "dosing_results_1001-nm.csv")
    assert [(r["ID"], float(r["TIME"])) for r in ours] == [(r["ID"], float(r["TIME"])) for r in theirs]
    cp, ref = np.array([1000 * float(r["cp"]) for r in ours]), np.array([float(r["CP"]) for r in theirs])
    np.testing.assert_allclose(cp, ref, rtol=1e-4, atol=1e-4 * ref.max() * 1e-3)
