"""Strategies for intercurrent events, by kind of endpoint: what they do to the data, and what they cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.trial.protocols import estimand, repeated, run, simple

from gemello.base.errors import DataError, RefusalError, UnsupportedError

ONCE: dict[str, Any] = {"kind": "continuous", "outcome": "y"}
VISITS: dict[str, Any] = {
    "kind": "repeated", "outcome": "y", "visit": "visit", "at": "week 12", "baseline": "x",
    "times": {"week 4": 4, "week 8": 8, "week 12": 12},
}  # fmt: skip
TIMES: dict[str, Any] = {"kind": "time-to-event", "outcome": "days", "event": "seen"}


def _stopping(strategy: str, **more: Any) -> dict[str, Any]:
    return estimand(stopping={"strategy": strategy, "column": "off", **more})


def test_measured_once(tmp_path: Path) -> None:
    table = simple()
    n = int(table["off"].sum())
    policy = run(tmp_path, table, endpoint=ONCE, estimand=_stopping("treatment policy"))
    assert policy.primary[0].estimate.n == len(table)
    gone = run(tmp_path, table, endpoint=ONCE, estimand=_stopping("hypothetical"))
    assert gone.primary[0].estimate.n == len(table) - n
    assert gone.applied.log == (f"stopping: hypothetical; {n} outcomes set missing",)
    worst = run(tmp_path, table, endpoint=ONCE, estimand=_stopping("composite", value=0))
    y = np.where(table["off"] == 1, 0.0, table["y"])
    t = (table["arm"] == "t").to_numpy()
    assert worst.primary[0].estimate.estimate == pytest.approx(y[t].mean() - y[~t].mean(), rel=1e-9)
    with pytest.raises(UnsupportedError, match="while on treatment"):
        run(tmp_path, table, endpoint=ONCE, estimand=_stopping("while on treatment"))


def test_repeated(tmp_path: Path) -> None:
    table = repeated()
    after = table.filter(
        (pl.col("off") == 1) & (pl.col("visit").str.slice(5).cast(pl.Float64) > pl.col("when")) & pl.col("y").is_not_null()
    )
    found = run(tmp_path, table, endpoint=VISITS, estimand=_stopping("hypothetical", time="when"))
    assert found.applied.touched == len(after)
    seen = found.applied.table.filter(pl.col("y").is_not_null())
    assert len(seen) == table["y"].drop_nulls().len() - len(after)
    kept = run(tmp_path, table, endpoint=VISITS, estimand=_stopping("while on treatment", time="when")).applied.table
    one = after.row(0, named=True)
    mine = kept.filter(pl.col("id") == one["id"]).sort("visit_time")["y"].to_list()
    assert mine[-1] == mine[-2]  # carried forward
    composite = run(tmp_path, table, endpoint=VISITS, estimand=_stopping("composite", time="when", value=5)).applied.table
    assert (composite["y"] == 5).sum() >= len(after)


def test_time_to_event(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = simple().with_columns(
        pl.Series("days", rng.exponential(100, 120) + 1), pl.Series("seen", (rng.random(120) < 0.8).astype(int)),
        pl.Series("when", np.full(120, 20.0)),
    )  # fmt: skip
    first = int(((table["off"] == 1) & (table["days"] > 20)).sum())
    lost = run(tmp_path, table, endpoint=TIMES, estimand=_stopping("hypothetical", time="when") | {"summary": "hazard ratio"})
    assert lost.applied.touched == first
    assert "censors" in lost.applied.log[0]
    counted = run(tmp_path, table, endpoint=TIMES, estimand=_stopping("composite", time="when") | {"summary": "log-rank"})
    assert counted.applied.table["seen"].sum() > lost.applied.table["seen"].sum()
    empty = table.with_columns(pl.when(pl.col("id") > 60).then(None).otherwise(pl.col("when")).alias("when"))
    with pytest.raises(DataError, match="stopping without a time"):
        run(tmp_path, empty, endpoint=TIMES, estimand=_stopping("hypothetical", time="when") | {"summary": "hazard ratio"})


def test_principal_stratum_must_be_known_before(tmp_path: Path) -> None:
    table = simple().with_columns(
        (pl.col("site") == "a").cast(pl.Int64).alias("in_a"), (pl.col("arm") == "t").cast(pl.Int64).alias("late")
    )
    found = run(tmp_path, table, endpoint=ONCE, estimand=estimand(s={"strategy": "principal stratum", "column": "in_a"}))
    assert found.primary[0].estimate.n == 60
    late = table.with_columns(pl.when(pl.col("id") < 6).then(1 - pl.col("late")).otherwise(pl.col("late")).alias("late"))
    with pytest.raises(RefusalError, match="not known before randomisation"):
        run(tmp_path, late, endpoint=ONCE, estimand=estimand(s={"strategy": "principal stratum", "column": "late"}))
    both = run(tmp_path, repeated().with_columns((pl.col("id") % 4 < 2).cast(pl.Int64).alias("in_a")), endpoint=VISITS,
               estimand=estimand(s={"strategy": "principal stratum", "column": "in_a"}))  # fmt: skip
    assert both.applied.table["id"].n_unique() == 40


@pytest.mark.parametrize(("event", "words"), [
    ({"strategy": "hypothetical"}, "needs the column"), ({"strategy": "hypothetical", "column": "nope"}, "no such column"),
    ({"strategy": "hypothetical", "column": "x"}, "not 0 or 1"),
])  # fmt: skip
def test_events_that_the_data_do_not_tell(tmp_path: Path, event: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        run(tmp_path, simple(), endpoint=ONCE, estimand=estimand(stopping=event))


def test_an_event_is_no_covariate(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="the intercurrent event stopping"):
        run(tmp_path, simple(), endpoint=ONCE, estimand=_stopping("treatment policy"), analysis={"covariates": ["off"]})


def test_sensitivity_to_missing_outcomes(tmp_path: Path) -> None:
    table = repeated(60)
    names = ["mar", "j2r", "tipping", "csh", "HC3", "heterogeneous"]
    found = run(tmp_path, table, endpoint=VISITS, sensitivity=names, estimand=_stopping("hypothetical", time="when"))
    said = {s.name: s for s in found.sensitivity}
    assert said["mar"].estimate is not None
    assert said["mar"].estimate.label == found.primary[0].estimate.label
    assert said["mar"].estimate.estimate == pytest.approx(found.primary[0].estimate.estimate, abs=0.5)  # the same assumption
    assert said["j2r"].words.startswith("supplementary")  # it does not answer a hypothetical question
    assert "shifts of the active arm" in said["tipping"].words
    assert said["HC3"].estimate is None
    assert "is for continuous" in said["HC3"].words
    full = run(tmp_path, simple(), endpoint=ONCE, sensitivity=["mar", "tipping"])
    assert all("no outcome is missing" in s.words for s in full.sensitivity)
