"""Goals of the clinic against closed forms, and what a pharmacy can give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.inference.gaussian import line

from gemello.base.errors import DataError, RefusalError
from gemello.model import registry
from gemello.model.schedule import Schedule
from gemello.twin.assess import Case, statistics
from gemello.twin.decide import with_draws
from gemello.twin.goals import Constraint, Target, auc24, share_above, time_above_mic
from gemello.twin.regimens import Grid, Pharmacy, Regimen
from gemello.twin.twin import Twin

MODEL = registry.get("pk1_iv")
CL, V = MODEL.parameters["CL"].value, MODEL.parameters["V"].value
K = CL / V


@pytest.fixture(scope="module")
def typical() -> Twin:
    """One compartment at its typical parameters: all draws of the posterior the same."""
    return with_draws(Twin.new(MODEL), np.zeros((128, len(MODEL.parameters.eta_names))))


def value(twin: Twin, plan: Schedule, *targets: Target) -> np.ndarray:
    return statistics([Case(twin, plan, targets)])[0][:, 0]


# ---- statistics against closed forms -------------------------------------------------------------------------------
@pytest.mark.parametrize("unbound", [1.0, 0.3])
def test_time_above_mic_after_a_bolus(typical: Twin, unbound: float) -> None:
    """ln(fu · C0/MIC)/k of the interval, exactly, whatever the grid of times."""
    dose, mic = 1000.0, 4.0
    expected = np.log(unbound * dose / V / mic) / K / 24.0
    assert 0 < expected < 1, "the toy must cross the MIC within the window"
    target = time_above_mic("cp", mic, (0.0, 24.0), unbound=unbound, low=0.5)
    got = value(typical, Schedule().dose(0.0, dose), target, replace(target, points=3))
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # of the solver and the outputs' rounding


def test_time_above_mic_at_the_limits() -> None:
    v = np.array([[8.0, 4.0, 4.0, 1.0, 0.0], [0.0, 2.0, 8.0, -1.0, 3.0]])
    above = share_above(v, 2.0)
    np.testing.assert_allclose(above[0], [1, 1, np.log(2) / np.log(4), 0])
    np.testing.assert_allclose(above[1], [0, 1, 6 / 9, 1 / 4])  # linear where a value is not positive
    assert np.all(share_above(v, np.inf) == 0)
    assert np.all(share_above(v, -np.inf) == 1)
    assert np.all(share_above(np.full((1, 3), 2.0), 2.0) == 0)


def test_areas_and_their_ratio_to_the_mic(typical: Twin) -> None:
    """AUC from the accumulator is D/CL (1 − exp(−k t)); by trapezoids it is that within 0.1 %; /MIC divides it."""
    plan = Schedule().dose(0.0, 500.0)
    exact = 500.0 / CL * (1 - np.exp(-K * 12.0)) * 2  # for 24 h, from a window of 12
    window = (0.0, 12.0)
    got = value(typical, plan, auc24("auc", window), auc24("cp", window, accumulated=False), auc24("auc", window, mic=2.0))
    assert got[0] == pytest.approx(exact, rel=1e-6)
    assert got[1] == pytest.approx(exact, rel=1e-3)
    assert got[2] == pytest.approx(exact / 2, rel=1e-6)


def test_a_steady_state_by_superposition(typical: Twin) -> None:
    """D/V exp(−k τ)/(1 − exp(−k τ)) before, and the area D/CL in, an interval; no loading dose, no history."""
    tau, dose = 12.0, 800.0
    trough = Target("cp", "trough", (0.0, 24.0), low=1.0)
    area = auc24("auc", (0.0, 24.0), low=1.0)
    grid = [Regimen(dose, tau, 2, 0.0, loading=5000.0)]
    decision = typical.optimise([trough, area], grid, steady_state=True, least_probability=0.0)
    expected = dose / V * np.exp(-K * tau) / (1 - np.exp(-K * tau))
    assert decision.table[0].expected[0].median == pytest.approx(expected, rel=1e-6)
    assert decision.table[0].expected[1].median == pytest.approx(2 * dose / CL, rel=1e-6)
    assert "trough of cp in steady state at least 1 mg/L" in decision.goals[0]
    with pytest.raises(DataError, match="schedules have no steady state"):
        typical.optimise(area, {"a": Schedule().dose(0.0, 1.0)}, steady_state=True)


def test_a_steady_state_forgets_the_past(typical: Twin) -> None:
    """What was given before, and the area it has left in the accumulator, is no part of it: D/CL in an interval all the same."""
    area, loaded = auc24("auc", (24.0, 48.0), low=1.0), typical.assimilate(Schedule().dose(0.0, 5000.0).observe(24.0))
    twin = with_draws(loaded, np.zeros((128, len(MODEL.parameters.eta_names))))
    found = twin.optimise(area, Grid([800.0, 0.0], [12.0], start=24.0), steady_state=True, least_probability=0.0).table
    medians = [a.expected[0].median for a in found]
    np.testing.assert_allclose(medians, [2 * 800.0 / CL, 0.0], rtol=1e-6, atol=1e-9)


def test_the_words_of_goals() -> None:
    assert auc24("auc", (0.0, 24.0), low=400.0).label("mg*h/L", "h") == "AUC24 from 0 to 24 h at least 400 mg*h/L"
    mic = time_above_mic("cp", 4.0, (0.0, 24.0), unbound=0.6, low=0.5)
    assert mic.label("mg/L", "h") == "fT>MIC (MIC 4, unbound 0.6) from 0 to 24 h at least 0.5"
    inside = Target("level", "fraction", (0.0, 4.0), within=(2.0, 6.0), low=1.0)
    assert inside.label("mg", "h") == "share of the time with level from 2 to 6 from 0 to 4 h at least 1"
    for call, words in (
        (lambda: time_above_mic("cp", 0.0, (0.0, 1.0)), "impossible MIC"),
        (lambda: time_above_mic("cp", 1.0, (0.0, 1.0), unbound=1.2), "impossible unbound fraction"),
        (lambda: Target("cp", "mean", (0.0, 1.0), scale=0.0), "impossible scale"),
        (lambda: time_above_mic("cp", 4.0, (0.0, 1.0), low=50.0), "a share above 1"),
    ):
        with pytest.raises(DataError, match=words):
            call()  # type: ignore[no-untyped-call]


# ---- what a pharmacy can give --------------------------------------------------------------------------------------
def test_doses_are_whole_vials() -> None:
    grid = Grid([300.0, 380.0, 700.0, 620.0], [12.0], pharmacy=Pharmacy(multiple=250.0))
    assert [r.dose for r in grid.regimens(0.0, 24.0)] == [250.0, 500.0, 750.0]


def test_rates_and_daily_amounts_are_kept() -> None:
    """900 mg/h: 1,000 mg needs 1.5 h; its loading dose of 2,000 mg the shortest length that is slow enough, 2.5 h."""
    rules = Pharmacy(most_rate=900.0, most_daily=3500.0)
    grid = Grid([1000.0, 2000.0], [12.0], (1.0, 1.5, 2.5), loadings=(None, 2000.0), pharmacy=rules)
    found = [(r.dose, r.duration, r.loading, r.loading_duration) for r in grid.regimens(0.0, 48.0)]
    assert found == [
        (1000.0, 1.5, None, None),
        (1000.0, 1.5, 2000.0, 2.5),
        (1000.0, 2.5, None, None),
        (1000.0, 2.5, 2000.0, None),
    ]
    assert all(r.fastest <= 900.0 and r.most_within(24.0) <= 3500.0 for r in grid.regimens(0.0, 48.0))
    r = Regimen(1000.0, 12.0, 4, 0.0, 1.5, loading=2000.0, loading_duration=2.5)
    s = r.schedule()
    np.testing.assert_allclose(s.amount / s.rate, [2.5, 1.5, 1.5, 1.5])
    assert r.most_within(24.0) == 3000.0
    assert Regimen(1.0, 16.0, 4).most_within(24.0) == 2.0  # at 0 and 16
    assert Regimen(1.0, 48.0, 4).most_within(24.0) == 1.0
    assert Regimen(1.0, 12.0, 4).fastest == np.inf


def test_a_grid_of_which_nothing_can_be_given_is_refused() -> None:
    grid = Grid([1000.0], [12.0], (0.5,), pharmacy=Pharmacy(most_rate=900.0))
    with pytest.raises(RefusalError, match=r"none of 1 regimens of the grid can be given \(most_rate 900\)"):
        grid.regimens(0.0, 24.0)
    with pytest.raises(DataError, match="most_daily"):
        Pharmacy(most_daily=-1.0)


def test_loading_and_maintenance_reach_a_trough_that_maintenance_alone_does_not(typical: Twin) -> None:
    """In the first day; the loading dose that does is steady state's: D/(1 − exp(−k τ))."""
    tau = 24.0
    steady = 300.0 / (1 - np.exp(-K * tau))
    trough = steady / V * np.exp(-K * tau)
    goal = Target("cp", "trough", (0.0, 24.0), low=trough * 0.999, high=trough * 1.001)
    grid = Grid([300.0], [tau], loadings=(None, steady), until=72.0, start=0.0)
    table = typical.optimise(goal, grid, least_probability=0.0).table
    assert [a.probability for a in table] == [0.0, 1.0]


