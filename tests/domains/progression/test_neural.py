"""The neural generator on simulated histories whose truth is known: calibration, joint futures, events, refusals, reloading."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.domains.progression import company

from gemello.base.errors import DataError, DomainError
from gemello.base.random import Each
from gemello.domains.progression.neural import Neural, dependence, mixture, scales
from gemello.model.generator import Array, History, Variable

VARIABLES = (
    Variable("y", "continuous", "longitudinal"), Variable("stage", "ordinal", "longitudinal", levels=(1, 2, 3, 4)),
    Variable("sick", "binary", "longitudinal"), Variable("attacks", "count", "longitudinal"),
    Variable("age", "continuous", "baseline"),
    Variable("sex", "binary", "baseline"), Variable("death", "event", "event"),
)  # fmt: skip
QUICK = {"steps": 60}


def simulated(n: int, seed: int) -> History:
    """A latent course of each person, b + s·t, seen at irregular visits through four variables, ends in death the earlier the
    worse: a Weibull hazard that doubles per unit of the latent value at baseline."""
    rng = np.random.default_rng(seed)
    age, sex = rng.normal(60, 8, n), (rng.uniform(size=n) < 0.5) * 1.0
    b = 0.05 * (age - 60) + rng.normal(size=n)
    s = 0.02 * b + 0.02 * sex + 0.03 * rng.normal(size=n)
    end = 40 * rng.weibull(1.3, n) * np.exp(-0.7 * b)
    censor = rng.uniform(15, 40, n)
    person, time = [], []
    for i in range(n):
        t = np.r_[0.0, np.cumsum(rng.uniform(3, 9, 4))]
        t = t[(t == 0) | (t < min(end[i], censor[i]))]
        person += [i] * len(t)
        time += t.tolist()
    p, t = np.array(person), np.array(time)
    latent = b[p] + s[p] * t
    v = len(p)
    values = {
        "y": 10 + 2 * latent + rng.normal(size=v), "stage": np.clip(np.round(2.5 + latent + 0.5 * rng.normal(size=v)), 1, 4),
        "sick": (latent + rng.normal(size=v) > 0.5) * 1.0, "attacks": rng.poisson(np.exp(0.4 + 0.4 * latent)) * 1.0,
    }  # fmt: skip
    values["stage"][rng.uniform(size=v) < 0.15] = np.nan
    age[rng.uniform(size=n) < 0.1] = np.nan
    return History(
        VARIABLES, tuple(f"s{seed}-{i}" for i in range(n)), {"age": age, "sex": sex}, p, t, values,
        {"death": np.minimum(end, censor)},
        {"death": end <= censor}, time_unit="month",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> Neural:
    return Neural.train(simulated(300, 1), seed=5, **QUICK)


@pytest.fixture(scope="module")
def test_set() -> History:
    return simulated(400, 2)


def later(history: History, trained: Neural, low: float = 8.0, high: float = 14.0) -> tuple[Array, Array, Array]:
    """Person, time and visit of one later visit of each person who has one."""
    rows = np.flatnonzero((history.time >= low) & (history.time < high))
    _, first = np.unique(history.person[rows], return_index=True)
    rows = rows[first]
    return history.person[rows], history.time[rows], rows


def test_forecasts_are_calibrated_for_every_kind_of_variable(trained: Neural, test_set: History) -> None:
    """About 300 persons: a 90 % coverage has a binomial error of 1.7 points, so 84–96 % fails wrongly in 1 of 1,000; the mean
    error is within 4 standard errors."""
    person, time, rows = later(test_set, trained)
    seen = test_set.take(np.unique(person)).until(0.0)
    grid = np.arange(8.0, 15.0, 1.0)  # the simulated courses move by less than 0.1 SD in half a month
    drawn = trained.sample(seen, grid, draws=300, seed=1)
    expected = trained.expected(seen, grid)
    at = np.abs(time[:, None] - grid).argmin(1)
    k = np.arange(len(person))
    y = test_set.values["y"][rows]
    q = np.quantile(drawn.values["y"][:, k, at], [0.05, 0.95], axis=0)
    assert 0.84 <= np.mean((y >= q[0]) & (y <= q[1])) <= 0.96
    for name in ("y", "stage", "sick", "attacks"):
        seen_value, m = test_set.values[name][rows], expected[name][k, at]
        ok = ~np.isnan(seen_value)
        off = (seen_value - m)[ok]
        assert abs(off.mean()) < 4 * off.std() / np.sqrt(ok.sum()) + 0.02, name
        assert np.corrcoef(seen_value[ok], m[ok])[0, 1] > 0.25, name
        np.testing.assert_allclose(drawn.values[name].mean(0)[k, at].mean(), m.mean(), atol=0.05 * (1 + seen_value[ok].std()))
    assert set(np.unique(drawn.values["stage"])) <= {1.0, 2, 3, 4}
    assert set(np.unique(drawn.values["sick"])) == {0.0, 1.0}
    assert np.all(drawn.values["attacks"] == np.round(drawn.values["attacks"]))


def test_draws_are_whole_trajectories(trained: Neural, test_set: History) -> None:
    """One draw's values belong together: over time (the same person stays high), over variables, and with death."""
    seen = test_set.take(np.arange(40)).until(0.0)
    drawn = trained.sample(seen, np.array([9.0, 12.0]), draws=400, seed=3)
    y, stage, death = drawn.values["y"], drawn.values["stage"], drawn.event_time["death"]

    def within(a: Array, b: Array) -> float:
        return float(np.mean([stats.spearmanr(a[:, i], b[:, i])[0] for i in range(40)]))

    assert within(y[:, :, 0], y[:, :, 1]) > 0.3
    assert within(y[:, :, 0], stage[:, :, 0]) > 0.2
    assert within(y[:, :, 1], death) < 0.02  # higher is sicker


