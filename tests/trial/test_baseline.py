"""The table of baseline values: what it counts, of whom, and what it leaves to the reader."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from tests.trial.protocols import estimand, repeated, run

from gemello.trial import baseline


def patients() -> pl.DataFrame:
    """Six in each arm; ages, a score of few levels, a region; an age missing, an outcome missing."""
    return pl.DataFrame({
        "id": list(range(12)), "arm": ["c"] * 6 + ["t"] * 6, "age": [50.0, 60, 70, None, 55, 65, 41, 42, 43, 44, 45, 46],
        "grade": [1, 1, 2, 2, 1, 2, 1, 2, 2, 2, 2, 1], "region": ["n", "s", "s", "s", "n", "s", "n", "n", "s", "s", "n", "s"],
        "y": [1.0, 2, 3, 4, 2, 1, 2, 4, 5, None, 3, 4],
    })  # fmt: skip


def test_numbers_levels_and_missing_values(tmp_path: Path) -> None:
    """Control: ages 50, 55, 60, 65, 70, mean 60, SD 7.906; t: 41 to 46, 43.5, 1.871. One without an outcome counts."""
    found = run(
        tmp_path, patients(), endpoint={"kind": "continuous", "outcome": "y"}, analysis={"covariates": ["factor(grade)", "age"]},
        randomisation={"scheme": "permuted-block", "strata": ["region"]},
    )  # fmt: skip
    told = baseline.table(found)
    assert told is not None
    assert told.columns == ("", "c (n = 6)", "t (n = 6)", "all (n = 12)")
    assert told.rows == (
        ("grade: 1", "3 (50.0 %)", "2 (33.3 %)", "5 (41.7 %)"),
        ("grade: 2", "3 (50.0 %)", "4 (66.7 %)", "7 (58.3 %)"),
        ("age", "60 (7.91)", "43.5 (1.87)", "51 (10)"),
        ("age: missing", "1", "0", "1"),
        ("region: n", "2 (33.3 %)", "3 (50.0 %)", "5 (41.7 %)"),
        ("region: s", "4 (66.7 %)", "3 (50.0 %)", "7 (58.3 %)"),
    )


def test_a_protocol_without_covariates_has_none(tmp_path: Path) -> None:
    assert baseline.table(run(tmp_path, patients(), endpoint={"kind": "continuous", "outcome": "y"})) is None


def test_intercurrent_events_are_counted_by_participant(tmp_path: Path) -> None:
    """Three visits each; an event that is marked at one or at all of them is one participant's."""
    table = repeated(40)
    found = run(
        tmp_path, table, endpoint={"kind": "repeated", "outcome": "y", "visit": "visit", "at": "week 12"},
        estimand=estimand(leaving={"strategy": "treatment policy", "column": "off"}, death={"strategy": "treatment policy"}),
    )  # fmt: skip
    told = baseline.events(found)
    assert told is not None
    one = table.unique("id")
    expected = [int(one.filter(pl.col("arm") == a)["off"].sum()) for a in ("c", "t")]
    assert told.rows == (("leaving", "treatment policy", *(f"{n} ({100 * n / 20:.1f} %)" for n in expected)),)
