"""`benchmark heart`: the form of its rows with and without the peer, at tiny sizes. No speed is asserted."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemello.base.reference import reference_data, rows
from gemello.cli.domains import CASE
from gemello.domains.heart import benchmark, peers_myokit
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.cells.torord.model import endo as torord

MORE = ("ours_first_call_s", "peer_first_call_s", "ours_error", "peer_error")


class FakeCells:
    """Answers as the peer does: APD90 with an error of 0.25 ms at its usual tolerance."""

    def __init__(self, file: Path, currents: tuple[str, ...], tolerance: float) -> None:
        self.currents, self.tolerance, self.closed, self.calls = currents, tolerance, False, 0

    def __call__(self, factors: np.ndarray, beats: int) -> None:
        assert factors.shape == (2, len(self.currents))
        self.calls += 1

    def apd90(self, factors: np.ndarray, beats: int, tolerance: float | None = None) -> np.ndarray:
        return np.full(len(factors), 270.0 if tolerance else 270.25)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[FakeCells]:
    """Myokit installed, and the fake in its place."""
    real, made = importlib.util.find_spec, []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object() if name == "myokit" else real(name, *a))
    monkeypatch.setattr(benchmark, "version", lambda name: "1.39")

    def make(*a: Any) -> FakeCells:
        made.append(FakeCells(*a))
        return made[-1]

    monkeypatch.setattr(peers_myokit, "Cells", make)
    return made


def test_population_beside_the_peer(fake: list[FakeCells], tmp_path: Path) -> None:
    found = list(benchmark.population(torord, tmp_path, cells=3, beats=1, theirs=2, runs=1))
    assert [r["bar"] for r in found] == [20.0, 10.0]
    for row, dtype in zip(found, ("float32", "float64"), strict=True):
        assert set(row) == {*CASE, *MORE}
        assert row["case"].startswith(f"torord_endo, 3 cells, 1 beats at 1 Hz, {dtype}, largest error of APD90 ")
        assert row["unit"] == "cell-beats/s"
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
        assert row["peer_version"] == "myokit 1.39, CVODES, tolerances 1e-06, 2 processes"
        assert 0.0 < row["ours_error"] < 0.5  # ms, the accuracy that the comparison is made at
        assert row["peer_error"] == 0.25
        assert row["ours_first_call_s"] > 0
        assert row["peer_first_call_s"] is not None
    (peer,) = fake
    assert peer.calls == 2
    assert peer.closed


def test_rows_say_what_is_missing(fake: list[FakeCells], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark, "_in_turn", lambda ours, peer, runs: (1.0, float("nan")))
    monkeypatch.setattr(benchmark, "BARS", {"float64": 10.0})

    def broken(*a: Any) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(peers_myokit, "Cells", broken)
    found = {}
    for what, folder in (("nothing compiles", tmp_path), ("no data", None)):
        (found[what],) = benchmark.population(torord, folder, cells=3, beats=1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    (found["not installed"],) = benchmark.population(torord, tmp_path, cells=3, beats=1)
    for row in found.values():
        assert row["ours"] == 3.0
        assert row["peer"] is None
        assert row["ratio"] is None
        assert row["peer_error"] is None
    assert found["nothing compiles"]["peer_version"] == "myokit does not run here; it needs SUNDIALS and a C compiler"
    assert "GEMELLO_DATA" in found["no data"]["peer_version"]
    assert "gemello[chi]" in found["not installed"]["peer_version"]


def test_panel_without_data() -> None:
    (row,) = benchmark.panel(None)
    assert set(row) == {*CASE, *MORE}
    assert row["ours"] is None
    assert "GEMELLO_DATA" in row["peer_version"]


def test_panel_of_two_drugs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two drugs at four doses, answered from the reference of 1,000 beats itself with one value 2e-4 C/F away: that is told."""
    folder = reference_data("heart")
    if folder is None:
        pytest.skip("no reference data of the heart")
    known = {(r["drug"], float(r["xCmax"])): float(r["qNet_C_per_F"]) for r in rows(folder / "cipa/qnet_reference_20drugs.csv")}
    table = np.array([[known[d, m] for m in benchmark.MULTIPLES] for d in ("azimilide", "bepridil")])
    table[1, 0] += 2e-4
    asked: list[dict[str, Any]] = []

    def answer(model: Any, parameters: dict[str, np.ndarray], **options: Any) -> Any:
        assert {v.shape for v in parameters.values()} == {(8,)}
        asked.append(options)
        return type("Answer", (), {"biomarkers": {"qnet": table.reshape(-1)}})

    monkeypatch.setattr(benchmark, "steady", answer)
    monkeypatch.setattr(benchmark, "pace", answer)
    fast, every = benchmark.panel(folder, drugs=("azimilide", "bepridil"), most=20, estimate=2, runs=1)
    assert [o.get("beats") for o in asked] == [20, 20, None, 2]
    assert {o["cycle_length"] for o in asked} == {2000.0}
    assert fast["bar"] == 1.0
    assert fast["ratio"] == pytest.approx(300.0 / fast["ours"])
    assert "2 drugs at 4 doses" in fast["case"]
    assert "qNet within 0.0002 C/F" in fast["case"]
    assert every["bar"] is None
    assert "estimated from 2" in every["case"]


