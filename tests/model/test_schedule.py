"""Schedules: what each verb adds, the order of records at one time, covariates carried backward, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.model.schedule import DOSE, OBSERVATION, OTHER, Schedule, Subject

TIMES = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=8).map(sorted)


@st.composite
def schedules(draw: Any) -> Schedule:
    """Doses and observations on whole hours, some with a weight."""
    t = np.array(draw(TIMES))
    given_dose = np.array(draw(st.lists(st.booleans(), min_size=len(t), max_size=len(t))))
    order = np.lexsort((given_dose, t))
    t, given_dose = t[order], given_dose[order]
    columns = {"WT": 50.0 + t} if draw(st.booleans()) else {}
    return Schedule.of(t, columns, evid=given_dose.astype(int), amount=np.where(given_dose, 1.0 + np.arange(len(t)), 0.0))


@given(schedules(), schedules())
def test_merge_keeps_every_record_in_order(a: Schedule, b: Schedule) -> None:
    both = a.merge(b)
    assert len(both) == len(a) + len(b)
    assert (np.diff(both.time) >= 0).all()
    assert sorted(zip(both.time, both.amount, strict=True)) == sorted(
        [*zip(a.time, a.amount, strict=True), *zip(b.time, b.amount, strict=True)]
    )
    for t in both.time:  # at one time what is seen comes before what is done
        kinds = both.evid[both.time == t] != OBSERVATION
        assert (np.diff(kinds.astype(int)) >= 0).all()
    Subject("1", both).check()


@given(schedules(), schedules())
def test_merge_keeps_the_order_of_records_that_do_something(a: Schedule, b: Schedule) -> None:
    both = a.merge(b)
    for part in (a, b):
        amounts = part.amount[part.evid == DOSE]
        if len(set(a.amount[a.evid == DOSE]) & set(b.amount[b.evid == DOSE])) == 0:
            there = [x for x in both.amount if x in set(amounts)]
            assert there == amounts.tolist()


@given(schedules(), schedules())
def test_a_covariate_that_one_part_has_reaches_the_other_from_its_next_record(a: Schedule, b: Schedule) -> None:
    both = a.merge(b)
    if not a.columns and not b.columns:
        assert not both.columns
        return
    weight = both.columns["WT"]
    assert len(weight) == len(both)
    known = np.concatenate([s.time for s in (a, b) if s.columns])
    for t, w in zip(both.time, weight, strict=True):
        later = known[known >= t]
        assert w == 50.0 + (later.min() if len(later) else known.max())


def test_merge_with_nothing_gives_the_other() -> None:
    one = Schedule.of([1.0], amount=2.0, evid=1)
    assert one.merge(Schedule()) is one
    assert Schedule().merge(one) is one


def test_dose_spells_out_an_infusion_and_its_repeats() -> None:
    s = Schedule().dose(2.0, 120.0, port=2, duration=0.5, every=12.0, times=3, steady_state=1)
    assert (s.time[0], s.evid[0], s.port[0], s.amount[0], s.rate[0]) == (2.0, 1, 2, 120.0, 240.0)
    assert (s.interval[0], s.additional[0], s.steady_state[0]) == (12.0, 2, 1)
    assert Schedule().dose(0.0, 1.0, reset=True).evid[0] == 4


@pytest.mark.parametrize("bad", [{"duration": -1.0}, {"rate": -3.0}, {"times": 0}, {"times": 2}])
def test_an_impossible_dose_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a dose needs duration 0 or more"):
        Schedule().dose(0.0, 1.0, **bad)


def test_without_values_nothing_is_censored() -> None:
    s = Schedule().dose(0.0, 1.0).observe([1.0, 2.0], [0.5, 0.5], censored=[0, 1]).without_values()
    assert not s.measured.any()
    Subject("1", s).check()  # a limit without a value would be refused


def test_observations_with_and_without_values() -> None:
    s = Schedule().observe([1.0, 2.0], [5.0, np.nan]).observe(3.0, output=1)
    assert s.measured.tolist() == [True, False, False]
    assert s.output.tolist() == [0, 0, 1]
    assert not s.without_values().measured.any()


def test_change_takes_effect_after_its_time() -> None:
    """Next observation carried backward: the record at the time of the change still carries the old value."""
    s = Schedule.of([0.0, 4.0, 8.0, 12.0]).covariates(WT=70.0, AGE=40.0).change(8.0, WT=60.0)
    assert s.time.tolist() == [0.0, 4.0, 8.0, 8.0, 12.0]
    assert s.columns["WT"].tolist() == [70.0, 70.0, 70.0, 70.0, 60.0]
    assert s.columns["AGE"].tolist() == [40.0] * 5
    assert s.evid[3] == OTHER


def test_change_of_an_unknown_covariate_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"column WT: is not among the schedule's covariates; give its first value with covariates\(\)"
    ):
        Schedule.of([0.0]).change(1.0, WT=60.0)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(TypeError, match="Schedule has no column dose"):
        Schedule.of([0.0], dose=1.0)


def test_take_keeps_columns_in_step() -> None:
    s = Schedule.of([0.0, 1.0, 2.0], {"WT": [1.0, 2.0, 3.0]}, value=[4.0, 5.0, 6.0])
    for chosen in (np.array([False, True, True]), [1, 2]):
        assert (s.take(chosen).time.tolist(), s.take(chosen).value.tolist(), s.take(chosen).columns["WT"].tolist()) == (
            [1, 2],
            [5, 6],
            [2, 3],
        )


def test_arrays_of_a_schedule_are_its_own() -> None:
    time = np.array([0.0, 1.0])
    s = Schedule.of(time, {"WT": 70.0}, amount=time)
    s.amount[0] = 9.0
    assert time[0] == 0.0


BAD = [
    ("TIME", {"time": [1.0, 0.0]}, "time runs backwards"),
    ("TIME", {"time": [0.0, np.nan]}, "time is not a number"),
    ("TIME", {"time": [-1.0, 0.0]}, "time is negative"),
    ("EVID", {"evid": [0, 5]}, "unknown event"),
    ("AMT", {"amount": [0.0, np.inf]}, "amount is not a number"),
    ("AMT", {"evid": [0, 1], "rate": [0.0, 2.0]}, "an infusion without amount"),
    ("RATE", {"rate": [0.0, -3.0]}, "impossible rate"),
    ("RATE", {"rate": [0.0, np.inf]}, "impossible rate"),
    ("SS", {"steady_state": [0, 3]}, "unknown steady state"),
    ("II", {"evid": [0, 1], "amount": 1.0, "steady_state": [0, 1]}, "a steady state without interval"),
    ("II", {"interval": [0.0, -1.0]}, "interval is not 0 or more"),
    ("ADDL", {"additional": [0, -1]}, "negative number"),
    ("II", {"evid": [0, 1], "amount": 1.0, "additional": [0, 2]}, "additional doses without interval"),
    ("CMT", {"port": [0, -1]}, "negative compartment number"),
]


@pytest.mark.parametrize(("column", "given_columns", "words"), BAD, ids=[w for _, _, w in BAD])
def test_a_record_that_cannot_be_is_refused_with_its_row(column: str, given_columns: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as e:
        Subject("9", Schedule.of(**{"time": [0.0, 1.0], "row": [7, 8], **given_columns})).check()
    assert (e.value.column, f"subject 9: {words}" in str(e.value), bool(e.value.remedy)) == (column, True, True)
    assert e.value.row == (7 if words == "time is negative" else 8)


def test_no_records_are_refused() -> None:
    with pytest.raises(DataError, match="subject 9 has no records"):
        Subject("9", Schedule()).check()
