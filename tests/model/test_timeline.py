"""Random schedules through the engine, against a slow reference that adds up the responses to single doses.

The reference shares nothing with the engine: every dose of every train is written out (a steady state is a train from far back),
its response comes from the eigenvectors of the system matrix (two compartments and a depot), and responses are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.model import registry
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

BACK = 300  # doses of a train that count as a steady state: at least 300 · 4 h at 0.02 1/h, so exp(-24) of one dose is left
Array = NDArray[np.float64]


class Dose(NamedTuple):
    start: float
    amount: float
    state: int
    duration: float
    epoch: int
    record: int  # only this and later records see it


def system(v: dict[str, float]) -> Array:
    """Depot, central, peripheral; rates in 1/h."""
    out, to, back = v["CL"] / v["V1"], v["Q"] / v["V1"], v["Q"] / v["V2"]
    return np.array([[-v["KA"], 0, 0], [v["KA"], -out - to, back], [0, to, -back]])


def written_out(s: Schedule, v: dict[str, float]) -> Iterator[Dose]:
    """Every single dose of a schedule."""
    epoch = 0
    for k in range(len(s)):
        if s.evid[k] in (3, 4) or (s.evid[k] == 1 and s.steady_state[k] == 1):
            epoch += 1
        if s.evid[k] not in (1, 4):
            continue
        n = s.port[k]
        if s.amount[k] == 0:  # constant rate since ever, until now
            long = 2000.0
            yield Dose(s.time[k] - long, s.rate[k] * long, n - 1, long, epoch, k)
            continue
        amount = v[f"F{n}"] * s.amount[k]
        duration = {0.0: 0.0, -2.0: v[f"D{n}"]}.get(s.rate[k], amount / (v[f"R{n}"] if s.rate[k] == -1 else s.rate[k] or 1.0))
        first = -BACK if s.steady_state[k] else 0
        for m in range(first, s.additional[k] + 1):
            yield Dose(s.time[k] + v[f"ALAG{n}"] + m * s.interval[k], amount, n - 1, duration, epoch, k)


def reference(s: Schedule, v: dict[str, float]) -> Array:
    """Amounts (records, 3) after each record."""
    rates, vectors = np.linalg.eig(system(v))
    inverse = np.linalg.inv(vectors)

    def grown(t: Array) -> Array:
        return np.where(t[:, None] >= 0, np.exp(rates * np.maximum(t, 0.0)[:, None]), 0.0)

    clean = (s.evid == 3) | (s.evid == 4) | ((s.evid == 1) & (s.steady_state == 1))
    epoch, out = np.cumsum(clean), np.zeros((len(s), 3))
    for d in written_out(s, v):
        since = s.time - d.start
        if d.duration == 0:
            modes = d.amount * grown(since)
        else:
            modes = d.amount / d.duration * (np.where(since[:, None] >= 0, grown(since) - 1.0, 0.0) / rates)
            later = since - d.duration
            modes -= d.amount / d.duration * (np.where(later[:, None] >= 0, grown(later) - 1.0, 0.0) / rates)
        response = (vectors * inverse[:, d.state]) @ modes.T
        out += np.where((epoch == d.epoch) & (np.arange(len(s)) >= d.record), response, 0.0).T
    return out


def drawn(random: np.random.Generator, modelled: bool) -> Schedule:
    """A schedule with a few of everything. No two things happen at one time, except that a record is its own time."""
    times = iter(np.sort(random.choice(400, 40, replace=False)) * 0.25 + random.uniform(0.001, 0.2, 40))
    out = Schedule()
    for _ in range(random.integers(2, 6)):
        t, port, amount = next(times), int(random.integers(1, 3)), float(random.uniform(10, 100))
        every, many = float(random.uniform(4, 14)), int(random.integers(1, 6))
        rate = float(random.choice([0.0, amount / random.uniform(0.3, 30.0), *((-1.0, -2.0) if modelled else ())]))
        kind = random.choice(["plain", "plain", "steady", "added steady", "reset and dose", "reset", "constant"])
        if kind == "reset":
            out = out.reset(t)
        elif kind == "constant":
            out = out.merge(Schedule.of(t, evid=1, port=port, rate=random.uniform(1, 9), steady_state=1))
        else:
            steady = {"steady": 1, "added steady": 2}.get(str(kind), 0)
            out = out.dose(
                t, amount, port=port, rate=rate, every=every, times=many, steady_state=steady, reset=kind == "reset and dose"
            )
    at = np.fromiter(times, float)[: random.integers(4, 20)]
    return out.observe(at).merge(Schedule.of(at[0] + 0.01, evid=2))


def parameters(random: np.random.Generator, subjects: int, active: bool) -> dict[str, Array]:
    """(subjects,) values; slowest rate constant above 0.02 1/h."""
    between = lambda low, high: random.uniform(low, high, subjects)  # noqa: E731
    v = {"CL": between(3, 9), "V1": between(20, 60), "Q": between(4, 15), "V2": between(10, 60), "KA": between(0.3, 2)}
    for n in (1, 2):
        v |= (
            {
                f"F{n}": between(0.3, 1.2),
                f"ALAG{n}": between(0, 3.5),
                f"D{n}": between(0.5, 20),
                f"R{n}": np.full(subjects, random.uniform(3, 40)),
            }
            if active
            else {}
        )
    return v


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("active", [False, True], ids=["static", "with lag, F, duration and rate"])
def test_random_schedules(active: bool, seed: int) -> None:
    model = registry.get("pk2_oral")
    random = np.random.default_rng(seed)
    subjects = [Subject(str(i), drawn(random, active)) for i in range(80)]
    values = parameters(random, len(subjects), active)
    plain = {"F1": 1.0, "F2": 1.0, "ALAG1": 0.0, "ALAG2": 0.0, "D1": 1.0, "D2": 1.0, "R1": 1.0, "R2": 1.0}
    want = [reference(s.schedule, plain | {k: float(x[i]) for k, x in values.items()}) for i, s in enumerate(subjects)]
    for method in ("closed", "expm"):
        out = simulate(model, subjects, values, method=method, states=True).check()
        worst = {}
        for i, (s, w) in enumerate(zip(subjects, want, strict=True)):
            got = np.stack([out.states[n][i, : len(s.schedule)] for n in ("depot", "central", "peripheral")], axis=1)
            worst[s.id] = float((np.abs(got - w) / np.maximum(np.abs(w), 1.0)).max())
        assert {k: e for k, e in worst.items() if not e < 1e-8} == {}, method


def test_random_schedules_by_an_adaptive_solver() -> None:
    model, random = registry.get("pk2_oral"), np.random.default_rng(3)
    subjects = [Subject(str(i), drawn(random, True)) for i in range(16)]
    values = parameters(random, len(subjects), True)
    out = simulate(model, subjects, values, method="tsit5", rtol=1e-9, atol=1e-9, states=True).check()
    for i, s in enumerate(subjects):
        got = np.stack([out.states[n][i, : len(s.schedule)] for n in ("depot", "central", "peripheral")], axis=1)
        want = reference(s.schedule, {k: float(x[i]) for k, x in values.items()})
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6, err_msg=s.id)


def test_the_order_of_subjects_and_the_block_do_not_matter() -> None:
    """Lanes are sorted by their number of slots inside; outside nothing shows."""
    model, random = registry.get("pk2_oral"), np.random.default_rng(4)
    subjects = [Subject(str(i), drawn(random, False)) for i in range(20)]
    values = parameters(random, len(subjects), False)
    straight = simulate(model, subjects, values).outputs["cp"]
    order = random.permutation(20)
    turned = simulate(model, [subjects[i] for i in order], {k: v[order] for k, v in values.items()}, block=8).outputs["cp"]
    np.testing.assert_allclose(turned, straight[order], rtol=1e-12, atol=1e-12)


def test_a_shared_schedule_gives_what_separate_ones_give() -> None:
    model, random = registry.get("pk2_oral"), np.random.default_rng(5)
    schedule = drawn(random, False)
    values = parameters(random, 6, False)
    shared = simulate(model, schedule, values).outputs["cp"]
    other = Subject("other", drawn(random, False))
    apart = simulate(
        model, [*(Subject(str(i), schedule) for i in range(6)), other], {k: np.append(v, v[0]) for k, v in values.items()}
    )
    np.testing.assert_allclose(apart.outputs["cp"][:6, : len(schedule)], shared, rtol=1e-12, atol=1e-12)


def read_out(s: Schedule, **values: Any) -> Array:
    model = registry.get("pk1_iv")
    return simulate(model, s, {"CL": 2.0, "V": 20.0, **values}).outputs["cp"][0]


def test_an_observation_before_a_dose_at_the_same_time_does_not_see_it() -> None:
    s = Schedule.of([0.0, 5.0, 5.0, 5.0], evid=[1, 0, 1, 0], amount=[100.0, 0.0, 100.0, 0.0])
    before, with_dose, after = read_out(s)[1:]
    assert before == pytest.approx(5 * np.exp(-0.5), rel=1e-12)
    assert after == with_dose == pytest.approx(5 * np.exp(-0.5) + 5, rel=1e-12)


def test_a_reset_cancels_pending_doses_and_running_infusions() -> None:
    s = Schedule().dose(0.0, 100.0, every=4.0, times=9).dose(1.0, 60.0, duration=30.0).reset(6.0).observe([5.9, 6.1, 12.0, 40.0])
    got = read_out(s)[s.evid == 0]
    assert got[0] > 5
    assert got[1:].tolist() == [0.0, 0.0, 0.0]


def test_a_lagged_dose_given_before_a_reset_never_arrives() -> None:
    s = Schedule().dose(0.0, 100.0).reset(2.0).observe([1.0, 4.0, 9.0])
    assert read_out(s, ALAG1=3.0).tolist() == [0.0, 0.0, 0.0, 0.0, 0.0]


def test_a_dose_into_a_port_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"column CMT, value '3': subject 1: no such compartment in pk1_iv; use one of: 1 central"
    ):
        read_out(Schedule().dose(0.0, 100.0, port=3).observe(1.0))
