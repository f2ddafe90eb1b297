"""What must not look right: doses on top of doses, levels that contradict the population, values read after a dose."""

from __future__ import annotations

import numpy as np
import pytest
from tests.inference.gaussian import line

from gemello.base.errors import DataError
from gemello.model import registry
from gemello.model.schedule import Schedule
from gemello.twin.goals import Target
from gemello.twin.regimens import Grid, Regimen
from gemello.twin.twin import Twin

PATIENT = {"CLCREAT": 80.0, "WT": 70.0, "DIAL": 0.0}


def vancomycin(second: float, **plan: float) -> Twin:
    """A patient of Goti's population with two levels, 12 mg/L and `second`, mg/L."""
    seen = Schedule().dose(0, 1000, duration=1).observe(11.5, 12.0).dose(12, 1000, duration=1).observe(23.5, second)
    return Twin.new(registry.get("vancomycin_goti2018"), covariates=PATIENT).assimilate(seen)


def test_a_dose_given_as_additional_is_read_before_it_as_one_written_out() -> None:
    model = registry.get("pk1_iv")
    apart = Schedule().dose(0, 500).dose(12, 500).dose(24, 500)
    short = Schedule().dose(0, 500, every=12, times=3)
    twin = Twin.new(model)
    trough = Target("cp", "trough", (0.0, 24.0), low=2.0, high=6.0)
    found = [a.expected[0].median for a in twin.optimise(trough, {"apart": apart, "short": short}, least_probability=0.0).table]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    at = [twin.forecast(s, times=[24.0], outputs="cp")["cp"].prediction.quantiles[2, 0] for s in (apart, short)]
    assert at[0] == pytest.approx(at[1], rel=1e-12)


def test_written_out_doses_stop_at_a_reset() -> None:
    s = Schedule().dose(0, 10, every=6, times=5).reset(13).dose(14, 20)
    out = s.written_out()
    assert out.time[out.evid == 1].tolist() == [0, 6, 12, 14]
    assert out.additional.tolist() == [0] * len(out)


def test_regimens_on_top_of_recorded_doses_are_refused() -> None:
    twin = vancomycin(16.0)
    goal = Target("auc", "increment", (48.0, 72.0), low=400.0, high=600.0)
    with pytest.raises(DataError, match="the record holds doses from 12 h on"):
        twin.optimise(goal, [Regimen(1000, 12, 6, 5.0, 1.0)])
    with pytest.raises(DataError, match=r"values are measured until 23\.5 h"):
        twin.optimise(goal, [Regimen(1000, 12, 6, 20.0, 1.0)])
    assert twin.optimise(goal, [Regimen(1000, 12, 4, 24.0, 1.0)], least_probability=0.0).chosen is not None


def test_a_level_ten_times_too_high_is_asked_about_and_not_absorbed() -> None:
    goal, grid = Target("auc", "increment", (48.0, 72.0), low=400.0, high=600.0), Grid([250, 500, 1000], [12], (1.0,), start=24.0)
    good, wrong = vancomycin(16.0), vancomycin(160.0)
    assert good.posterior.doubt is None
    assert "contradict the population" in (wrong.posterior.doubt or "")
    refused = wrong.optimise(goal, grid)
    assert refused.chosen is None
    assert "contradict" in (refused.refused or "")
    anyway = wrong.optimise(goal, grid, override_doubt=True, least_probability=0.0)
    assert anyway.chosen is not None
    assert any("contradict" in words for words in anyway.outside)


@pytest.mark.parametrize("plan", [Schedule(), Schedule().dose(3.0, 1000, duration=1), Schedule().dose(2.0, 1000, duration=1)])
def test_a_level_before_any_dose_is_refused(plan: Schedule) -> None:
    """12 mg/L where the residual error is 3.4 mg/L; also at the time of the first dose, which it comes before."""
    new = Twin.new(registry.get("vancomycin_goti2018"), covariates=PATIENT)
    with pytest.raises(DataError, match=r"12 mg/L of cp at 2 h, before any dose, where .* add the doses given before it"):
        new.assimilate(plan.observe(2.0, 12.0))


def test_a_blank_sample_is_none_and_a_baseline_is_as_good_as_any() -> None:
    new = Twin.new(registry.get("vancomycin_goti2018"), covariates=PATIENT)
    plan = Schedule().dose(3.0, 1000, duration=1)
    assert new.assimilate(plan.observe(2.0, 0.0)).posterior.cautions == ()
    noise = new.assimilate(plan.observe(2.0, 3.0)).posterior
    words = "3 mg/L of cp at 2 h, before any dose: taken as noise of a blank sample; if a dose was given before it, add that"
    assert noise.cautions == (words,)
    assert noise.doubt is None
    with_baseline = Twin.new(line, covariates={"WT": 70.0}).assimilate(Schedule().observe(1.0, 2.0).dose(3.0, 1.0))
    assert with_baseline.posterior.cautions == ()


def test_surprise_is_uniform_for_a_linear_normal_model() -> None:
    """χ² of the data under the prior: 400 subjects simulated with theoph_fo's additive error; false alarm rate 1e-4."""
    from scipy.stats import kstest

    from gemello.twin.calibration import simulate_subjects
    from gemello.twin.twin import assimilate_subjects

    model = registry.get("theoph_oral")
    plan = Schedule().dose(0, 320).observe([1.0, 4.0, 12.0])
    from gemello.model.population import PopulationParameters

    small = PopulationParameters.of(model, omega=np.diag([1e-4, 1e-4, 1e-4]))  # so small that the model is linear in the etas
    people, _ = simulate_subjects(model, small, plan, 400, seed=5)
    p = [t.posterior.surprise for t in assimilate_subjects(model, small, people, draws=200)]
    assert kstest(p, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    ("intervals", "problem"), [([1e-4], "over 2000 doses"), ([0.0], "impossible in a grid"), ([np.nan], "impossible")]
)
def test_impossible_grids(intervals: list[float], problem: str) -> None:
    goal = Target("auc", "increment", (48.0, 72.0), low=400.0)
    with pytest.raises(DataError, match=problem):
        vancomycin(16.0).optimise(goal, Grid([500], intervals, start=24.0))
