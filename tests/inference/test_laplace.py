"""Modes and Laplace approximations: exact where the answer is known, and the same from any start and in any company."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.inference.gaussian import exact, line, observed
from tests.inference.gaussian import population as line_population
from tests.inference.test_likelihood import OMEGA, VALUES, differences, objective_by_hand, pair, proportional, subject

from gemello.inference.ensemble import population_of
from gemello.inference.laplace import Modes, modes
from gemello.inference.likelihood import problem
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

SUBJECTS = [
    subject(who="full"),
    subject(1.5 * VALUES, who="high"),
    subject(VALUES[:2] * 0.4, np.array([1.0, 3.0]), "short"),
    subject(VALUES[:1], np.array([6.0]), "one"),
    subject(np.array([]), np.array([]), "none"),
]


def found(subjects: list[Subject], start: NDArray[np.float64] | None = None, model: object = pair) -> Modes:
    return modes(problem(model, subjects), population_of(PopulationParameters.of(model)), start)  # type: ignore[arg-type]


def test_a_linear_gaussian_model_is_exact() -> None:
    """Mode, covariance, and the objective of FOCEI as minus twice the log evidence without its constant."""
    times = [np.array([0.5, 1.0, 3.0, 6.0]), np.array([2.0]), np.array([1.0, 8.0])]
    values = [np.array([2.9, 2.2, 1.6, 0.4]), np.array([-3.0]), np.array([2.0, -9.0])]
    m = found([observed(t, v, str(i)) for i, (t, v) in enumerate(zip(times, values, strict=True))], model=line)
    for i, (t, v) in enumerate(zip(times, values, strict=True)):
        mean, covariance, evidence = exact(t, v)
        np.testing.assert_allclose(m.eta[i], mean, atol=1e-9)
        np.testing.assert_allclose(m.covariance[i], covariance, rtol=1e-9)
        assert m.laplace[i] == pytest.approx(-2.0 * evidence - len(t) * np.log(2.0 * np.pi), rel=1e-11)
    assert line_population().eta_names == ("a", "b")


def test_at_the_mode_the_gradient_is_zero_and_every_step_goes_up() -> None:
    m = found(SUBJECTS)
    assert np.all(m.decrement < 1e-12)
    assert m.objective[0] == pytest.approx(objective_by_hand(m.eta[0]), rel=1e-12)
    slope = differences(objective_by_hand, m.eta[0])
    assert np.abs(slope).max() < 1e-6
    for step in 0.05 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]]):
        assert objective_by_hand(m.eta[0] + step) > m.objective[0]


def test_without_data_the_mode_is_zero_and_the_covariance_omega() -> None:
    m = found(SUBJECTS)
    np.testing.assert_array_equal(m.eta[-1], 0.0)
    np.testing.assert_allclose(m.covariance[-1], OMEGA, rtol=1e-12)
    assert m.laplace[-1] == pytest.approx(0.0, abs=1e-12)  # ln|W| + ln|W⁻¹|


def test_lanes_do_not_know_of_each_other() -> None:
    """Each subject alone, and all of them in another order, as in company."""
    together = found(SUBJECTS)
    backwards = found(SUBJECTS[::-1])
    for name in ("eta", "objective", "laplace", "covariance"):
        np.testing.assert_allclose(getattr(backwards, name)[::-1], getattr(together, name), rtol=1e-9, atol=1e-9)
    for i, s in enumerate(SUBJECTS[:3]):
        alone = found([s])
        np.testing.assert_allclose(alone.eta[0], together.eta[i], atol=1e-9)
        assert alone.laplace[0] == pytest.approx(together.laplace[i], rel=1e-10)


def test_one_schedule_for_all_gives_the_same_as_schedules_of_their_own() -> None:
    s = Schedule.of([0.0, 1.0, 6.0], evid=[1, 0, 0], amount=[100.0, 0.0, 0.0], value=[np.nan, 4.0, 1.0]).covariates(WT=70.0)
    shared = [Subject(str(k), s) for k in range(3)]
    other = Subject("other", Schedule.of([0.0, 1.0], evid=[1, 0], amount=[50.0, 0.0], value=[np.nan, 2.0]).covariates(WT=50.0))
    a, b = found(shared), found([*shared, other])
    assert problem(pair, shared).prepared.timeline.shared
    assert not problem(pair, [*shared, other]).prepared.timeline.shared
    np.testing.assert_allclose(b.eta[:3], a.eta, atol=1e-10)
    np.testing.assert_allclose(b.laplace[:3], a.laplace, rtol=1e-12)


@pytest.mark.parametrize("start", [[1.0, -1.0], [-2.0, 2.0], [3.0, 3.0]])
def test_the_start_does_not_matter(start: list[float]) -> None:
    m, again = found(SUBJECTS), found(SUBJECTS, np.tile(start, (len(SUBJECTS), 1)))
    np.testing.assert_allclose(again.eta, m.eta, atol=1e-7)
    np.testing.assert_allclose(again.laplace, m.laplace, rtol=1e-9)


def test_a_start_from_which_nothing_can_be_seen() -> None:
    """Proportional error, and etas where all is eliminated: predictions of 1e-30 (objective 1e60), and of 0 (none)."""
    who = [subject(VALUES[:2], np.array([1.0, 3.0]))]
    m = found(who, model=proportional)
    for start in ([3.5, 0.0], [8.0, -2.0]):
        again = found(who, np.array([start]), model=proportional)
        np.testing.assert_allclose(again.eta, m.eta, atol=1e-7)
    assert np.abs(m.eta).max() < 1.0
