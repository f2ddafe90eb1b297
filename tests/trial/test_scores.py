"""Scores of a locked generator and of columns: used, refused, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.trial.protocols import estimand, run

from gemello.base.errors import DataError, RefusalError
from gemello.model import registry
from gemello.trial.demo import people

WEEKS = (13, 26)
ONCE = {"kind": "continuous", "outcome": "severity26", "baseline": "severity0"}
VISITS = {
    "kind": "repeated", "outcome": "severity", "visit": "visit", "at": "week 26", "baseline": "severity0",
    "times": {"week 13": 13, "week 26": 26},
}  # fmt: skip


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A generator of severity and of the event "dropout", in words too (sex)."""
    rows = people(120, 7, "history")
    one = rows.group_by("id").agg(pl.col("week").max().alias("last"))
    rows = rows.join(one, on="id").with_columns(
        (pl.col("last") < 52).cast(pl.Int64).alias("left"),
        pl.when(pl.col("id") % 2 == 0).then(pl.lit("M")).otherwise(pl.lit("F")).alias("sex"),
    )
    history, select, lock = (registry.domain("progression", part) for part in ("history", "select", "lock"))
    learnt = history.from_long(
        rows, person="id", time="week", longitudinal=["severity"], baseline=["age", "marker", "sex"],
        events={"dropout": ("last", "left")}, time_unit="week",
    )  # fmt: skip
    generator = select.get("mixed").train(learnt, seed=1)
    file = tmp_path_factory.mktemp("locked") / "generator.json"
    scores = {"variables": {"severity": {
        "n": 300, "r": 0.8, "rmse": 3.0, "crps": 1.7, "coverage": 0.9, "slope": 1.0, "slope_error": 0.05, "spread": 5.0,
    }}, "events": {}}  # fmt: skip
    return file, lock.write(generator, file, history=learnt, seed=1, scores=scores)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """One row a participant and visit; severity26 the outcome, severity0 the baseline."""
    rows = people(160, 11, "trial").filter(pl.col("week") <= 26)
    first = rows.filter(pl.col("week") == 0).select("id", pl.col("severity").alias("severity0"))
    rng = np.random.default_rng(2)
    arm = rng.permutation(np.resize(["c", "t"], len(first)))
    first = first.with_columns(pl.Series("arm", arm))
    last = rows.filter(pl.col("week") == 26).select("id", pl.col("severity").alias("severity26"))
    rows = rows.filter(pl.col("week") > 0).join(first, on="id").join(last, on="id").sort("id", "week")
    effect = pl.when(pl.col("arm") == "t").then(-4.0).otherwise(0.0)
    return rows.with_columns(
        pl.col("severity") + effect, pl.col("severity26") + effect,
        pl.format("week {}", pl.col("week").cast(pl.Int64)).alias("visit"),
        pl.when(pl.col("id") % 2 == 0).then(pl.lit("M")).otherwise(pl.lit("F")).alias("gender"),
    )  # fmt: skip


def score(locked: tuple[Path, str], **more: Any) -> dict[str, Any]:
    said = {"generator": str(locked[0]), "sha256": locked[1], "variable": "severity", "time": 26}
    return said | {"columns": {"severity": "severity0", "sex": "gender"}} | more


def once(table: pl.DataFrame) -> pl.DataFrame:
    return table.unique("id", keep="first", maintain_order=True).drop("severity", "visit", "week")


