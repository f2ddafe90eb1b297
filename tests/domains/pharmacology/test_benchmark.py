"""`benchmark`: the form of its rows with and without peers, at tiny sizes. No speed is asserted."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from gemello.cli.domains import CASE
from gemello.domains.pharmacology import benchmark, benchmark_fits, peers
from gemello.model import registry
from gemello.model.schedule import Schedule
from gemello.model.simulate import simulate

MORE = ("ours_first_call_s", "peer_first_call_s", "ours_error", "peer_error")


def well_formed(row: dict[str, Any], subjects: int) -> None:
    assert set(row) == {*CASE, *MORE}
    assert f"{subjects} subjects" in row["case"]
    assert row["unit"] == "subjects/s"
    assert row["ours"] > 0
    assert row["ours_first_call_s"] > 0
    assert row["bar"] is None or row["bar"] > 0
    if row["peer"] is None:
        assert row["ratio"] is None
        assert row["peer_error"] is None
    else:
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no peer were installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in ("diffrax", "roadrunner") else real(name, *a)
    )


@pytest.mark.usefixtures("alone")
def test_two_compartments_without_diffrax() -> None:
    closed, stepped = benchmark.two_compartments(subjects=3)
    for row in (closed, stepped):
        well_formed(row, 3)
    assert closed["peer_version"] == f"NumPy closed form {np.__version__}"
    assert closed["peer_error"] < 1e-9  # NumPy's closed form is right
    assert stepped["peer"] is None
    assert stepped["peer_version"] == "diffrax is not installed; pip install 'gemello[bench]'"
    assert closed["ours_error"] == 0.0
    assert stepped["ours_error"] < 1e-5


@pytest.mark.usefixtures("alone")
def test_target_mediated_without_peers() -> None:
    rows = list(benchmark.target_mediated(subjects=3))
    for row, package in zip(rows, ("libroadrunner", "diffrax"), strict=True):
        well_formed(row, 3)
        assert row["peer_version"] == f"{package} is not installed; pip install 'gemello[bench]'"
        assert row["ours_error"] < 1e-5


def test_numpy_s_closed_form_at_other_times() -> None:
    """Between doses and after the last one, beside our own."""
    p = {k: np.array([v, 1.3 * v]) for k, v in {"KA": 1.1, "CL": 5.0, "V1": 30.0, "Q": 4.0, "V2": 60.0}.items()}
    times = np.array([0.0, 1.0, 11.5, 12.0, 20.0, 30.0, 90.0])
    got = peers.numpy_closed_form(p, 80.0, 12.0, 3, times)
    plan = Schedule().dose(0.0, 80.0, every=12.0, times=3)
    plan = Schedule.of(times).merge(plan)
    ours = simulate(registry.get("pk2_oral"), plan, p).outputs["cp"][:, plan.evid == 0]
    np.testing.assert_allclose(got, ours, rtol=1e-9, atol=1e-12)


def test_all_cases_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("two_compartments", "target_mediated"):
        monkeypatch.setattr(benchmark, name, lambda name=name: iter([{"case": name}]))
    monkeypatch.setattr(benchmark.benchmark_fits, "cases", lambda: iter([{"case": "fits"}]))
    assert [r["case"] for r in benchmark.cases()] == ["two_compartments", "target_mediated", "fits"]


def test_rows_of_limits_and_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small batch: the rows have the stated form, and say that more than nothing was done a second."""
    rows = list(benchmark_fits.individuals(batch=8, alone=2))
    assert [r["bar"] for r in rows] == [1.0, 1.0]
    assert [r["peer"] for r in rows] == [50.0, 1000.0]
    assert all(r["ratio"] == pytest.approx(r["ours"] / r["peer"]) for r in rows)
    monkeypatch.setattr(benchmark_fits, "_chi", lambda times: None)
    (row,) = benchmark_fits.virtual_patients(ours=20)
    assert row["ratio"] is None
    assert row["ours"] > 0
    assert "gemello[chi]" in row["peer_version"]
    limit = benchmark_fits._limit("x", lambda: None, 3.0, "asked")
    assert limit["ratio"] == pytest.approx(3.0 / limit["ours"])
