"""The record only grows, and refuses what is there already or contradicts it."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.model.schedule import Schedule
from gemello.twin.record import Record, schedule_hash


def first() -> Record:
    s = Schedule().dose(0.0, 100.0).observe([2.0, 4.0], [8.0, 6.0]).dose(12.0, 100.0).covariates(WT=70.0)
    return Record("7").add(s)


def test_pieces_merge_in_order_of_time_and_stay_readable() -> None:
    one = first()
    two = one.add(Schedule().observe([3.0, 14.0], [7.0, 9.0]))  # a late result, and a new one
    np.testing.assert_array_equal(two.schedule.time, [0, 2, 3, 4, 12, 14])
    np.testing.assert_array_equal(two.schedule.columns["WT"], 70.0)
    assert len(one) == 4
    assert [len(p.schedule) for p in two.pieces] == [4, 2]
    assert two.pieces[0] is one.pieces[0]
    assert (one.last, two.last) == (12.0, 14.0)


def test_the_hash_depends_on_content_and_order_not_on_rows() -> None:
    a, b = Schedule().observe(1.0, 2.0), Schedule().observe(3.0, 4.0)
    numbered = Schedule.of(1.0, value=2.0, row=17)
    assert schedule_hash(a) == schedule_hash(numbered)
    assert schedule_hash(a) != schedule_hash(b)
    assert Record("1").add(a).add(b).hash != Record("1").add(b).add(a).hash
    assert Record("1").add(a).hash != Record("2").add(a).hash


def test_replicates_that_come_together_are_kept() -> None:
    assert len(Record("1").add(Schedule().observe([1.0, 1.0], [2.0, 2.1]))) == 2


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (Schedule().observe(2.0, 8.0), "time 2: is already in the record"),
        (Schedule().observe(2.0, 9.0), "time 2: contradicts the record"),
        (Schedule().dose(12.0, 100.0), "AMT, value '100.0': .*already in the record"),
        (Schedule().dose(12.0, 150.0), "time 12: contradicts"),
        (Schedule().reset(3.0), "EVID.*reset before records"),
        (Schedule().observe(3.0, 7.0).covariates(WT=80.0), "WT, value '80.0': .*WT is 70 then"),
        (Schedule().observe(-1.0, 7.0), "time is negative"),
        (Schedule(), "no records"),
    ],
)
def test_what_cannot_be_is_refused(new: Schedule, words: str) -> None:
    with pytest.raises(DataError, match=words):
        first().add(new)


def test_what_does_not_contradict_is_taken() -> None:
    r = first()
    assert len(r.add(Schedule().observe(2.0, 8.0, output=1))) == 5  # another output at the same time
    assert len(r.add(Schedule().dose(12.0, 100.0, port=2))) == 5  # another port
    assert len(r.add(Schedule().dose(1.0, 50.0))) == 5  # a dose that had not been written down
    assert len(r.add(Schedule().reset(13.0))) == 5
    assert len(r.add(Schedule().observe(20.0, 1.0).covariates(WT=80.0))) == 5  # weight has changed since