def test_events_agree_with_their_closed_form_and_rank_persons(trained: Neural, test_set: History) -> None:
    seen = test_set.until(0.0)
    times = np.array([6.0, 12.0, 18.0])
    risk = trained.risk(seen, times)["death"]
    assert np.all(np.diff(risk, axis=1) >= 0)
    few = seen.take(np.arange(50))
    drawn = trained.sample(few, times, draws=2_000, seed=4).event_time["death"]
    share = np.mean(drawn[:, :, None] <= times, axis=0)
    np.testing.assert_allclose(share, risk[:50], atol=0.05)  # 4.5 Monte Carlo errors of at most 0.011
    died, t = test_set.event_seen["death"], test_set.event_time["death"]
    known = died | (t > 12)
    dead_by = died & (t <= 12)
    a, b = risk[known & dead_by, 1], risk[known & ~dead_by, 1]
    assert np.mean(a[:, None] > b) > 0.65
    assert abs(risk[known, 1].mean() - dead_by[known].mean()) < 0.1


def test_what_is_known_is_kept(trained: Neural, test_set: History) -> None:
    who = np.flatnonzero(np.bincount(test_set.person) >= 3)[:5]
    seen = test_set.take(who)
    t = float(seen.time.max())
    drawn = trained.sample(seen, np.array([t]), draws=3, seed=1)
    i = int(seen.person[np.argmax(seen.time)])
    assert np.all(drawn.values["y"][:, i, 0] == seen.values["y"][np.argmax(seen.time)])
    dead = seen.event_seen["death"]
    assert np.all(drawn.event_time["death"][:, dead] == seen.event_time["death"][dead])
    assert np.all(drawn.event_time["death"] >= seen.event_time["death"])


def test_more_visits_make_sharper_forecasts(trained: Neural, test_set: History) -> None:
    person, time, rows = later(test_set, trained, 10.0, 16.0)
    one, two = [], []
    for i, t, r in zip(person[:60], time[:60], rows[:60], strict=True):
        for until, out in ((0.0, one), (t - 1e-6, two)):
            seen = test_set.take(np.array([i])).until(until)
            out.append(test_set.values["y"][r] - trained.expected(seen, np.array([t]))["y"][0, 0])
    assert np.std(two) < np.std(one)


def test_the_same_seed_and_a_reloaded_generator_give_the_same_bits(trained: Neural, test_set: History) -> None:
    seen = test_set.take(np.arange(10)).until(0.0)
    times = np.array([3.0, 11.0])
    again = Neural.from_dict(json.loads(json.dumps(trained.to_dict(), allow_nan=False)))
    a, b = (g.sample(seen, times, draws=7, seed=2) for g in (trained, again))
    for k in a.values:
        np.testing.assert_array_equal(a.values[k], b.values[k])
        np.testing.assert_array_equal(trained.expected(seen, times)[k], again.expected(seen, times)[k])
    np.testing.assert_array_equal(a.event_time["death"], b.event_time["death"])
    assert again.to_dict() == trained.to_dict()
    other = trained.sample(seen, times, draws=7, seed=3)
    assert np.any(other.values["y"] != a.values["y"])


