"""The baseline generator: closed forms, mixed kinds, missing values, the file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.domains.progression import company

from gemello.base.errors import DataError, RefusalError
from gemello.domains.progression.mixed import course, impute, ridge
from gemello.domains.progression.mixed.course import Course, Points
from gemello.domains.progression.mixed.generator import Mixed
from gemello.domains.progression.mixed.knots import hats, place
from gemello.domains.progression.mixed.scale import Scale, choose
from gemello.domains.progression.mixed.shape import Shape
from gemello.domains.progression.mixed.shape import fit as fit_shape
from gemello.domains.progression.scoring import auc
from gemello.model.generator import History, Variable

Array = NDArray[np.float64]
TIMES = np.array([0.0, 1.0, 2.0, 4.0])
VARIABLES = (
    Variable("age", role="baseline"), Variable("female", "binary", "baseline"), Variable("score", lower=0.0),
    Variable("grade", "ordinal", levels=(0.0, 1.0, 2.0)), Variable("well", "binary", levels=(0.0, 1.0)),
    Variable("attacks", "count"),
    Variable("death", "event", "event"),
)  # fmt: skip


def simulated(n: int = 300, seed: int = 3) -> History:
    """Persons with a common severity that every variable follows, and that hastens death."""
    rng = np.random.default_rng(seed)
    age, female = rng.normal(60, 8, n), (rng.random(n) < 0.5).astype(float)
    severity = 0.6 * (age - 60) / 8 + rng.normal(0, 0.8, n)
    at = np.tile(TIMES, n)
    person = np.repeat(np.arange(n), len(TIMES))
    f = severity[person] + 0.15 * at
    e = lambda sd: rng.normal(0, sd, len(at))  # noqa: E731
    values = {
        "score": np.exp(2 + 0.4 * f + e(0.2)), "grade": np.digitize(f + e(0.5), [-0.3, 0.8]).astype(float),
        "well": (f + e(0.7) < 0.3).astype(float), "attacks": rng.poisson(np.exp(0.8 + 0.5 * f)).astype(float),
    }  # fmt: skip
    for y in values.values():
        y[rng.random(len(at)) < 0.1] = np.nan
    age_seen = np.where(rng.random(n) < 0.1, np.nan, age)
    time = rng.exponential(20 * np.exp(-severity))
    end = rng.uniform(6, 20, n)
    return History(
        VARIABLES, tuple(f"p{i}" for i in range(n)), {"age": age_seen, "female": female}, person, at, values,
        {"death": np.minimum(time, end)}, {"death": time <= end}, "year",
    )  # fmt: skip


@pytest.fixture(scope="module")
def history() -> History:
    return simulated()


@pytest.fixture(scope="module")
def trained(history: History) -> Mixed:
    return Mixed.train(history, seed=1)


def test_conditioning_is_the_normal_distribution_s(x64: None) -> None:
    """Against the textbook formula on the joint covariance of what was seen and what is asked for, 1e-8."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 4))
    c = Course(
        np.array([1.0, 3.0]), rng.normal(size=(1, 2, 2)), a @ a.T, np.array([0.3, 0.6]), np.array([-1, -1]), (np.zeros(0),) * 2
    )
    points = Points(np.zeros(3, int), np.array([0, 1, 0]), np.array([1.5, 2.0, 3.0]), np.array([0.2, -1.0, 0.7]))
    prior = c.mean(np.zeros((1, 0))).reshape(1, -1)
    found = course.condition(c, points, points.z, np.zeros(3), prior)
    h, _ = c.weights(points.time, points.variable)
    phi = np.zeros((3, 4))
    for i, v in enumerate(points.variable):
        phi[i, 2 * v : 2 * v + 2] = h[i]
    g = c.deviations + 1e-9 * np.eye(4)
    total = phi @ g @ phi.T + np.diag(c.noise[points.variable])
    gain = g @ phi.T @ np.linalg.inv(total)
    assert found.mean[0] == pytest.approx(prior[0] + gain @ (points.z - phi @ prior[0]), abs=1e-8)
    assert found.covariance[0] == pytest.approx(g - gain @ phi @ g, abs=1e-8)


def test_two_knots_hold_every_straight_line() -> None:
    t = np.array([1.0, 2.2, 4.0])
    assert hats(t, np.array([1.0, 4.0]))[:, 1:] @ np.array([3.0, 9.0]) == pytest.approx(3.0 + 2.0 * (t - 1.0), abs=1e-12)


def test_visits_of_a_protocol_become_knots() -> None:
    assert place(np.tile([2.0, 4.0, 8.0], 30), np.repeat(np.arange(30), 3)).tolist() == [2.0, 4.0, 8.0]