def test_used_beside_the_others(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    found = run(
        tmp_path,
        once(table),
        endpoint=ONCE,
        score=score(locked),
        sensitivity=["without score"],
        planned={"difference": 3, "sd": 6},
    )
    assert [r.adjustment for r in found.comparison.rows] == ["unadjusted", "covariates", "score", "score + covariates"]
    assert found.primary[0].adjustment == "score + covariates"
    assert found.primary[0].ess["model"] > found.comparison.rows[1].ess["model"] > 1
    assert found.score is not None
    assert found.score.model["SHA-256"] == locked[1]
    without = found.sensitivity[0].estimate
    assert without is not None
    assert without.estimate == found.comparison.rows[1].estimate.estimate
    assert "0.800" in found.power[1]  # held out, of the locked file
    assert "held-out" in found.power[1]


def test_time_matched_in_the_mixed_model(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    said = score(locked)
    del said["time"]
    found = run(tmp_path, table, endpoint=VISITS, score=said)
    scored = found.score
    assert scored is not None
    assert scored.used
    by_visit = scored.table.group_by("visit").agg(pl.col("prognostic_score").mean()).sort("visit")["prognostic_score"].to_list()
    assert by_visit[1] > by_visit[0]  # persons decline, and each visit has the forecast of its own time
    assert "the prognostic score" in found.primary[0].estimate.method
    lock = registry.domain("progression", "lock").read(*locked)
    first = once(table).select(
        pl.col("severity0").alias("severity"), "age", "marker", (pl.col("gender") == "M").cast(pl.Float64).alias("sex=M")
    )
    wanted = lock.score(first, "severity", 13.0)
    here = scored.table.filter(pl.col("visit") == "week 13")["prognostic_score"].to_numpy()
    assert here == pytest.approx(wanted, rel=1e-12)


def test_a_change_from_baseline(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    here = once(table).with_columns((pl.col("severity26") - pl.col("severity0")).alias("change"))
    endpoint = {"kind": "continuous", "outcome": "change", "baseline": "severity0"}
    level = run(tmp_path, here, endpoint=endpoint, score=score(locked))
    change = run(tmp_path, here, endpoint=endpoint, score=score(locked, change_from="severity0"))
    assert level.score is not None
    assert not level.score.used  # a forecast of the level says little of the change
    assert change.score is not None
    assert change.score.used


def test_risk_of_an_event_as_score(locked: tuple[Path, str], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = people(200, 13, "trial").filter(pl.col("week") == 0).with_columns(
        pl.Series("arm", rng.permutation(np.resize(["c", "t"], 200))),
        pl.when(pl.col("id") % 2 == 0).then(pl.lit("M")).otherwise(pl.lit("F")).alias("sex"),
        pl.Series("days", rng.exponential(100, 200)), pl.Series("seen", (rng.random(200) < 0.7).astype(int)),
    )  # fmt: skip
    endpoint = {"kind": "time-to-event", "outcome": "days", "event": "seen"}
    said = score(locked, variable="dropout") | {"columns": {}}
    found = run(tmp_path, rows, endpoint=endpoint, score=said, estimand=estimand("log-rank"))
    assert found.score is not None
    values = found.score.table["prognostic_score"].to_numpy()
    assert ((values >= 0) & (values <= 1)).all()
    assert "concordance" in found.score.figures
    again = run(tmp_path, rows, endpoint=endpoint, score=said, estimand=estimand("log-rank"))
    assert again.score is not None
    assert (again.score.table["prognostic_score"].to_numpy() == values).all()
    # times that the score knows nothing of: refused, or, in one trial of ten, let through by chance
    assert found.score.used == (
        abs(found.score.figures["concordance"]["c"] - 0.5) > 1.645 * found.score.figures["concordance"]["se"]
    )


def test_another_generator_or_a_changed_one(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="the trial refers to generator 0000"):
        run(tmp_path, once(table), endpoint=ONCE, score=score(locked, sha256="0" * 64))
    changed = tmp_path / "changed.json"
    changed.write_bytes(locked[0].read_bytes().replace(b'"seed":1', b'"seed":2', 1))
    with pytest.raises(DataError, match="the lock is broken"):
        run(tmp_path, once(table), endpoint=ONCE, score=score(locked, generator=str(changed)))


@pytest.mark.parametrize(("columns", "words"), [
    ({"severity": "severity26", "sex": "gender"}, "is the outcome, seen after randomisation"),
    ({"severity": "severity0", "sex": "gender", "marker": "lab"}, "list after_randomisation"),
])  # fmt: skip
def test_made_of_what_was_seen_later(
    locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path, columns: dict[str, str], words: str
) -> None:
    here = once(table).with_columns(pl.col("marker").alias("lab"))
    with pytest.raises(RefusalError, match=words):
        run(tmp_path, here, endpoint=ONCE, after=["lab"], score=score(locked, columns=columns))


def test_columns_that_change_within_a_subject(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    said = score(locked, columns={"severity": "severity0", "sex": "gender", "marker": "lab"})
    del said["time"]
    with pytest.raises(RefusalError, match="column lab changes within a subject"):
        run(tmp_path, table.with_columns((pl.col("marker") + pl.col("week")).alias("lab")), endpoint=VISITS, score=said)


def test_the_outcome_by_its_own_name_is_no_baseline(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    here = once(table).rename({"severity26": "severity"})  # the generator's variable has the name of the trial's outcome
    with pytest.raises(RefusalError, match="is the outcome"):
        run(
            tmp_path, here, endpoint={"kind": "continuous", "outcome": "severity"}, score=score(locked, columns={"sex": "gender"})
        )


def test_drift_is_refused_and_the_rest_goes_on(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    found = run(
        tmp_path,
        once(table).with_columns(pl.col("age") + 15),
        endpoint=ONCE,
        score=score(locked),
        planned={"difference": 3, "sd": 6},
    )
    assert found.score is not None
    assert not found.score.used
    assert any(r.startswith("drift of age") for r in found.score.reasons)
    assert [r.adjustment for r in found.comparison.rows] == ["unadjusted", "covariates"]
    assert any("refused" in w for w in found.words)
    assert "refused" in found.power[-1]


@pytest.mark.parametrize(("make", "words"), [
    (pl.col("noise"), "calibration: correlation"),
    (pl.col("severity26") * 10, "as no forecast has from baseline"),
    (pl.col("severity0") + 7 * (pl.col("arm") == "t"), "differs between the randomised arms"),
    (pl.when(pl.col("id") < 30).then(None).otherwise(pl.col("severity0")), "participants have no score"),
    (2 * pl.col("severity0") / 2, "linear function of severity0"),
])  # fmt: skip
def test_columns_that_fail(table: pl.DataFrame, tmp_path: Path, make: pl.Expr, words: str) -> None:
    here = once(table)
    noise = pl.Series("noise", np.random.default_rng(8).normal(size=len(here)))
    here = here.with_columns(noise).with_columns(make.alias("u"))
    found = run(tmp_path, here, endpoint=ONCE, score={"column": "u", "source": "a test"})
    assert found.score is not None
    assert any(words in r for r in found.score.reasons), found.score.reasons
    assert found.primary[0].adjustment == "covariates"


def test_a_slope_that_is_off_is_told_and_closes_nothing(table: pl.DataFrame, tmp_path: Path) -> None:
    """An effect that differs between participants moves the pooled slope of a score that is perfect on control."""
    here = once(table).with_columns((5 * pl.col("severity0") + pl.col("age") / 1000).alias("u"))
    found = run(tmp_path, here, endpoint=ONCE, score={"column": "u", "source": "a test"})
    assert found.score is not None
    assert not any("slope" in r for r in found.score.reasons)
    assert any("slope" in w for w in found.score.warnings)


def test_the_outcome_itself_is_no_score(table: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="is the outcome"):
        run(tmp_path, once(table), endpoint=ONCE, score={"column": "severity26", "source": "a test"})


def test_shift_and_scale_of_a_score_do_nothing(table: pl.DataFrame, tmp_path: Path) -> None:
    here = (
        once(table)
        .with_columns((pl.col("severity0") + pl.col("marker")).alias("u"))
        .with_columns((7 - 0.01 * pl.col("u")).alias("v"))
    )
    said = {"source": "a test", "same_scale": False, "limits": {"correlation": -1}}
    one = run(tmp_path, here, endpoint=ONCE, score={"column": "u", **said}).primary[0].estimate
    other = run(tmp_path, here, endpoint=ONCE, score={"column": "v", **said}).primary[0].estimate
    assert (other.estimate, other.se) == pytest.approx((one.estimate, one.se), rel=1e-10)


def test_names_that_are_none(locked: tuple[Path, str], table: pl.DataFrame, tmp_path: Path) -> None:
    for said, words in (
        ({"variable": "mood"}, "no longitudinal variable"), ({"limits": {"auk": 1}}, "not a limit of a gate"),
        ({"columns": {"mood": "severity0"}}, "not a variable of the generator"),
        ({"columns": {"severity": "sev"}}, "no such column"),
        ({"columns": {}}, "the generator reads"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            run(tmp_path, once(table), endpoint=ONCE, score=score(locked, **said))


def test_the_alzheimer_chain(shared_data: Path, tmp_path: Path) -> None:
    """Learn on the 369 historical controls, judge on the CDISC pilot: refused with reasons, and the other analyses go on."""
    history, select, lock = (registry.domain("progression", part) for part in ("history", "select", "lock"))
    old = pl.read_csv(shared_data / "trial/credsubs_alzheimers.csv")
    old = old.with_columns(
        (pl.col("Severity") - pl.col("Improvement")).alias("later"), (pl.col("Sex") == "F").cast(pl.Int64).alias("female")
    )
    visits = {"adas": {0: "Severity", 84: "later"}}
    learnt = history.from_wide(old, visits=visits, baseline=["female"], bounds={"adas": (0, 70)})
    digest = lock.write(select.get("mixed").train(learnt, seed=1), tmp_path / "ad.json", history=learnt, seed=1)
    new = pl.read_csv(shared_data / "trial/cdiscpilot_adas_total.csv", infer_schema_length=None)
    new = new.filter(pl.col("AVISIT") == "Week 24", *(pl.col(c) == "Y" for c in ("ITTFL", "EFFFL", "ANL01FL")))
    new = new.with_columns((pl.col("SEX") == "F").cast(pl.Int64).alias("female"))
    score = {"generator": "ad.json", "sha256": digest, "variable": "adas", "change_from": "BASE", "columns": {"adas": "BASE"}}
    common: dict[str, Any] = {
        "subject": "USUBJID", "arms": {"column": "TRTP", "control": "Placebo", "active": ["Xanomeline High Dose"]},
        "endpoint": {"kind": "continuous", "outcome": "CHG", "baseline": "BASE", "better": "lower"},
        "analysis": {"covariates": ["factor(SITEGR1)"]},
    }  # fmt: skip
    far = run(tmp_path, new, score=score | {"time": 168}, **common)  # week 24; the history ends at week 12
    assert far.score is not None
    assert any("learnt from visits up to 84" in r for r in far.score.reasons)
    found = run(tmp_path, new, score=score | {"time": 84}, **common)
    assert far.primary[0].estimate.estimate == found.primary[0].estimate.estimate
    assert found.score is not None
    assert not found.score.used
    assert any("calibration" in r for r in found.score.reasons)
    assert found.score.figures["drift"]["shifts"]
    assert found.score.control is not None
    assert abs(found.score.control["correlation"]["rho"]) < 0.3
    assert found.primary[0].adjustment == "covariates"