def test_a_goal_out_of_reach_names_the_best_and_its_probability(typical: Twin) -> None:
    goal, limit = Target("cp", "max", (0.0, 24.0), low=1.0), Constraint(Target("cp", "max", (0.0, 24.0), high=1e-3), 0.05)
    refused = typical.optimise(goal, Grid([500.0], [24.0], start=0.0), constraints=[limit])
    assert "and meets the goal with probability 1.00; widen the grid" in (refused.refused or "")


def test_changed_covariates_hold_from_the_first_dose_on() -> None:
    """Renal function that falls to half: the area rises by 2^0.8 of the model's exponent, where the past is nothing."""
    model = registry.get("vancomycin_goti2018")
    new = Twin.new(model, covariates={"CLCREAT": 100.0, "WT": 70.0, "DIAL": 0.0})
    twin = with_draws(new, np.zeros((128, 3)))
    goal = auc24("auc", (0.0, 24.0), low=1.0)
    regimen = [Regimen(500.0, 24.0, 1, 0.0)]
    before = twin.optimise(goal, regimen, steady_state=True, least_probability=0.0)
    after = twin.optimise(goal, regimen, steady_state=True, least_probability=0.0, covariates={"CLCREAT": 50.0})
    assert after.table[0].expected[0].mean / before.table[0].expected[0].mean == pytest.approx(2**0.8, rel=1e-6)
    assert after.assumed == ("CLCREAT 50 from the first new dose on",)
    with pytest.raises(DataError, match="no such covariate"):
        Twin.new(line).optimise(goal=Target("level", "at", 1.0, low=0.0), candidates=regimen, covariates={"AGE": 1.0})
