"""Data of a protocol that cannot be used, and covariates that may not be: one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.trial.protocols import repeated, run, simple

from gemello.base.errors import GemelloError, RefusalError

ONCE: dict[str, Any] = {"kind": "continuous", "outcome": "y"}
VISITS: dict[str, Any] = {"kind": "repeated", "outcome": "y", "visit": "visit", "at": "week 12"}
TABLE = simple(40)
Y, T = pl.col("y"), pl.col("arm") == "t"
COUNT, TIME = {"kind": "count", "outcome": "y"}, {"kind": "time-to-event", "outcome": "y", "event": "off"}
NOBODY = pl.when(pl.col("id") == 3).then(None).otherwise(pl.col("id")).alias("id")


def _one_of_t(table: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([table.filter(~T), table.filter(T).head(1)])


@pytest.mark.parametrize(("table", "sections", "words"), [
    (_one_of_t(TABLE), {}, "1 subject in arm t; an arm needs at least 2"),
    (TABLE, {"arms": {"column": "arm", "control": "c", "active": ["z"]}}, "0 subjects in arm z"),
    (TABLE, {"where": {"x": {"from": 1e6}}}, "no row stays"),
    (TABLE, {"where": {"site": {"from": 1}}}, "no column of numbers"),
    (TABLE, {"where": {"nowhere": 1}}, "no such column"),
    (pl.concat([TABLE, TABLE.head(1)]), {}, "subject 0 stands 2 times"),
    (pl.concat([TABLE, TABLE.head(1).with_columns(arm=pl.lit("t"))]), {}, "a subject in two arms"),
    (TABLE.with_columns(pl.when(pl.col("id") == 3).then(None).otherwise(pl.col("arm")).alias("arm")), {}, "no arm"),
    (TABLE.with_columns(NOBODY), {}, "a row without subject"),
    (TABLE.with_columns(pl.when(T).then(None).otherwise(Y).alias("y")), {}, "0 subjects of arm t with outcome"),
    (TABLE.with_columns(pl.lit("high").alias("y")), {}, "no column of numbers"),
    (TABLE.with_columns(pl.lit(2.0).alias("y")), {}, "the same for every subject"),
    (TABLE.rename({"x": "prognostic_score"}), {}, "a name that the analysis uses itself"),
    (TABLE, {"analysis": {"covariates": ["nope"]}}, "no such covariate"),
    (TABLE, {"analysis": {"covariates": ["arm"]}}, "the arm is no covariate"),
    (TABLE, {"analysis": {"covariates": ["__import__('os')"]}}, "not understood"),
    (TABLE, {"analysis": {"covariance": "HC9"}}, "HC9"),
    (TABLE, {"sensitivity": ["magic"]}, "unknown sensitivity analysis"),
    (TABLE, {"sensitivity": ["hazard ratio"]}, "unknown sensitivity analysis"),
    (TABLE, {"endpoint": {"kind": "binary", "outcome": "off", "order": ["no", "yes"]}}, "a level without place"),
    (TABLE.with_columns(T.cast(pl.Int64).alias("y")), {"endpoint": {"kind": "binary", "outcome": "y"}}, "separates"),
    (TABLE, {"endpoint": {"kind": "binary", "outcome": "y"}}, "0 or 1"),
    (TABLE.with_columns((Y.round(0).cast(pl.Int64) - 60).alias("y")), {"endpoint": COUNT}, "a count is"),
    (TABLE, {"endpoint": {"kind": "count", "outcome": "off", "exposure": "off"}}, "exposure must be above 0"),
    (TABLE.with_columns(pl.col("off") + 1), {"endpoint": TIME}, "event codes"),
    (TABLE.with_columns(-Y), {"endpoint": TIME}, "no time of follow-up"),
])  # fmt: skip
def test_one_line_each(tmp_path: Path, table: pl.DataFrame, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(GemelloError) as error:
        run(tmp_path, table, **({"endpoint": ONCE} | sections))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: pl.concat([t, t.head(1)]), "stands 2 times at visit week 4"),
    (lambda t: t.with_columns(pl.col("visit").replace("week 8", None)), "without visit"),
    (lambda t: t.with_columns(pl.when(pl.col("visit") == "week 12").then(1.0).otherwise("y").alias("y")), "fewer parameters"),
    (lambda t: t.with_columns((0.8 * pl.col("x") + pl.col("id") % 7).alias("y")), "not positive definite"),
])  # fmt: skip
def test_repeated(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(GemelloError) as error:
        run(tmp_path, change(repeated(40)), endpoint=VISITS)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("covariate", "words"), [("y", "it is the outcome"), ("lab", "list after_randomisation")])
def test_covariates_seen_after_randomisation(tmp_path: Path, covariate: str, words: str) -> None:
    table = TABLE.with_columns((Y + pl.col("x")).alias("lab"))
    with pytest.raises(RefusalError, match=words):
        run(tmp_path, table, endpoint=ONCE, after=["lab"], analysis={"covariates": [covariate]})


def test_a_covariate_that_changes_within_a_subject(tmp_path: Path) -> None:
    table = repeated(40).with_row_index("k").with_columns((pl.col("x") + pl.col("k")).alias("now"))
    with pytest.raises(RefusalError, match="changes within a subject"):
        run(tmp_path, table, endpoint=VISITS, analysis={"covariates": ["now"]})


def test_where_and_log(tmp_path: Path) -> None:
    table = TABLE.with_columns(pl.when(pl.col("id") < 6).then(pl.lit("LOCF")).alias("dtype"))
    found = run(tmp_path, table, endpoint=ONCE, where={"dtype": None, "site": ["a", "b"]})
    assert sum(found.prepared.subjects.values()) == 34
    assert found.prepared.log[:2] == ("trial.csv: 40 rows", "dtype one of empty: 34 of 40 rows stay")
