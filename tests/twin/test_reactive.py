"""Reactive dosing, stated against realised attainment, and what would change a decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.inference.gaussian import SD, exact, line, observed

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.model import registry
from gemello.model.population import PopulationParameters
from gemello.model.schedule import OTHER, Schedule, Subject
from gemello.model.simulate import simulate
from gemello.twin.calibration import against, attainment
from gemello.twin.goals import Target, auc24
from gemello.twin.reactive import Course, Policy, reactive
from gemello.twin.regimens import Grid
from gemello.twin.sensitivity import next_level, reconsider, renal_changes, with_last_level
from gemello.twin.twin import Twin

VANCOMYCIN = registry.get("vancomycin_goti2018")
TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.4, -0.3])
GOAL = auc24("auc", (24.0, 48.0), low=400.0, high=600.0)
POLICY = Policy([0.0, 48.0, 96.0], Grid((500.0, 1000.0, 1500.0), (12.0, 24.0), (2.0,)), GOAL, levels=(0.5, 10.0))
FALLING = 100.0 * np.array([1.0, 0.6, 0.3])


# ---- attainment ----------------------------------------------------------------------------------------------------
def test_stated_probabilities_come_true() -> None:
    """The straight line, whose posterior is exact: 1,000 patients, false alarm rate 1e-4 (3.9 binomial errors)."""
    schedule = observed(np.array([1.0, 3.0]), np.zeros(2)).schedule
    goal = Target("level", "at", 10.0, low=-4.0, high=-2.0)
    population = PopulationParameters.of(line)
    found = attainment(
        line, population, schedule, goal, Grid([0.0, 2.0, 4.0], [5.0], start=4.0), patients=1000, draws=300, seed=1
    )
    assert found.overall.number + found.doubts == 1000
    assert abs(found.overall.stated - found.overall.realised) < 3.9 * found.overall.error + 0.005
    assert sum(b.number for b in found.bins) == found.overall.number
    assert all(a.high <= b.low for a, b in zip(found.bins, found.bins[1:], strict=False))


def test_stated_against_realised_by_hand() -> None:
    b = against(np.array([0.2, 0.4, 0.9]), np.array([False, True, True]))
    assert (b.low, b.high, b.number) == (0.2, 0.9, 3)
    assert (b.stated, b.realised) == (pytest.approx(0.5), pytest.approx(2 / 3))
    assert b.error == pytest.approx(np.sqrt(0.16 + 0.24 + 0.09) / 3)


# ---- courses -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def courses() -> tuple[Course, Course]:
    """Forty patients whose renal function falls to a third within four days; with and without a new look."""
    cov = {"CLCREAT": np.tile(FALLING, (40, 1)), "WT": 70.0, "DIAL": 0.0}
    return tuple(
        reactive(VANCOMYCIN, replace(POLICY, reconsider=r), 40, covariates=cov, draws=500, seed=2) for r in (True, False)
    )  # type: ignore[return-value]


def test_a_falling_renal_function_is_followed(courses: tuple[Course, Course]) -> None:
    """Re-dosed, far more reach the goal at the end than on the first dose; doses follow the clearance."""
    new, same = courses
    last = [float(np.mean(c.realised[:, -1])) for c in courses]
    assert last[0] > last[1] + 0.3  # 40 patients: over 3 standard errors of the difference
    daily = new.dose * 24.0 / new.interval
    assert np.median(daily[:, 2]) < 0.6 * np.median(daily[:, 0])
    np.testing.assert_array_equal(same.dose[:, 2], same.dose[:, 0])
    np.testing.assert_array_equal(new.dose[:, 0], same.dose[:, 0])
    np.testing.assert_array_equal(new.realised[:, 0], same.realised[:, 0])


def test_the_truth_of_a_course_by_simulation(courses: tuple[Course, Course]) -> None:
    """One patient's true area from an independent run: the doses given, its own etas, covariates carried backward."""
    c = courses[0]
    omega = PopulationParameters.of(VANCOMYCIN).omega
    true = generator(2, "etas").standard_normal((40, 3)) @ np.linalg.cholesky(omega).T
    plan = Schedule.of(0.0, evid=OTHER)
    for k, t in enumerate(POLICY.visits):
        plan = plan.dose(t, c.dose[0, k], duration=2.0, every=c.interval[0, k], times=int(48.0 / c.interval[0, k]))
    looks = plan.observe([24.0, 48.0, 72.0, 96.0, 120.0, 144.0]).covariates(CLCREAT=FALLING[0], WT=70.0, DIAL=0.0)
    looks = looks.change(48.0, CLCREAT=FALLING[1]).change(96.0, CLCREAT=FALLING[2])
    found = simulate(VANCOMYCIN, [Subject("1", looks)], etas=true[:1]).outputs["auc"][0]
    at = [found[np.searchsorted(looks.time, t)] for t in (24.0, 48.0, 72.0, 96.0, 120.0, 144.0)]
    np.testing.assert_allclose(c.values[0], np.diff(at)[::2], rtol=1e-6)
    np.testing.assert_array_equal(c.realised[0], (c.values[0] >= 400.0) & (c.values[0] <= 600.0))
    assert c.twins[0].posterior.observations == 4


