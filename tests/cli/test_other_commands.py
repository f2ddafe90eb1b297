"""The command line itself, `models`, and the commands that ask a domain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.conftest import Result
from typer.testing import CliRunner

from gemello.base.errors import SolverError
from gemello.base.version import __version__
from gemello.cli.main import app
from gemello.model import registry

Gemello = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real process, which sees this tree."""
    return subprocess.run(
        [sys.executable, "-m", "gemello.cli.main", *arguments],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
    )  # fmt: skip


# ---- the front ----------------------------------------------------------------------------------------------------------
def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in ("models", "simulate", "validate", "benchmark", "demo"):
        assert name in result.output
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_no_command_shows_help_and_version_is_the_packages(gemello: Gemello) -> None:
    assert "Usage" in gemello().out
    assert gemello().status == 0
    assert gemello("--version").out == f"gemello {__version__}\n"


def test_an_unknown_command(gemello: Gemello) -> None:
    done = gemello("simulat")
    assert done.status == 2
    assert done.error().startswith("gemello: error: No such command 'simulat'")


def test_a_real_process(tmp_path: Path) -> None:
    done = shell("simulate", "pk1_iv", str(tmp_path / "no.csv"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"gemello: error: {tmp_path}/no.csv: no such file; check the path\n"
    traced = shell("simulate", "pk1_iv", str(tmp_path / "no.csv"), GEMELLO_DEBUG="1")
    assert "Traceback" in traced.stderr
    assert traced.returncode == 2


def test_a_reader_that_goes_away_is_no_bug(here: Path) -> None:
    rows = "".join(f"1,{i},0,0\n" for i in range(1, 20_000))
    (here / "long.csv").write_text("ID,TIME,EVID,AMT\n1,0,1,1\n" + rows)
    command = f"{sys.executable} -m gemello.cli.main simulate pk1_iv long.csv | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "ID,TIME,EVID,cp,auc\n"
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


# ---- models -------------------------------------------------------------------------------------------------------------
def test_models_are_listed(gemello: Gemello) -> None:
    listed = json.loads(gemello("models", "--json").out)
    assert [m["name"] for m in listed] == registry.models()
    one = next(m for m in listed if m["name"] == "pk1_oral")
    assert one["question"]
    assert {"name": "cp", "unit": "mg/L", "measured": True} in one["outputs"]
    assert {p["name"] for p in one["parameters"]} >= {"CL", "V", "KA"}
    table = gemello("models")
    assert table.status == 0
    assert all(name in table.out for name in registry.models())


def test_one_model_is_shown(gemello: Gemello, here: Path) -> None:
    shown = gemello("models", "vancomycin_goti2018").out
    for word in ("CLCREAT (mL/min", "cp (mg/L)", "lognormal, variance", "Known failures", "1 central (mg, dose)"):
        assert word in shown
    own = json.loads(gemello("models", "model.py:decay", "--json").out)
    assert (own["name"], own["question"], own["method"]) == ("model.py:decay", "", "expm")
    assert gemello("models", "nothing").error().startswith("gemello: error: no model 'nothing'")


def test_a_broken_model_does_not_hide_the_others(gemello: Gemello) -> None:
    registry._registered["a_broken_one"] = "no.such:m"
    try:
        listed = json.loads(gemello("models", "--json").out)
    finally:
        del registry._registered["a_broken_one"]
    assert "could not be imported" in listed[0]["error"]
    assert len(listed) == len(registry.models()) + 1


# ---- domains ------------------------------------------------------------------------------------------------------------
def check(name: str, passed: bool) -> dict[str, Any]:
    return {"check": name, "value": 1.25, "reference": 1.0, "tolerance": "5 %", "source": "NONMEM 7.5", "passed": passed}


def case(**change: Any) -> dict[str, Any]:
    return {
        "case": "rich",
        "ours": 2.0,
        "peer": "RK4",
        "peer_version": "1",
        "unit": "subjects/s",
        "ratio": 2.0,
        "bar": 1.0,
    } | change


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A domain `toy` whose parts the test sets."""

    def demo(output: Path | None, seed: int, progress: Callable[[str], None]) -> tuple[Path, tuple[str, ...]]:
        progress("step")
        return Path("report.html"), (f"the end, seed {seed}",)

    parts = SimpleNamespace(checks=[check("one", True)], cases=[case()], demo=demo)
    modules = {
        "validate": SimpleNamespace(checks=lambda: iter(parts.checks)),
        "benchmark": SimpleNamespace(cases=lambda: iter(parts.cases)),
        "demo": SimpleNamespace(run=parts.demo),
    }
    real = registry.domain
    monkeypatch.setattr(registry, "domain", lambda name, part="": modules[part] if name == "toy" else real(name, part))
    return parts


def test_validate_prints_its_checks_and_fails_with_them(gemello: Gemello, toy: SimpleNamespace) -> None:
    good = gemello("validate", "toy", "--json")
    assert (good.status, json.loads(good.out)) == (0, toy.checks)
    assert "1 of 1 checks passed" in gemello("validate", "toy").out
    toy.checks = [check("one", True), check("two", False) | {"value": float("nan")}]
    bad = gemello("validate", "toy", "--json")
    assert bad.status == 1
    assert json.loads(bad.out)[1]["value"] is None  # JSON has no NaN
    assert "Validating toy: 2 done, last two" in bad.err
    table = gemello("validate", "toy")
    assert table.status == 1
    assert "1 of 2 checks passed; failed: two" in table.out


def test_checks_that_could_not_be_run_are_counted_apart(gemello: Gemello, toy: SimpleNamespace) -> None:
    lost = [check(f"{name}: not run", False) | {"source": "no reference data; set X", "ran": False} for name in ("two", "three")]
    toy.checks = iter([check("one", True), *lost])
    done = gemello("validate", "toy")
    assert done.status == 1
    assert done.out.rstrip().endswith("1 of 1 checks passed\n2 not run: no reference data; set X")


@pytest.mark.parametrize(("raised", "told"), [(SolverError("no solution"), "no solution"), (KeyboardInterrupt(), "interrupted")])
def test_a_check_that_raises_is_a_failed_check(gemello: Gemello, toy: SimpleNamespace, raised: BaseException, told: str) -> None:
    def stops() -> Iterator[dict[str, Any]]:
        yield check("one", True)
        raise raised

    toy.checks = stops()
    done = gemello("validate", "toy", "--json")
    one, two = json.loads(done.out)
    assert done.status == 1
    assert one["passed"]
    assert (two["check"], two["source"], two["passed"]) == ("stopped after: one", told, False)


def test_benchmark_prints_its_cases(gemello: Gemello, toy: SimpleNamespace) -> None:
    assert json.loads(gemello("benchmark", "toy", "--json").out) == toy.cases
    assert "subjects/s" in gemello("benchmark", "toy").out
    del toy.cases[0]["bar"]
    done = gemello("benchmark", "toy", "--json")
    assert (done.status, done.out) == (2, "")
    assert "row 1 has no bar" in done.error()
    toy.cases = []
    assert "nothing came back" in gemello("benchmark", "toy").error()


def test_demo_reports_steps_and_prints_its_text(gemello: Gemello, toy: SimpleNamespace) -> None:
    done = gemello("demo", "toy", "--seed", "3")
    assert (done.status, done.out) == (0, f"the end, seed 3\nReport: {Path('report.html').resolve()}\n")
    assert "step" in done.err


@pytest.mark.parametrize("command", ["validate", "benchmark", "demo"])
def test_an_unknown_domain(gemello: Gemello, command: str) -> None:
    done = gemello(command, "pharmacolgy")
    assert (done.status, done.out) == (2, "")
    assert done.error() == "gemello: error: no domain 'pharmacolgy'; did you mean pharmacology?"
