"""Decisions against closed forms, posologyr's doses for vancomycin, and every reason to refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.inference.gaussian import A, B, exact, line, observed

from gemello.base.errors import DataError, DomainError, ModelError, RefusalError
from gemello.model.registry import get
from gemello.model.schedule import Schedule
from gemello.twin.goals import Constraint, Target
from gemello.twin.regimens import Grid, Regimen
from gemello.twin.twin import Twin

TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.4, -0.3])
MEAN, COVARIANCE, _ = exact(TIMES, VALUES)


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin.new(line, covariates={"WT": 70.0}).assimilate(observed(TIMES, VALUES).schedule, draws=4000, seed=2)


def level(at: float) -> tuple[float, float]:
    x = np.array([1.0, at])
    return float(A + B * at + x @ MEAN), float(np.sqrt(x @ COVARIANCE @ x))


# ---- statistics ----------------------------------------------------------------------------------------------------
PLAN = Schedule().dose(0.0, 1.0).dose(2.0, 1.0, duration=1.0)
CLOCK = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0])  # an observation, then the dose, at 0 and at 2
COURSE = np.array([[9.0, 4.0, 2.0, 1.0, 5.0, 8.0, 3.0]])


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (Target("level", "at", 2.0), 1.0),
        (Target("level", "increment", (1.0, 4.0)), 1.0),
        (Target("level", "increment", (1.0, 4.0), per=6.0), 2.0),
        (Target("level", "max", (0.0, 4.0)), 8.0),  # 9 lies before the dose at 0
        (Target("level", "min", (0.0, 4.0)), 1.0),
        (Target("level", "min", (2.0, 4.0)), 3.0),  # after the dose at 2
        (Target("level", "trough", (0.0, 4.0)), 1.0),
        (Target("level", "trough", (2.0, 4.0)), 3.0),
        (Target("level", "mean", (0.0, 4.0)), (3.0 + 1.5 + 0.0 + 6.5 + 5.5) / 4),
        (Target("level", "area", (0.0, 4.0), per=8.0, scale=0.5), 3.0 + 1.5 + 0.0 + 6.5 + 5.5),
        (
            Target("level", "fraction", (0.0, 4.0), within=(2.0, 6.0)),  # 4 to 2; 5 to 6 of 5 to 8; 6 to 3 of 8 to 3, exponential
            (1.0 + np.log(6 / 5) / np.log(8 / 5) + np.log(6 / 3) / np.log(8 / 3)) / 4,
        ),
    ],
)
def test_statistics_by_hand(target: Target, value: float) -> None:
    assert target.evaluate(CLOCK, COURSE, PLAN)[0] == pytest.approx(value)


def test_times_include_every_event() -> None:
    plan = Schedule().dose(1.0, 6.0, duration=0.3, every=5.0, times=3)
    times = Target("level", "max", (0.0, 12.0), points=5).times(plan)
    np.testing.assert_allclose(times, [0, 1, 1.3, 3, 6, 6.3, 9, 11, 11.3, 12])
    np.testing.assert_allclose(Target("level", "trough", (1.0, 12.0)).times(plan), [1, 6, 11, 12])


def test_a_regimen_writes_its_doses_out() -> None:
    r = Regimen(100.0, 8.1, 4, 24.3, 2.0, loading=250.0)
    s = r.schedule()
    assert s.time.tolist() == [24.3, 32.4, 40.5, 48.6]
    assert s.amount.tolist() == [250.0, 100.0, 100.0, 100.0]
    np.testing.assert_allclose(s.amount / s.rate, 2.0)
    assert r.total == 550.0
    assert [g.number for g in Grid([1.0], [8.0, 10.0, 24.0], start=0.0).regimens(5.0, 24.0)] == [3, 3, 1]


# ---- decisions -----------------------------------------------------------------------------------------------------
def test_probabilities_and_choice_agree_with_the_closed_form(twin: Twin) -> None:
    """Level at 10 h between 3 and 5 after one dose: a normal probability; within 4 of the stated Monte Carlo errors."""
    goal = Target("level", "at", 10.0, low=3.0, high=5.0)
    doses = np.arange(0.0, 15.0, 0.5)
    decision = twin.optimise(goal, Grid(doses, [5.0], start=6.0, until=10.0))
    mean, sd = level(10.0)
    expected = stats.norm.cdf(5.0, mean + doses, sd) - stats.norm.cdf(3.0, mean + doses, sd)
    got = np.array([a.probability for a in decision.table])
    error = np.array([a.error for a in decision.table])
    assert np.all(np.abs(got - expected) <= 4 * error + 1e-3)
    assert decision.refused is None
    assert decision.chosen is not None
    regimen = decision.chosen.candidate.regimen
    assert regimen is not None
    assert abs(regimen.dose - doses[np.argmax(expected)]) <= 0.5
    first = decision.table[0].expected[0]
    assert first.mean == pytest.approx(mean, abs=0.05)
    assert first.high - first.low == pytest.approx(2 * stats.norm.ppf(0.95) * sd, rel=0.06)
    assert decision.schedule.amount[0] == regimen.dose
    assert decision.frame().height == len(doses)
    assert decision.frame()["chosen"].sum() == 1
    assert decision.goals == ("level at 10 h at least 3 and at most 5 mg",)
    assert decision.provenance.seed == 2


def test_constraints_are_kept(twin: Twin) -> None:
    """Level below 5.5 at 7 h with 95 %: the largest dose is 5.5 − mean − 1.645 sd, the probability wanted lies above it."""
    goal = Target("level", "at", 10.0, low=4.0)
    doses = np.arange(0.0, 12.0, 0.1)
    limit = Constraint(Target("level", "at", 7.0, high=5.5), 0.05)
    decision = twin.optimise(goal, Grid(doses, [5.0], start=6.0, until=10.0), constraints=[limit], least_probability=0.0)
    mean, sd = level(7.0)
    assert decision.chosen is not None
    assert decision.chosen.candidate.total == pytest.approx(5.5 - mean - stats.norm.ppf(0.95) * sd, abs=0.15)
    assert all(a.feasible == (a.risks[0].probability <= 0.05) for a in decision.table)
    free = twin.optimise(goal, Grid(doses, [5.0], start=6.0, until=10.0))
    assert free.chosen is not None
    assert free.chosen.candidate.total > decision.chosen.candidate.total


def test_equal_probabilities_take_the_least_in_all(twin: Twin) -> None:
    goal = Target("level", "at", 10.0, high=100.0)
    decision = twin.optimise(goal, {"more": Schedule().dose(6.0, 2.0), "less": Schedule().dose(6.0, 1.0)})
    assert decision.chosen is not None
    assert decision.chosen.candidate.label == "less"


def test_goals_together(twin: Twin) -> None:
    """Both at once is never more probable than one; of the same event, exactly as probable."""
    goal, early = Target("level", "at", 10.0, low=3.0), Target("area", "increment", (0.0, 4.0), low=8.0)
    grid = Grid([3.0, 6.0, 9.0], [5.0], start=6.0, until=10.0)
    one, both, twice = (twin.optimise(g, grid, least_probability=0.0).table for g in (goal, [goal, early], [goal, goal]))
    for a, b, c in zip(one, both, twice, strict=True):
        assert b.probability <= a.probability
        assert c.probability == a.probability
    spread = np.sqrt(COVARIANCE[0, 0])
    p = 1 - stats.norm.cdf(2.0, A + MEAN[0], spread)
    assert twin.optimise(early, grid, least_probability=0.0).table[0].probability == pytest.approx(p, abs=0.04)


def test_many_candidates_in_batches(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    goal, grid = Target("level", "at", 10.0, low=3.0), Grid(np.arange(1.0, 8.0), [1.0, 5.0], start=6.0)
    whole = twin.optimise(goal, grid, least_probability=0.0)
    monkeypatch.setattr("gemello.twin.assess.MEMORY", 2**20)
    parts = twin.optimise(goal, grid, least_probability=0.0)
    assert [a.probability for a in whole.table] == [a.probability for a in parts.table]


# ---- refusals ------------------------------------------------------------------------------------------------------
GOAL = Target("level", "at", 10.0, low=3.0, high=5.0)
GRID = Grid([0.0, 1.0], [5.0], start=6.0, until=10.0)


def test_a_goal_out_of_reach_is_refused(twin: Twin) -> None:
    decision = twin.optimise(GOAL, GRID)
    assert decision.chosen is None
    assert decision.refused is not None
    assert "the best candidate, 1 mg every 5 h, meets the goal with probability 0.0" in decision.refused
    with pytest.raises(RefusalError, match="subject 1: the best candidate"):
        _ = decision.schedule
    with pytest.raises(RefusalError, match=r"below 0.5"):
        twin.optimise(GOAL, GRID, raise_refusal=True)


def test_constraints_that_cannot_be_kept_are_named(twin: Twin) -> None:
    decision = twin.optimise(GOAL, GRID, constraints=[Constraint(Target("level", "at", 9.0, low=50.0), 0.2)])
    assert decision.refused is not None
    assert "none of 2 candidates keeps the constraints" in decision.refused
    assert "level at 9 h at least 50 mg' with probability 1.00 (limit 0.2)" in decision.refused


@pytest.mark.parametrize(("change", "words"), [({"khat": 0.9}, "k-hat 0.90"), ({"ess": 40.0}, "only 40 effective draws")])
def test_a_posterior_in_doubt_decides_nothing(twin: Twin, change: dict[str, float], words: str) -> None:
    doubtful = replace(twin, posterior=replace(twin.posterior, **change))
    decision = doubtful.optimise(GOAL, GRID, least_probability=0.0)
    assert decision.refused is not None
    assert words in decision.refused
    assert decision.table == ()


def test_a_subject_outside_the_population_needs_an_override() -> None:
    heavy = Twin.new(line, covariates={"WT": 130.0})
    with pytest.raises(DomainError, match=r"WT 130 kg is outside \[40, 120\]"):
        heavy.optimise(GOAL, GRID)
    with pytest.raises(DomainError, match="WT 130"):
        heavy.solve_dose(GOAL, 3.0, Regimen(1.0, 5.0, 1, 6.0))
    decision = heavy.optimise(GOAL, GRID, override_domain=True, least_probability=0.0)
    assert decision.overridden
    assert decision.outside == ("WT 130 kg is outside [40, 120]",)
    assert heavy.solve_dose(GOAL, 3.0, Regimen(1.0, 5.0, 1, 6.0), override_domain=True).outside == decision.outside


# ---- a dose for a value --------------------------------------------------------------------------------------------
def test_the_dose_that_lifts_the_level(twin: Twin) -> None:
    """3 − level at the mode, exactly."""
    got = twin.solve_dose(Target("level", "at", 10.0), 3.0, Regimen(1.0, 5.0, 1, 6.0))
    assert got.dose == pytest.approx(3.0 - level(10.0)[0], abs=1e-6)
    assert got.reached == pytest.approx(3.0, abs=1e-6)
    with pytest.raises(RefusalError, match="no dose from 0 to 2 brings level at 10 h to 3"):
        twin.solve_dose(Target("level", "at", 10.0), 3.0, Regimen(1.0, 5.0, 1, 6.0), bounds=(0.0, 2.0))


def test_vancomycin_patient_b() -> None:
    """posologyr: next dose over 2 h at 48 h for AUC48-72 = 400 mg·h/L 1411 mg; maintenance every 24 h 1200 mg; each to 1 %."""
    twin = Twin.new(get("vancomycin_goti2018"), covariates={"CLCREAT": 65.0, "WT": 70.0, "DIAL": 0.0}, id="B")
    data = Schedule().dose(0.0, 2000.0, duration=2.0).observe(13.0, 12.0).dose(24.2, 1000.0, duration=2.0).observe(48.0, 9.5)
    known = twin.assimilate(data, seed=1)
    following = known.solve_dose(Target("auc", "increment", (48.0, 72.0)), 400.0, Regimen(1000.0, 24.0, 1, 48.0, 2.0))
    assert following.dose == pytest.approx(1411.0, rel=0.01)
    steady = Target("auc", "increment", (216.0, 240.0))
    maintenance = known.solve_dose(steady, 400.0, Regimen(1000.0, 24.0, 11, 0.0, 2.0), history=False)
    assert maintenance.dose == pytest.approx(1200.0, rel=0.01)
    f = known.forecast(times=[24.0, 48.0], outputs="auc")
    assert np.median(f["auc"].prediction.draws[:, 0]) == pytest.approx(337.9, rel=0.1)  # the mode's, posologyr


def test_bad_input_is_named(twin: Twin) -> None:
    for call, words in (
        (lambda: Target("level", "middle", (0.0, 1.0)), "statistic, value 'middle'"),
        (lambda: Target("level", "mean", 3.0), "window"),
        (lambda: Target("level", "at", (3.0, 4.0)), "window"),
        (lambda: Target("level", "mean", (0.0, 4.0), low=3.0, high=2.0), "low above high"),
        (lambda: Target("level", "fraction", (0.0, 4.0)), "within"),
        (lambda: Target("level", "mean", (0.0, 4.0), per=24.0), "per"),
        (lambda: Constraint(GOAL, 1.5), "risk, value '1.5'"),
        (lambda: Regimen(1.0, 0.0, 1), "interval, value '0.0'"),
        (lambda: Regimen(-1.0, 1.0, 1), "dose, value '-1.0'"),
        (lambda: twin.optimise(Target("level", "at", 10.0), GRID), "no bounds"),
        (lambda: twin.optimise([], GRID), "no goal"),
        (lambda: twin.optimise(GOAL, {}), "no candidates"),
        (lambda: twin.optimise(GOAL, Grid([1.0], [5.0], start=20.0)), "ends before it starts"),
        (lambda: twin.optimise(GOAL, Grid([], [5.0])), "empty grid"),
        (lambda: twin.optimise(GOAL, [Regimen(1.0, 5.0, 1, 6.0, port=2)]), "use one of: 1 put"),
        (lambda: twin.optimise(GOAL, GRID, least_probability=2.0), "least_probability"),
    ):
        with pytest.raises(DataError, match=words):
            call()  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match="no output 'cp'"):
        twin.optimise(Target("cp", "at", 10.0, low=1.0), GRID)
