"""Estimands: what is refused, what each strategy does to records, and the log of it."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.estimand import (
    ALIGNED,
    HANDLINGS,
    STRATEGIES,
    Estimand,
    IntercurrentEvent,
    Sensitivity,
    Treatment,
    Variable,
    apply,
)

STOP = IntercurrentEvent("stop", "treatment policy", "J2R")
RESCUE = IntercurrentEvent("rescue", "hypothetical", "MAR")
DEATH = IntercurrentEvent("death", "composite", value=70.0)
BASE = Estimand(
    Treatment("arm", "drug", "placebo"), "mild to moderate disease", Variable("y", "points", "week 24", "change in score"),
    (STOP, RESCUE, DEATH), "difference in means",
)  # fmt: skip
TABLE = pl.DataFrame({
    "id": ["a"] * 4 + ["b"] * 4 + ["c"] * 4, "week": [0, 8, 16, 24] * 3, "arm": ["drug"] * 4 + ["placebo"] * 8,
    "y": [1.0, 2, 3, 4, 5, 6, 7, None, 9, 10, 11, 12], "sex": ["F"] * 4 + ["M"] * 8, "tolerant": [1] * 8 + [0] * 4,
})  # fmt: skip


def events(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"id": pl.String, "event": pl.String, "time": pl.Float64}, orient="row")


def outcomes(estimand: Estimand, *rows: tuple[str, str, float]) -> dict[str, list[float | None]]:
    out = apply(estimand, TABLE, events(*rows), subject="id", time="week").table
    return {who: g["y"].to_list() for (who,), g in out.group_by(["id"], maintain_order=True)}


def test_each_strategy() -> None:
    assert outcomes(BASE, ("a", "stop", 8))["a"] == [1, 2, 3, 4]
    assert outcomes(BASE, ("a", "rescue", 8))["a"] == [1, 2, None, None]
    assert outcomes(BASE, ("a", "death", 10))["a"] == [1, 2, 70, 70]
    locf = replace(BASE, events=(IntercurrentEvent("stop", "while on treatment", "LOCF"),))
    assert outcomes(locf, ("a", "stop", 8))["a"] == [1, 2, 2, 2]
    left = replace(BASE, events=(IntercurrentEvent("stop", "while on treatment"),))
    assert outcomes(left, ("a", "stop", 8))["a"] == [1, 2, None, None]
    stratum = replace(BASE, events=(IntercurrentEvent("intolerance", "principal stratum", stratum=("tolerant", 1)),))
    assert set(outcomes(stratum)) == {"a", "b"}


def test_the_earliest_event_governs() -> None:
    """Rescue at 8 makes later values missing; a death at 16 belongs to what would have been without rescue. The reverse order
    too."""
    assert outcomes(BASE, ("a", "death", 16), ("a", "rescue", 8))["a"] == [1, 2, None, None]
    assert outcomes(BASE, ("a", "rescue", 16), ("a", "death", 8))["a"] == [1, 2, 70, 70]
    assert outcomes(BASE, ("a", "rescue", 8), ("a", "death", 8))["a"] == [1, 2, None, None]
    # treatment policy changes nothing, so what comes later still does
    assert outcomes(BASE, ("a", "stop", 4), ("a", "death", 16))["a"] == [1, 2, 3, 70]
    assert outcomes(BASE, ("a", "stop", 4), ("a", "rescue", 8))["a"] == [1, 2, None, None]
    out = apply(BASE, TABLE, events(("a", "stop", 4), ("a", "rescue", 16)), subject="id", time="week").table
    assert out.filter(pl.col("id") == "a")["gemello_handling"].to_list() == ["MAR", "J2R", "J2R", "MAR"]


def test_log_and_counts() -> None:
    out = apply(BASE, TABLE, events(("a", "rescue", 8), ("b", "stop", 16), ("c", "death", 20)), subject="id", time="week")
    assert out.counts == {"set missing": 2, "replaced": 1, "dropped": 0}
    assert out.log["subject"].to_list() == ["a", "b", "c"]
    assert out.log["rows"].to_list() == [2, 0, 1]
    assert "filled by MAR" in out.log["action"][0]
    marked = out.table.filter(pl.col("gemello_after"))
    assert marked["gemello_event"].to_list() == ["rescue", "rescue", "stop", "death"]
    assert out.table.filter((pl.col("id") == "b") & (pl.col("week") == 24))["gemello_handling"].item() == "J2R"
    assert TABLE["y"].null_count() == 1  # the records themselves are untouched


def test_population_and_arms() -> None:
    women = replace(BASE, restrict={"sex": ["F"]})
    out = apply(women, TABLE, events(), subject="id", time="week")
    assert out.table["id"].unique().to_list() == ["a"]
    assert out.counts["dropped"] == 8
    assert out.log["action"].to_list() == ["left out: population"] * 2
    with pytest.raises(DataError, match="nobody"):
        apply(replace(BASE, restrict={"sex": "X"}), TABLE, events(), subject="id", time="week")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_alignment_of_handlings(strategy: str) -> None:
    """Every pair of strategy and handling is either aligned or refused."""
    more = {"composite": {"value": 0.0}, "principal stratum": {"stratum": ("s", 1)}}.get(strategy, {})
    for handling in HANDLINGS:
        found = list(IntercurrentEvent("e", strategy, handling, **more).problems())  # type: ignore[arg-type]
        assert bool(found) == (handling not in ALIGNED[strategy])  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"population": " "}, "no population"),
        ({"summary": "mean"}, "summary"),
        ({"treatment": Treatment("arm", "drug", "drug")}, "with itself"),
        ({"events": (STOP, STOP)}, "two strategies"),
        ({"events": (IntercurrentEvent("x", "ignore"),)}, "not one of"),
        ({"events": (IntercurrentEvent("x", "hypothetical", "J2R"),)}, "does not answer"),
        ({"events": (IntercurrentEvent("x", "composite"),)}, "a value belongs"),
        ({"events": (IntercurrentEvent("x", "treatment policy", value=1.0),)}, "a value belongs"),
        ({"events": (IntercurrentEvent("x", "principal stratum"),)}, "a stratum belongs"),
        ({"missing": "zero"}, "handling"),
        ({"sensitivity": (Sensitivity("s", "nothing"),)}, "changes nothing"),
        ({"sensitivity": (Sensitivity("s", "v", {"rescue": "J2R"}),)}, "change the question"),
        ({"sensitivity": (Sensitivity("s", "v", {"other": "MAR"}),)}, "not in the estimand"),
        ({"sensitivity": (Sensitivity("s", "v", delta={"third": 1.0}),)}, "no arm"),
    ],
)
def test_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(BASE, **change)


@pytest.mark.parametrize(
    ("table", "rows", "words"),
    [
        (TABLE, [("a", "pregnancy", 8.0)], "without a strategy"),
        (TABLE, [("z", "stop", 8.0)], "nobody in the table"),
        (TABLE, [("a", "stop", None)], "without a time"),
        (pl.concat([TABLE, TABLE[:1]]), [], "two rows"),
        (TABLE.drop("y"), [], "no such column"),
        (TABLE.with_columns(week=pl.col("week").cast(pl.String)), [], "column of numbers"),
    ],
)
def test_records_refused(table: pl.DataFrame, rows: list[tuple[str, str, float]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        apply(BASE, table, events(*rows), subject="id", time="week")


def test_aligned_sensitivity_and_words() -> None:
    full = replace(BASE, sensitivity=(Sensitivity("worse", "at random", {"stop": "CR"}, {"drug": 2.0}),))
    assert json.loads(json.dumps(full.as_dict()))["events"][0]["strategy"] == "treatment policy"
    said = full.words()
    for part in ("Difference in means", "change in score (points) at week 24", "drug and placebo", "rescue: hypothetical"):
        assert part in said
