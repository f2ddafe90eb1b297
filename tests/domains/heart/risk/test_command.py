"""`gemello heart risk` as a command: what it prints, writes and refuses. The cell answers at once; the files are real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from tests.domains.heart.risk import common

from gemello.base.errors import DataError, GemelloError
from gemello.cli import output
from gemello.domains.heart.risk import command, report, solver
from gemello.domains.heart.risk.assess import Number
from gemello.domains.heart.risk.reference import Reference, reference, write

HEAD = "name,cmax [nM],INa_IC50 [uM],INa_h,INaL_IC50 [uM],INaL_h,ICaL_IC50 [uM],ICaL_h,hERG_Kmax,hERG_Ku [1/ms],hERG_n,"
MANY = f"""{HEAD}hERG_EC50 [nM],hERG_Vhalf [mV]
first,100,none,,100,1,200,1,100,0.01,1,1000,-50
second & <b>,100,none,,100,1,200,1,100,0.01,1,20,-50
third,-5,none,,100,1,200,1,100,0.01,1,20,-50
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(solver, "paced", common.paced)
    monkeypatch.setattr(solver, "sampled", common.paced)
    monkeypatch.setattr(solver, "traced", common.traced)
    Path("many.csv").write_text(MANY, encoding="utf-8")
    Path("one.csv").write_text("\n".join(MANY.splitlines()[:2]) + "\n", encoding="utf-8")
    return tmp_path


def call(*words: str) -> None:
    """The command as the command line runs it: `context.obj` is its output."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("risk")(command.risk)
    app.callback()(lambda: None)
    typer.main.get_command(app).main(["risk", *words], standalone_mode=False, obj=output)


def test_json_has_every_dose_and_the_rejected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("many.csv", "--json", "--seed", "3")
    out = capsys.readouterr()
    told = json.loads(out.out)
    first, second = told["compounds"]
    assert (first["compound"], first["class"], second["class"]) == ("first", "intermediate", "high")
    assert [d["x_cmax"] for d in first["doses"]] == [1, 2, 3, 4]
    assert all(d["qNet_C_per_F"] > 0 and d["APD90_ms"] > 290 for d in first["doses"])
    assert len(first["action_potentials"]["voltage_mV"]) == 5
    assert first["provenance"]["seed"] == 3
    assert sum(v["value"] for v in first["class_probabilities"].values()) == pytest.approx(1.0)
    assert [r[0] for r in told["rejected"]] == ["third"]
    assert "left out: third" in out.err
    assert not list(here.glob("*.html"))


def test_reports_of_many_go_into_a_folder_and_escape_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "reports").mkdir()
    call("many.csv", "--out", "reports")
    shown = capsys.readouterr().out
    pages = sorted((here / "reports").glob("*.html"))
    assert [p.name for p in pages] == ["first-risk.html", "second-b-risk.html"]
    assert all(str(p) in shown for p in pages)
    text = pages[1].read_text(encoding="utf-8")
    assert "second &amp; &lt;b&gt;" in text
    assert "<b>" not in text
    assert "High risk" in text
    assert "Early afterdepolarisations" in text
    assert "<script" not in text
    assert re.search(r"seed 0, 0 samples", text)


ONE = """name: XX-17
cmax: 100 nM
vintage: {vintage}
channels:
  INaL: {{ic50: 100 uM, hill: 1}}
  ICaL: {{data: block.csv}}
  INa: none
herg: {{Kmax: 100, Ku: 0.01 1/ms, n: 1, EC50: 500 nM, Vhalf: -50 mV}}
"""


def test_a_compound_in_yaml_with_a_raw_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fitted channel has an interval, and samples make one of the score; what was given as values has none."""
    pytest.importorskip("yaml")
    block = [f"{c},{100 * c / (c + 20) + noise}" for c in (1, 3, 10, 30, 100) for noise in (-3, 0, 3)]
    (here / "block.csv").write_text("\n".join(["concentration [uM],block [%]", *block]) + "\n", encoding="utf-8")
    (here / "xx.yaml").write_text(ONE.format(vintage="lab2020"), encoding="utf-8")
    call("xx.yaml", "--samples", "50")
    shown = capsys.readouterr().out
    assert shown.startswith("XX-17: Intermediate risk, probability ")
    assert "95 % interval" in shown
    text = (here / "xx-17-risk.html").read_text(encoding="utf-8")
    assert re.search(r"IC50 [\d.]+ \([\d.]+ to [\d.]+\) nM", text)
    assert "samples of a fit, xx.yaml" in text
    assert "values in xx.yaml, without uncertainty" in text
    assert re.search(r"hold the drug at the end of a beat</td><td[^>]*>17 %</td><td[^>]*>44 %</td>", text)  # 100/600, 400/900
    (here / "xx.yaml").write_text(ONE.format(vintage="validation2018"), encoding="utf-8")
    call("xx.yaml", "--json")  # judged by the thresholds of its own vintage, for which no classifier was published
    told = json.loads(capsys.readouterr().out)
    assert (told["vintage"], told["class_probabilities"]) == ("validation2018", None)
    with pytest.raises(DataError, match="belongs to vintage validation2018"):
        call("xx.yaml", "--vintage", "lab2020")


