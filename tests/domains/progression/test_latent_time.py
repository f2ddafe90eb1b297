"""The nonlinear disease course: recovery of a known truth, the twin, the file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from tests.domains.progression import company

from gemello.base.errors import DataError, RefusalError
from gemello.domains.progression.authorities import courses
from gemello.domains.progression.latent_time import curves
from gemello.domains.progression.latent_time.generator import LatentTime
from gemello.domains.progression.linear_course.model import linear_course
from gemello.domains.progression.mixed.generator import Mixed
from gemello.domains.progression.scoring import held_out
from gemello.model.generator import History, Variable
from gemello.model.schedule import Schedule
from gemello.twin.twin import Twin

Array = NDArray[np.float64]
SPEED, PLACE, NOISE = np.array([0.8, -0.5, 0.4]), np.array([2.0, 1.0, 6.0]), 0.05
NAMES = ("memory", "volume", "function")


def simulated(n: int = 150, seed: int = 1) -> tuple[History, Array]:
    """Persons of the model itself, and their true courses (visits, 3)."""
    rng = np.random.default_rng(seed)
    age = rng.normal(70, 5, n)
    pace, start = np.exp(0.4 * rng.standard_normal(n)), 0.2 * (age - 70) + 2.0 * rng.standard_normal(n)
    person = np.repeat(np.arange(n), 6)
    time = np.tile(np.arange(6.0), n) + np.where(np.tile(np.arange(6), n) > 0, rng.uniform(-0.2, 0.2, 6 * n), 0.0)
    s = start[person] + pace[person] * time
    f = expit(SPEED * (s[:, None] - PLACE) + 0.3 * rng.standard_normal((n, 3))[person])
    y = f + NOISE * rng.standard_normal(f.shape)
    variables = (Variable("age", role="baseline", unit="year"), *(Variable(k, lower=0.0, upper=1.0) for k in NAMES))
    values = {k: np.clip(y[:, i], 0, 1) for i, k in enumerate(NAMES)}
    return History(variables, tuple(map(str, range(n))), {"age": age}, person, time, values, time_unit="year"), f


@pytest.fixture(scope="module")
def history() -> History:
    return simulated()[0]


@pytest.fixture(scope="module")
def trained(history: History) -> LatentTime:
    return LatentTime.train(history, seed=1)


def test_the_truth_is_found(trained: LatentTime) -> None:
    """Speeds within 15 %, noise within 15 % (values are cut at 0 and 1), distances of places within
    0.6 years, spread of pace 0.4 ± 0.12."""
    c = trained.population
    assert c.speed == pytest.approx(SPEED, rel=0.15)
    assert c.noise == pytest.approx(np.full(3, NOISE), rel=0.15)
    assert np.diff(c.place) == pytest.approx(np.diff(PLACE), abs=0.6)
    assert np.sqrt(c.pace[0, 0]) == pytest.approx(0.4, abs=0.12)
    assert c.start[0] / trained.spread[0] == pytest.approx(0.2, abs=0.1)


def test_modes_have_no_gradient(trained: LatentTime, history: History) -> None:
    data = trained._data(history)
    m = curves.modes(trained.population, data)
    inverse = np.linalg.inv(trained.population.omega)
    gradient = curves._objective(trained.population, data, m.u, data.x @ trained.population.start, inverse)[1]
    assert np.max(np.abs(np.einsum("na,nab->nb", gradient, m.covariance))) < 1e-4


def test_gradient_of_the_objective(trained: LatentTime, history: History) -> None:
    data = trained._data(history)
    u = 0.1 * np.ones((len(history), 5))
    onset, inverse = data.x @ trained.population.start, np.linalg.inv(trained.population.omega)
    _, gradient, _ = curves._objective(trained.population, data, u, onset, inverse)
    for a in range(5):
        step = 1e-6 * np.eye(5)[a]
        up, down = (curves._objective(trained.population, data, u + k * step, onset, inverse)[0] for k in (1, -1))
        assert gradient[:, a] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-3)


def test_new_persons_are_forecast_from_three_visits(trained: LatentTime) -> None:
    """90 % intervals at year 5 of 300 new persons with visits until year 2 cover 90 ± 6 %; the mean beats the last value."""
    new, truth = simulated(300, seed=7)
    seen = new.until(2.5)
    last = new.time > 4.5
    for i, name in enumerate(NAMES):
        drawn = trained.sample(seen, np.array([5.0]), draws=400, seed=1).values[name][:, new.person[last], 0]
        y = new.values[name][last]
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        assert 0.84 < np.mean((y >= low) & (y <= high)) < 0.96
        carried = new.values[name][(new.time > 1.5) & (new.time < 2.5)]
        assert np.mean((drawn.mean(axis=0) - truth[last, i]) ** 2) < 0.7 * np.mean((carried - truth[last, i]) ** 2)


def test_it_is_better_than_the_linear_mixed_model_on_its_own_kind(history: History) -> None:
    curved = held_out(lambda h, s: LatentTime.train(h, seed=s, rounds=60), history, folds=2, seed=1)
    straight = held_out(lambda h, s: Mixed.train(h, seed=s), history, folds=2, seed=1)
    assert curved.crps < straight.crps


def test_a_participant_has_a_twin(trained: LatentTime, history: History) -> None:
    """The same verbs as a patient's twin; its forecast agrees with the generator's within 0.03 (two samplers)."""
    one = history.take(np.array([3])).until(3.3)
    schedule = Schedule()
    for name in NAMES:
        t, y = one.time, one.values[name]
        schedule = schedule.merge(Schedule.of(t, value=y, output=np.full(len(t), NAMES.index(name))))
    model = trained.model()
    twin = Twin.new(model, trained.population_parameters(), covariates={"age": float(one.baseline["age"][0])}, id="3")
    forecast = twin.assimilate(schedule, draws=1000, seed=1).forecast(times=[4.0, 5.0])
    ours = trained.expected(one, np.array([4.0, 5.0]))
    for name in NAMES:
        assert forecast.weights @ forecast[name].prediction.draws == pytest.approx(ours[name][0], abs=0.03)


def test_a_linear_twin_is_the_closed_form_of_the_mixed_generator() -> None:
    """Mean and SD of the course after three visits, 4 Monte Carlo errors (false alarm 3e-4 for all four)."""
    rows = list(courses.twin())
    assert len(rows) == 4
    for row in rows:
        assert row["passed"], row
    assert pytest.approx(np.array(linear_course.parameters.omega())) == courses.OMEGA


def test_the_file_holds_everything(trained: LatentTime, history: History) -> None:
    again = LatentTime.from_dict(json.loads(json.dumps(trained.to_dict(), allow_nan=False)))
    seen = history.until(0.0)
    a, b = (g.sample(seen, np.array([2.0]), draws=5, seed=2).values for g in (trained, again))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    with pytest.raises(DataError):
        LatentTime.from_dict({"kind": "mixed"})


def test_refusals(trained: LatentTime, history: History) -> None:
    seen = history.until(0.0).take(np.arange(2))
    with pytest.raises(RefusalError, match="learnt from visits"):
        trained.expected(seen, np.array([30.0]))
    with pytest.raises(DataError, match="visits on average"):
        LatentTime.train(seen, seed=1)
    with pytest.raises(DataError, match="option"):
        LatentTime.train(history, seed=1, magic=2)
    assert trained.check(seen) == {}


def test_draws_do_not_depend_on_company(history: History, trained: LatentTime) -> None:
    company.draws_do_not_depend_on_company(trained, history, [5.0, 6.0])
    company.impossible_requests_are_refused(trained, history, [5.0, 6.0])