def test_tables_and_plot_data(courses: tuple[Course, Course]) -> None:
    c = courses[0]
    table = c.table()
    assert table["time"].to_list() == [0.0, 48.0, 96.0]
    np.testing.assert_allclose(table["attained"], c.realised.mean(axis=0))
    assert c.patients().height == 120
    time, bands = c.bands()
    assert bands.shape == (5, len(time))
    assert np.all(np.diff(bands, axis=0) >= 0)
    b = c.calibration(0)
    assert b.number == 40
    assert b.stated == pytest.approx(float(np.mean(c.stated[:, 0])))


def test_impossible_policies_are_named() -> None:
    for change, words in (
        ({"visits": [0.0, 0.0]}, "visits"),
        ({"visits": []}, "visits"),
        ({"until": 90.0}, "until"),
        ({"levels": (60.0,)}, "levels outside"),
    ):
        with pytest.raises(DataError, match=words):
            replace(POLICY, **change)
    with pytest.raises(DataError, match="does not fit the patients"):
        reactive(VANCOMYCIN, POLICY, 4, covariates={"CLCREAT": np.ones(3), "WT": 70.0, "DIAL": 0.0}, draws=100)


# ---- what would change a decision ----------------------------------------------------------------------------------
def test_the_most_telling_level_by_linear_regression() -> None:
    """Share of var(level at 20 h) that a level at t removes: (x'C z)²/((x'C x + sd²)(z'C z)), exactly."""
    twin = Twin.new(line, covariates={"WT": 70.0}).assimilate(observed(TIMES, VALUES).schedule, draws=20_000)
    times = np.array([6.0, 9.0, 12.0, 16.0])
    found = next_level(twin, Schedule().dose(5.5, 1.0), Target("level", "at", 20.0, low=0.0), times)
    _, c, _ = exact(TIMES, VALUES)
    z = np.array([1.0, 20.0])
    x = np.stack([np.ones(4), times], axis=1)
    expected = (x @ c @ z) ** 2 / ((np.einsum("ti,ij,tj->t", x, c, x) + SD**2) * (z @ c @ z))
    np.testing.assert_allclose(found.gain, expected, atol=0.02)
    assert found.best == 16.0
    assert found.output == "level"


def test_reconsidered_with_other_information() -> None:
    data = Schedule().dose(0, 1000, duration=1).observe(11.5, 12.0).dose(12, 1000, duration=1).observe(23.5, 16.0)
    cov = {"CLCREAT": 80.0, "WT": 70.0, "DIAL": 0.0}
    twin = Twin.new(VANCOMYCIN, covariates=cov).assimilate(data, draws=500)
    goal, grid = auc24("auc", (48.0, 72.0), low=400.0, high=600.0), Grid([500.0, 1000.0], [12.0], (2.0,), start=24.0)
    decision = twin.optimise(goal, grid, least_probability=0.0)
    found = reconsider(twin, goal, grid, decision, least_probability=0.0)
    assert list(found) == [
        "as known", "renal function 30 % lower (CLCREAT 56)", "renal function 30 % higher (CLCREAT 104)",
        "last level 20 % lower (12.8)", "last level 20 % higher (19.2)",
    ]  # fmt: skip
    median = [d.table[1].expected[0].median for d in found.values()]
    assert median[1] > median[0] > median[2]
    assert median[3] < median[0] < median[4]
    assert renal_changes(twin, 0.5) == {"CLCREAT": 40.0}
    same = with_last_level(twin, 1.0)
    np.testing.assert_allclose(same.posterior.mode, twin.posterior.mode, atol=1e-7)
    with pytest.raises(DataError, match="no level to change"):
        with_last_level(Twin.new(VANCOMYCIN, covariates=cov), 1.2)