def test_a_compound_of_which_no_herg_data_are_given_has_no_class(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said to be measured and not blocked, it has one."""
    pytest.importorskip("yaml")
    text = "name: X\ncmax: 100 nM\nchannels: {INaL: {ic50: 10 uM, hill: 1}, INa: none, ICaL: none%s}\n"
    (here / "x.yaml").write_text(text % "", encoding="utf-8")
    with pytest.raises(DataError, match="drug X, column herg: nothing given on hERG") as e:
        call("x.yaml", "--json")
    assert e.value.exit_status == 2
    (here / "x.yaml").write_text(text % ", IKr: none", encoding="utf-8")
    call("x.yaml", "--json")
    assert json.loads(capsys.readouterr().out)["compound"] == "X"


def test_the_headline_names_both_classes_where_two_ways_disagree() -> None:
    part = (Number(0.02, 0.0), Number(0.48, 0.0), Number(0.50, 0.0))
    risk = cast(Any, SimpleNamespace(risk=1, probabilities=part))
    assert report.choice(risk) == "Intermediate or high risk, not settled: probabilities 48.0 % and 50.0 %"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("missing.csv",), "no such file"),
        (("one.csv", "--samples", "-1"), "--samples"),
        (("one.csv", "--vintage", "2019"), "no such vintage"),
        (("one.csv", "--vintage", "master2017"), "no thresholds"),
        (("one.csv", "--out", "nowhere"), "no such folder"),
        (("one.csv", "--seed", "-1"), "not a seed"),
    ],
)
def test_refusals(here: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(GemelloError, match=told) as e:
        call(*words)
    assert e.value.exit_status == 2
    assert "\n" not in str(e.value)


def test_a_file_of_nothing_usable_says_why(here: Path) -> None:
    lines = MANY.splitlines()
    Path("bad.csv").write_text("\n".join([lines[0], lines[3]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"positive concentration|above 0"):
        call("bad.csv")


def test_the_table_of_reference_drugs_comes_back_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Reference("x", 1, 0.061234, 0.0612, 0.055, 0.066, (0.1, 0.8, 0.1), 200)
    write(tmp_path / "reference_lab2020.csv", [row], "made for a test")
    monkeypatch.setattr("gemello.domains.heart.risk.reference.HERE", tmp_path)
    reference.cache_clear()
    try:
        assert reference() == (row,)
        assert reference("validation2018") == ()
    finally:
        reference.cache_clear()


def test_two_runs_of_one_seed_agree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Any] = []
    for _ in range(2):
        call("one.csv", "--json", "--seed", "5")
        told = json.loads(capsys.readouterr().out)
        told["compounds"][0]["provenance"].pop("created")
        shown.append(told)
    assert shown[0] == shown[1]


def test_compounds_of_two_vintages_are_refused_in_either_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the first row would decide whose thresholds hold."""
    head, first, second, _ = MANY.splitlines()
    for rows in ((f"lab2020,{first}", f"validation2018,{second}"), (f"validation2018,{second}", f",{first}")):
        Path("mixed.csv").write_text("\n".join([f"vintage,{head}", *rows]) + "\n", encoding="utf-8")
        with pytest.raises(DataError, match="compounds of lab2020 and validation2018"):
            call("mixed.csv", "--json")
    call("mixed.csv", "--json", "--vintage", "validation2018")
    assert [c["vintage"] for c in json.loads(capsys.readouterr().out)["compounds"]] == ["validation2018"] * 2


def test_one_that_cannot_be_solved_does_not_stop_the_others(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(model: Any, parameters: Any) -> dict[str, Any]:
        out = common.paced(model, parameters)
        return out | {"failed": parameters["halfmax"] == 20.0}

    monkeypatch.setattr(solver, "paced", failing)
    call("many.csv", "--json")
    told = json.loads(capsys.readouterr().out)
    assert [c["compound"] for c in told["compounds"]] == ["first"]
    assert [name for name, _ in told["rejected"]] == ["third", "second & <b>"]


def test_reports_of_names_that_differ_in_signs_only(here: Path) -> None:
    lines = MANY.splitlines()
    rows = [lines[1].replace("first", name) for name in ("a b", "a-b", "a-b 1", "薬", "../../a")]
    Path("like.csv").write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    call("like.csv")
    names = sorted(p.name for p in here.glob("*.html"))
    assert names == ["a-b-1-risk.html", "a-b-1-x-risk.html", "a-b-2-risk.html", "a-risk.html", "compound-risk.html"]