@pytest.mark.parametrize(("form", "make"), [("identity", lambda z: 5 + z), ("sqrt", lambda z: (6 + z) ** 2), ("log", np.exp)])
def test_the_scale_of_the_data_is_found(form: str, make: object) -> None:
    y = make(np.random.default_rng(1).normal(size=800))  # type: ignore[operator]
    s = choose(Variable("y"), y)
    assert s.form == form
    assert s.backward(s.forward(y)) == pytest.approx(y, rel=1e-9)


def test_a_bounded_score_stays_in_its_bounds() -> None:
    s = choose(Variable("y", lower=0.0, upper=1.0), np.random.default_rng(1).beta(0.5, 0.5, 500))
    z = np.linspace(-9, 9, 99)
    assert np.all((s.backward(z) >= 0) & (s.backward(z) <= 1))


def test_the_jacobian_is_the_derivative() -> None:
    y = np.array([0.2, 0.5, 0.7])
    for s in (Scale("sqrt"), Scale("log", width=0.1), Scale("arcsine")):
        numeric = (s.forward(y + 1e-6) - s.forward(y - 1e-6)) / 2e-6
        assert s.slope(y) == pytest.approx(np.log(numeric), abs=1e-6)


def test_the_shape_inverts_keeps_the_mean_and_finds_a_heavy_tail() -> None:
    e = np.linspace(-3, 3, 31)
    shape = Shape(0.8, 0.2, 0.8)
    assert shape.backward(shape.forward(e)) == pytest.approx(e, abs=1e-9)
    draws = np.random.default_rng(2).standard_normal(200_000)
    assert abs(shape.forward(draws).mean()) < 5 * shape.forward(draws).std() / np.sqrt(len(draws))  # false alarm 6e-7
    assert fit_shape(np.random.default_rng(3).standard_t(3, 1000)).tail < 0.9
    assert fit_shape(np.random.default_rng(3).standard_normal(1000)).tail == pytest.approx(1.0, abs=0.1)