def test_training_is_the_same_by_seed() -> None:
    h = simulated(60, 3)
    h = replace(h, event_time={}, event_seen={}, values={"y": h.values["y"]}, variables=(VARIABLES[0], *VARIABLES[4:6]))
    one, two, other = (Neural.train(h, seed=s, steps=20) for s in (1, 1, 2))
    assert one.to_dict() == two.to_dict()
    assert one.to_dict() != other.to_dict()


def test_a_bend_is_learned_and_noise_is_left_to_the_line() -> None:
    """y at 10 is the square of y at 0: the line explains nothing, the nets do. Without any relation the normal residual stays."""
    rng = np.random.default_rng(4)

    def history(n: int, bend: float) -> History:
        x = rng.normal(size=n)
        y = np.column_stack([x, bend * (x**2 - 1) + 0.5 * rng.normal(size=n)]).ravel()
        person = np.repeat(np.arange(n), 2)
        return History(
            (VARIABLES[0],), tuple(map(str, range(n))), {}, person, np.tile([0.0, 10.0], n), {"y": y}, time_unit="month"
        )

    test = history(300, 1.0)
    y = test.values["y"][1::2]
    m = Neural.train(history(500, 1.0), seed=1, rate=5e-3, steps=400).expected(test.until(0.0), np.array([10.0]))["y"][:, 0]
    assert np.mean((y - m) ** 2) < 0.4 * y.var()
    none = Neural.train(history(60, 0.0), seed=1, **QUICK)
    flat = none.expected(history(200, 0.0).until(0.0), np.array([10.0]))["y"][:, 0]
    assert flat.std() < 0.25  # of outcomes with SD 0.5


# ---- refusals ---------------------------------------------------------------------------------------------------------------
def test_persons_and_times_that_are_refused(trained: Neural, test_set: History) -> None:
    seen = test_set.take(np.arange(3)).until(0.0)
    times = np.array([5.0])
    empty = replace(
        seen,
        baseline={k: np.array([np.nan, 1, 1]) for k in seen.baseline},
        values={k: np.array([np.nan, 1, 1]) for k in seen.values},
    )
    for act in (trained.check, lambda s: trained.sample(s, times, draws=1, seed=0), lambda s: trained.expected(s, times)):
        with pytest.raises(DataError, match=rf"only missing values.*|{seen.persons[0]}"):
            act(empty)
    with pytest.raises(DataError, match="column age: missing"):
        trained.check(replace(seen, baseline={"sex": seen.baseline["sex"]}))
    with pytest.raises(DataError, match="another unit"):
        trained.check(replace(seen, time_unit="day"))
    with pytest.raises(DomainError, match="beyond"):
        trained.expected(seen, np.array([500.0]))
    with pytest.raises(DataError, match="rising times"):
        trained.expected(seen, np.array([5.0, 5.0]))
    with pytest.raises(DataError, match=r"before the visit .* until\(time\)"):
        trained.expected(test_set, times)
    with pytest.raises(DataError, match="draws"):
        trained.sample(seen, times, draws=0, seed=1)
    old = replace(seen, baseline=dict(seen.baseline) | {"age": np.array([60.0, 200.0, 60.0])})
    assert trained.check(old) == {seen.persons[1]: next(iter(trained.check(old).values()))}
    assert "age 200 is outside" in trained.check(old)[seen.persons[1]]
    assert not trained.check(seen)


