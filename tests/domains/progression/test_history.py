"""Histories from tables."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.domains.progression.history import from_long, from_wide

LONG = pl.DataFrame({
    "id": ["b", "a", "a", "b", "c"], "t": [0.0, 5.0, 0.0, 3.0, 0.0], "y": [1.0, 2.5, 2.0, None, 4.0],
    "sex": ["M", "F", "F", "M", None], "end": [9.0, 8.0, 8.0, 9.0, 7.0], "died": [1, 0, 0, 1, 0],
})  # fmt: skip


def read(table: pl.DataFrame = LONG, **more: object):
    return from_long(
        table, person="id", time="t", longitudinal=["y"], baseline=["sex"], events={"death": ("end", "died")}, **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_long() -> None:
    h = read()
    assert h.persons == ("b", "a", "c")
    assert h.time.tolist() == [0.0, 3.0, 0.0, 5.0, 0.0]
    assert h.values["y"][[0, 2, 3, 4]].tolist() == [1.0, 2.0, 2.5, 4.0]
    assert h.baseline["sex=M"][:2].tolist() == [1.0, 0.0]
    assert np.isnan(h.baseline["sex=M"][2])
    assert h.event_time["death"].tolist() == [9.0, 8.0, 7.0]
    assert [v.kind for v in h.variables] == ["binary", "continuous", "event"]


def test_wide_is_the_same_as_long() -> None:
    wide = LONG.group_by("id", maintain_order=True).agg(pl.col("sex", "end", "died").first()).with_columns(
        y0=pl.Series([1.0, 2.0, 4.0]), y5=pl.Series([None, 2.5, None])
    )  # fmt: skip
    w = from_wide(wide, person="id", visits={"y": {0: "y0", 5: "y5"}}, baseline=["sex"], events={"death": ("end", "died")})
    assert w.persons == ("b", "a", "c")
    assert w.time.tolist() == [0.0, 0.0, 5.0, 0.0]
    assert w.at_zero("y").tolist() == [1.0, 2.0, 4.0]


def test_a_second_table_reads_like_the_first() -> None:
    h = read()
    other = LONG.filter(pl.col("id") == "a").drop("end", "died")
    again = from_long(other, person="id", time="t", longitudinal=["y"], baseline=["sex"], like=h)
    assert again.variables == h.variables
    assert again.baseline["sex=M"].tolist() == [0.0]
    less = from_long(other.drop("sex"), person="id", time="t", longitudinal=["y"], like=h)
    assert np.isnan(less.baseline["sex=M"]).all()
    with pytest.raises(DataError, match="not in the history"):
        from_long(other.with_columns(z=1.0), person="id", time="t", longitudinal=["y", "z"], like=h)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pl.concat([LONG, LONG[:1]]), "second visit"),
        (LONG.with_columns(t=pl.Series([0.0, None, 0.0, 3.0, 0.0])), "no time"),
        (LONG.with_columns(died=pl.lit(2)), "status"),
        (LONG.with_columns(y=pl.when(pl.col("id") == "c").then(None).otherwise("y")), "only of missing values"),
        (LONG.with_columns(y=pl.lit("x")), "words|only of missing"),
        (LONG.drop("sex"), "no such column"),
    ],
)  # fmt: skip
def test_refusals(table: pl.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(table)


def test_bounds_are_kept() -> None:
    with pytest.raises(DataError, match="outside of 0 to 3"):
        read(bounds={"y": (0, 3)})
    assert next(v for v in read(bounds={"y": (0, 9)}).variables if v.name == "y").upper == 9


def test_kinds_are_inferred() -> None:
    table = pl.DataFrame({"two": [1, 2] * 6, "few": [0, 1, 2] * 4, "many": np.linspace(0, 1, 12), "whole": range(12)})
    kinds = {v.name: v.kind for v in from_wide(table, baseline=table.columns).variables}
    assert kinds == {"two": "binary", "few": "ordinal", "many": "continuous", "whole": "continuous"}


@pytest.mark.parametrize("words", [["female", "male"], ["f", "m"], ["Z", "Z"]])
def test_words_that_the_first_history_lacks_are_not_read_as_its_first_level(words):
    table = pl.DataFrame({"id": ["a", "b"], "t": [0.0, 0.0], "y": [1.0, 2.5], "sex": ["F", "M"]})
    columns = {"person": "id", "time": "t", "longitudinal": ["y"], "baseline": ["sex"]}
    first = from_long(table, **columns)
    with pytest.raises(DataError, match="sex"):
        from_long(table.with_columns(sex=pl.Series(words)), **columns, like=first)
    again = from_long(table.with_columns(sex=pl.Series(["F", "F"])), **columns, like=first)
    assert again.baseline["sex=M"].tolist() == [0, 0]


def test_an_infinite_value_is_refused():
    table = pl.DataFrame({"id": ["a", "b"], "t": [0.0, 0.0], "y": [1.0, float("inf")]})
    with pytest.raises(DataError, match="infinite"):
        from_long(table, person="id", time="t", longitudinal=["y"])