def test_population_is_log_normal_and_the_same_for_both_sides() -> None:
    f = benchmark.factors(2000)
    assert f[:3] == pytest.approx(benchmark.factors(3))
    assert np.log(f).std() == pytest.approx(0.2, abs=0.006)  # 5 standard errors of 14,000 draws: false alarm 6e-7
    given = benchmark.overrides(cipa, f)
    assert given["GKr"] == pytest.approx(0.046 * 1.114 / 1.1 * f[:, benchmark.CURRENTS.index("IKr")])
    assert set(given) == {"GNa", "GNaL", "Gto", "PCa", "GKr", "GKs", "GK1"}


def test_duration_of_a_triangle() -> None:
    """A rise within one step at 10 ms, then a straight fall from 20 to −80 mV in 100 ms: 90 % after 90 ms."""
    t = np.arange(0.0, 200.0, 0.5)
    v = np.where(t < 10.0, -80.0, np.maximum(20.0 - (t - 10.0), -80.0))
    assert peers_myokit.duration90(v, 0.5) == pytest.approx(90.25, abs=0.01)  # the rise counts at its middle
    assert np.isnan(peers_myokit.duration90(np.linspace(-80.0, 20.0, 50), 0.5))  # never repolarises


def test_peer_s_cell_is_ours() -> None:
    """ToR-ORd by Myokit from its file: conductances of two cells scaled, APD90 of the second beat within 0.3 ms of ours."""
    folder = reference_data("heart")
    if folder is None:
        pytest.skip("no reference data of the heart")
    pytest.importorskip("myokit")
    f = benchmark.factors(2)
    cell = peers_myokit.Cell(folder / benchmark.FILES[torord], benchmark.CURRENTS, 1e-7)
    theirs = [cell.apd90(one, 2, None) for one in f]
    ours = benchmark.pace(torord, benchmark.overrides(torord, f), beats=2).biomarkers["apd90"]
    np.testing.assert_allclose(ours, theirs, atol=0.3)
    assert abs(theirs[0] - theirs[1]) > 5.0  # the scaling has been seen
    cell.run(f[0], 1)


def test_all_cases_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "population", lambda model, folder: iter([{"case": model.name}]))
    monkeypatch.setattr(benchmark, "panel", lambda folder: iter([{"case": "panel"}]))
    monkeypatch.setattr(
        benchmark.importlib, "import_module", lambda name: type("m", (), {"cases": lambda: iter([{"case": name}])})
    )
    assert [r["case"].rsplit(".", 1)[-1] for r in benchmark.cases()] == [
        "ohara_rudy_cipa",
        "torord_endo",
        "panel",
        "benchmark_tissue",
    ]