def _no_event(h: History) -> History:
    return replace(h, event_time={}, event_seen={}, values={}, person=np.empty(0, np.int64), time=np.empty(0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.take(np.arange(20)), "20 persons"), (_no_event, "nothing to forecast"),
        (lambda h: h.until(0.0), "no person has a visit after baseline"),
        (lambda h: replace(h, values=dict(h.values) | {"y": h.values["y"] * np.nan}), "column y: never seen"),
        (lambda h: replace(h, values=dict(h.values) | {"attacks": h.values["attacks"] + 0.5}), "column attacks.*no count"),
        (lambda h: replace(h, values=dict(h.values) | {"stage": h.values["stage"] + 4}), "column stage.*not among the levels"),
        (lambda h: replace(h, event_seen={"death": h.event_seen["death"] & False}), "column death: 0 different times"),
    ],
)  # fmt: skip
def test_histories_that_are_refused(change: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Neural.train(change(simulated(40, 6)), seed=1, **QUICK)


def test_unknown_options_and_seeds() -> None:
    with pytest.raises(DataError, match=r"column depth.*options are"):
        Neural.train(simulated(40, 6), seed=1, depth=3)
    with pytest.raises(DataError, match="not a seed"):
        Neural.train(simulated(40, 6), seed=-1, **QUICK)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "mixed"}, {"version": "0"}, {"scales": {}}, {"encoder": {}}, {"reach": "far"}, {"marginals": None},
        {"hazards": [1]},
        {"dependence": {"lasting": [[1]], "visit": [[1]], "length": 1, "event": []}}, {"variables": []},
    ],
)  # fmt: skip
def test_files_that_are_no_generator(trained: Neural, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no neural generator"):
        Neural.from_dict(trained.to_dict() | change)


# ---- parts ------------------------------------------------------------------------------------------------------------------
def test_quantiles_invert_the_distribution() -> None:
    m = mixture.Mixture(np.array([[0.3, 0.7]]), np.array([[-1.0, 2.0]]), np.array([[0.4, 1.5]]))
    u = np.array([[0.01, 0.2, 0.5, 0.9, 0.999]])
    np.testing.assert_allclose(m.cdf(m.quantile(u).T)[:, 0], u[0], atol=2e-3)
    mean, sd = m.moments()
    np.testing.assert_allclose(mean, 1.1)
    np.testing.assert_allclose(sd**2, 0.3 * (0.16 + 2.1**2) + 0.7 * (2.25 + 0.9**2))


def test_scales_go_there_and_back() -> None:
    rng = np.random.default_rng(1)
    for kind, x in (("continuous", rng.normal(size=80)), ("continuous", np.exp(2 * rng.normal(size=80))),
                    ("count", rng.poisson(4, 80) * 1.0), ("ordinal", rng.integers(1, 6, 80) * 1.0)):  # fmt: skip
        s = scales.learn_scale(Variable("x", kind), x)  # type: ignore[arg-type]
        np.testing.assert_allclose(s.backward(s.forward(x)), x, rtol=1e-9)
    assert scales.learn_scale(Variable("x"), np.exp(2 * rng.normal(size=80))).transform == "log"


def test_dependence_is_recovered() -> None:
    """2,000 persons at 3 times of 2 variables: the lasting correlation 0.6 and the length are found within 4 standard errors."""
    true = dependence.Dependence(np.array([[0.6, 0.3], [0.3, 0.6]]), np.array([[0.4, 0.1], [0.1, 0.4]]), 20.0, np.zeros((0, 2)))
    times = np.array([2.0, 8.0, 20.0])
    _, z = true.draw(times, 1, Each.of([str(i) for i in range(2_000)], 2))
    made = dependence.learn(z[0].reshape(-1, 2), np.repeat(np.arange(2_000), 3), np.tile(times, 2_000), np.ones(6_000), 20.0)
    assert made.length == pytest.approx(20.0, rel=0.8)  # on a grid of factors of 1.8
    np.testing.assert_allclose(made.lasting, true.lasting, atol=0.12)
    np.testing.assert_allclose(made.lasting + made.visit, true.lasting + true.visit, atol=0.08)


def test_event_correlation_is_recovered_under_censoring() -> None:
    """4,000 persons, ρ −0.5, half censored, all events after the value: within 4 standard errors (about 0.02)."""
    rng = np.random.default_rng(3)
    z, e = rng.multivariate_normal([0, 0], [[1, -0.5], [-0.5, 1]], size=8_000).T
    start = np.full(8_000, -1.0)
    ok = e > start
    cut = rng.normal(0.3, 1, 8_000).clip(-1.0)
    seen = e <= cut
    found = dependence.event_correlation(z[ok], np.minimum(e, cut)[ok], seen[ok], start[ok], np.ones(int(ok.sum())))
    assert found == pytest.approx(-0.5, abs=0.08)


def test_draws_do_not_depend_on_company(trained: Neural, test_set: History) -> None:
    company.draws_do_not_depend_on_company(trained, test_set.until(0.0), [8.0, 12.0])
    company.impossible_requests_are_refused(trained, test_set.until(0.0), [8.0, 12.0])