def test_missing_values_are_imputed_by_regression() -> None:
    """Half of y missing, y = 0.8 x + e: the conditional mean's slope within 0.1, its variance within 0.1 of 0.36."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal(2000)
    y = 0.8 * x + 0.6 * rng.standard_normal(2000)
    both = np.column_stack([x, np.where(rng.random(2000) < 0.5, np.nan, y)])
    full, spread = impute.conditional(both, *impute.fit(both))
    gone = np.isnan(both[:, 1])
    assert np.polyfit(x[gone], full[gone, 1], 1)[0] == pytest.approx(0.8, abs=0.1)
    assert spread[gone][0, 1, 1] == pytest.approx(0.36, abs=0.1)
    assert not spread[~gone].any()


def test_the_penalty_grows_where_nothing_is_to_be_learnt() -> None:
    rng = np.random.default_rng(5)
    x = np.column_stack([np.ones(200), rng.standard_normal((200, 8))])
    free, person, h = np.arange(9) == 0, np.arange(200), np.ones((200, 1))
    noise = rng.standard_normal(200)
    useless = ridge.choose(x, noise, person, h, free)
    useful = ridge.choose(x, x[:, 1:] @ np.full(8, 0.7) + noise, person, h, free)
    assert useless > 10 * useful


def test_forecasts_of_all_kinds(history: History, trained: Mixed) -> None:
    seen = history.until(0.0)
    drawn = trained.sample(seen, np.array([2.0, 4.0]), draws=200, seed=1)
    mean = trained.expected(seen, np.array([2.0, 4.0]))
    assert set(drawn.values) == {"score", "grade", "well", "attacks"}
    assert drawn.values["score"].min() >= 0
    assert set(np.unique(drawn.values["grade"])) <= {0.0, 1.0, 2.0}
    assert set(np.unique(drawn.values["well"])) <= {0.0, 1.0}
    assert np.all(drawn.values["attacks"] == np.round(drawn.values["attacks"]))
    assert drawn.event_time["death"].shape == (200, len(history))
    for name, m in mean.items():  # the mean of draws, within 5 of its Monte Carlo errors over all persons
        d = drawn.values[name]
        error = np.sqrt((d.var(axis=0) / len(d)).mean() / m[:, 0].size)
        assert d.mean(axis=0).mean() == pytest.approx(m.mean(), abs=5 * error)


def test_forecasts_are_calibrated_in_new_persons(trained: Mixed) -> None:
    """1,000 new persons of the same making: 90 % intervals of the score cover 90 ± 4 % (the binomial error is 1; the rest is
    what 300 persons teach); the mean probability to be well within 0.09 (3 errors of a share in 300), its AUC above 0.8."""
    new = simulated(1000, seed=11)
    seen = new.until(0.0)
    at = new.time == 4.0
    y, who = new.values["score"][at], new.person[at]
    low, high = trained.quantiles(seen, np.array([4.0]), np.array([0.05, 0.95]))["score"][:, who, 0]
    there = np.isfinite(y)
    assert 0.86 < np.mean(((y >= low) & (y <= high))[there]) < 0.94
    p, well = trained.expected(seen, np.array([4.0]))["well"][who, 0], new.values["well"][at]
    there = np.isfinite(well)
    assert p[there].mean() == pytest.approx(well[there].mean(), abs=0.09)
    assert auc(p[there], well[there] == 1) > 0.8


def test_what_was_seen_sharpens_the_forecast(history: History, trained: Mixed) -> None:
    at = np.array([4.0])
    early, late = trained.expected(history.until(0.0), at)["score"][:, 0], trained.expected(history.until(2.0), at)["score"][:, 0]
    here = (history.time == 4.0) & np.isfinite(history.values["score"])
    y, who = history.values["score"][here], history.person[here]
    assert np.mean((late[who] - y) ** 2) < 0.9 * np.mean((early[who] - y) ** 2)


def test_events_follow_the_risk(history: History, trained: Mixed) -> None:
    free = trained.survival(history.until(0.0), "death", np.array([5.0, 15.0]))
    assert np.all(free[:, 0] >= free[:, 1])
    old = history.baseline["age"] > 65
    assert free[old, 1].mean() < free[history.baseline["age"] < 55, 1].mean() - 0.1
    alive = trained.sample(history.until(3.0), np.array([4.0]), draws=50, seed=1).event_time["death"]
    later = ~history.until(3.0).event_seen["death"]
    assert np.all(alive[:, later] >= np.minimum(history.event_time["death"], 3.0)[later])


def test_the_file_holds_everything(history: History, trained: Mixed) -> None:
    again = Mixed.from_dict(json.loads(json.dumps(trained.to_dict(), allow_nan=False)))
    seen = history.until(0.0)
    a, b = (g.sample(seen, np.array([2.0]), draws=20, seed=5) for g in (trained, again))
    assert all(np.array_equal(a.values[k], b.values[k]) for k in a.values)
    assert np.array_equal(a.event_time["death"], b.event_time["death"])
    for broken in ({}, {"kind": "mixed"}, trained.to_dict() | {"version": "0"}, trained.to_dict() | {"frame": {}}):
        with pytest.raises(DataError):
            Mixed.from_dict(broken)


def test_training_twice_gives_the_same(history: History, trained: Mixed) -> None:
    assert Mixed.train(history, seed=1).to_dict() == trained.to_dict()


def test_refusals(history: History, trained: Mixed) -> None:
    seen = history.until(0.0).take(np.arange(3))
    with pytest.raises(RefusalError, match="learnt from visits up to 4"):
        trained.expected(seen, np.array([9.0]))
    with pytest.raises(DataError, match="after baseline"):
        trained.expected(seen, np.array([0.0]))
    empty = replace(
        seen,
        baseline={k: np.full(3, np.nan) for k in seen.baseline},
        values={k: np.full(len(seen.time), np.nan) for k in seen.values},
    )
    for verb in (trained.check, lambda h: trained.expected(h, np.array([1.0])), lambda h: Mixed.train(h, seed=1)):
        with pytest.raises(DataError, match="only of missing values"):
            verb(empty)
    with pytest.raises(DataError, match="unknown to the generator"):
        trained.check(replace(seen, variables=(*seen.variables, Variable("weight", role="baseline"))))
    with pytest.raises(DataError, match="age"):
        trained.check(replace(seen, variables=seen.variables[1:], baseline={"female": seen.baseline["female"]}))
    with pytest.raises(DataError, match="at least 6"):
        Mixed.train(seen, seed=1)
    with pytest.raises(DataError, match="option"):
        Mixed.train(history, seed=1, magic=1)


def test_persons_outside_are_named(history: History, trained: Mixed) -> None:
    seen = history.until(0.0).take(np.arange(3))
    age = seen.baseline["age"].copy()
    age[1] = 140.0
    said = trained.check(replace(seen, baseline={**seen.baseline, "age": age}))
    assert list(said) == ["p1"]
    assert "age 140" in said["p1"]


def test_draws_do_not_depend_on_company(history: History, trained: Mixed) -> None:
    company.draws_do_not_depend_on_company(trained, history.until(0.0), [2.0, 4.0])
    company.impossible_requests_are_refused(trained, history.until(0.0), [2.0, 4.0])
