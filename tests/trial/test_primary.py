"""Protocols of every kind of endpoint on real trials, against R 4.2.2 and SAS (reference/*.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.trial.protocols import estimand, repeated, run, simple

from gemello.base.errors import DataError
from gemello.formats.cdisc import write_table
from gemello.formats.tables import Metadata
from gemello.trial.analyse import Result
from gemello.trial.prepare import visit_order

TWELVE = ["cd40", "cd80", "age", "wtkg", "karnof", "hemo", "homo", "drugs", "race", "gender", "str2", "symptom"]


@pytest.fixture(scope="module")
def trial(shared_data: Path) -> Path:
    return shared_data / "trial"


def _read(trial: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(trial / f"{name}.csv", infer_schema_length=None, null_values=["", "NA"])


def _reference(trial: Path, name: str) -> Any:
    return json.loads((trial / "reference" / f"{name}.json").read_text(encoding="utf-8"))


def _of(result: Result, adjustment: str, k: int = 0) -> tuple[float, float]:
    e = [r.estimate for r in result.comparison.rows if r.adjustment == adjustment][k]
    return e.estimate, e.se


def test_continuous(trial: Path, tmp_path: Path) -> None:
    table = _read(trial, "ACTG175")
    found = run(
        tmp_path, table, subject="pidnum", arms={"column": "arms", "control": 0, "active": 1},
        endpoint={"kind": "continuous", "outcome": "cd420"}, analysis={"covariates": TWELVE}, sensitivity=["HC0", "model"],
    )  # fmt: skip
    ref = _reference(trial, "covariate_adjustment")["ACTG175_cd420"]["arm1_vs_0"]
    assert _of(found, "unadjusted") == pytest.approx((ref["unadjusted"]["est"], ref["unadjusted"]["se_HC3"]), rel=1e-6)
    assert _of(found, "covariates") == pytest.approx((ref["ANCOVA_full"]["est"], ref["ANCOVA_full"]["se_HC3"]), rel=1e-6)
    by = {s.name: s.estimate for s in found.sensitivity}
    for kind in ("HC0", "model"):
        assert by[kind].se == pytest.approx(ref["ANCOVA_full"][f"se_{kind}"], rel=1e-6)  # type: ignore[union-attr]
    assert [r.adjustment for r in found.primary] == ["covariates"]


def test_prognostic_score_of_the_issue(trial: Path, tmp_path: Path) -> None:
    table = _read(trial, "ACTG175").with_columns(pl.col(TWELVE).cast(pl.Float64))
    history = table.filter((pl.col("arms") == 0) & (pl.col("pidnum") % 2 == 0))
    x = np.column_stack([np.ones(len(history)), history.select(TWELVE).to_numpy()])
    b = np.linalg.lstsq(x, history["cd420"].to_numpy().astype(float), rcond=None)[0]
    score = np.column_stack([np.ones(len(table)), table.select(TWELVE).to_numpy()]) @ b
    here = table.with_columns(pl.Series("score", score)).filter(
        (pl.col("arms") == 1) | ((pl.col("arms") == 0) & (pl.col("pidnum") % 2 == 1))
    )
    found = run(
        tmp_path, here, subject="pidnum", arms={"column": "arms", "control": 0, "active": 1},
        endpoint={"kind": "continuous", "outcome": "cd420"}, score={"column": "score", "source": "least squares on history"},
    )  # fmt: skip
    ref = _reference(trial, "covariate_adjustment")["prognostic_ACTG175"]
    assert _of(found, "unadjusted") == pytest.approx((57.4728, 10.8596), abs=1e-3)
    assert _of(found, "score") == pytest.approx((63.0692, 8.8315), abs=1e-3)
    assert found.primary[0].ess["model"] == pytest.approx(ref["ess_gain"], rel=1e-6)
    assert found.score is not None
    assert found.score.control is not None
    assert found.score.control["correlation"]["rho"] == pytest.approx(ref["rho_control"], rel=1e-6)


@pytest.mark.parametrize(("summary", "key", "se"), [
    ("risk difference", "rd", "se_rd"), ("risk ratio", "logrr", "se_logrr"), ("odds ratio", "logor", "se_logor"),
])  # fmt: skip
def test_binary(trial: Path, tmp_path: Path, summary: str, key: str, se: str) -> None:
    found = run(
        tmp_path, _read(trial, "medicaldata_indo_rct"),
        arms={"column": "rx", "control": "0_placebo", "active": ["1_indomethacin"]},
        endpoint={"kind": "binary", "outcome": "outcome", "order": ["0_no", "1_yes"]}, estimand=estimand(summary),
        analysis={"covariance": "model"},
    )  # fmt: skip
    ref = _reference(trial, "covariate_adjustment")["indo_rct"]["unadj"]
    assert _of(found, "unadjusted") == pytest.approx((ref[key], ref["Ge_model"][se]), rel=1e-6)


@pytest.mark.parametrize("summary", ["rate ratio", "rate difference"])
def test_count_with_exposure(trial: Path, tmp_path: Path, summary: str) -> None:
    table = _read(trial, "MASS_epil").group_by("subject", maintain_order=True).agg(
        pl.col("trt").first(), pl.col("y").sum(), pl.col("lbase").first(), pl.lit(8).alias("weeks")
    )  # fmt: skip
    found = run(
        tmp_path, table, subject="subject", arms={"column": "trt", "control": "placebo", "active": ["progabide"]},
        endpoint={"kind": "count", "outcome": "y", "exposure": "weeks"}, analysis={"covariates": ["lbase"]},
        estimand=estimand(summary),
    )  # fmt: skip
    rate = {a: float(table.filter(pl.col("trt") == a)["y"].mean() or 0) / 8 for a in ("placebo", "progabide")}  # type: ignore[arg-type]
    raw = rate["progabide"] - rate["placebo"] if "diff" in summary else np.log(rate["progabide"] / rate["placebo"])
    assert _of(found, "unadjusted")[0] == pytest.approx(raw, rel=1e-8)  # the unadjusted estimate is that of the raw rates
    assert _of(found, "covariates")[1] < _of(found, "unadjusted")[1]


@pytest.mark.parametrize("summary", ["mean score difference", "probabilistic index", "win odds", "common odds ratio"])
def test_ordinal_in_words_is_ordinal_in_numbers(trial: Path, tmp_path: Path, summary: str) -> None:
    table = _read(trial, "medicaldata_strep_tb")
    order = table.sort("rad_num")["radiologic_6m"].unique(maintain_order=True).to_list()
    common: dict[str, Any] = {
        "subject": "patient_id", "arms": {"column": "arm", "control": "Control", "active": ["Streptomycin"]},
        "estimand": estimand(summary), "analysis": {"covariates": ["gender"]},
    }  # fmt: skip
    numbers = run(tmp_path, table, endpoint={"kind": "ordinal", "outcome": "rad_num"}, **common)
    words = run(tmp_path, table, endpoint={"kind": "ordinal", "outcome": "radiologic_6m", "order": order}, **common)
    assert _of(words, "covariates") == pytest.approx(_of(numbers, "covariates"), rel=1e-9)
    c, t = (table.filter(pl.col("arm") == a)["rad_num"].to_numpy() for a in ("Control", "Streptomycin"))
    index = float((t[:, None] > c).mean() + 0.5 * (t[:, None] == c).mean())
    raw = {"mean score difference": t.mean() - c.mean(), "probabilistic index": index, "win odds": np.log(index / (1 - index))}
    if summary in raw:
        assert _of(numbers, "unadjusted")[0] == pytest.approx(raw[summary], rel=1e-6)
    else:
        assert all(not r.ess for r in numbers.comparison.rows)  # conditional: its variances do not measure a gain


def test_hazard_ratio_log_rank_and_restricted_means(trial: Path, tmp_path: Path) -> None:
    table = _read(trial, "survival_pbc").filter(pl.col("trt").is_not_null())
    table = table.with_columns((pl.col("status") == 2).cast(pl.Int64).alias("dead"))
    ref = _reference(trial, "survival")["pbc_Dpen"]
    common: dict[str, Any] = {
        "arms": {"column": "trt", "control": 2, "active": [1]},
        "endpoint": {"kind": "time-to-event", "outcome": "time", "event": "dead", "tau": 3650},
        "analysis": {"covariates": ["age", "edema", "log(bili)", "log(albumin)", "log(protime)"]},
        "sensitivity": ["robust", "unadjusted", "heterogeneous", "rmst difference"],
    }  # fmt: skip
    cox = run(tmp_path, table, estimand=estimand("hazard ratio"), **common)
    assert _of(cox, "unadjusted") == pytest.approx((ref["cox"]["coef"]["A"], ref["cox"]["se"]["A"]), rel=1e-5)
    assert _of(cox, "covariates") == pytest.approx((ref["cox_adj"]["coef"]["A"], ref["cox_adj"]["se"]["A"]), rel=1e-5)
    assert all(not r.ess for r in cox.comparison.rows)
    said = {s.name: s for s in cox.sensitivity}
    assert said["heterogeneous"].estimate is None
    assert "is for" in said["heterogeneous"].words
    assert said["rmst difference"].words.startswith("supplementary")
    rank = run(tmp_path, table, estimand=estimand("log-rank"), **common)
    assert rank.comparison.rows[0].estimate.extra["test_z"] ** 2 == pytest.approx(ref["logrank"]["chisq"], rel=1e-5)
    assert rank.primary[0].ess["reported"] > 1.5
    assert not any("depends on what it is adjusted for" in w for w in rank.warnings)
    rmst = run(tmp_path, table, estimand=estimand("rmst difference"), **common)
    one, two = ref["rmst"]["rmst"], ref["rmst"]["se"]
    assert abs(_of(rmst, "unadjusted")[0]) == pytest.approx(abs(one[0] - one[1]), rel=1e-5)
    assert _of(rmst, "unadjusted")[1] == pytest.approx(float(np.hypot(*two)), rel=1e-5)


def test_several_arms_with_time_to_event(trial: Path, tmp_path: Path) -> None:
    table = _read(trial, "survival_colon").filter(pl.col("etype") == 2)
    found = run(
        tmp_path, table, arms={"column": "rx", "control": "Obs", "active": ["Lev", "Lev+5FU"]},
        endpoint={"kind": "time-to-event", "outcome": "time", "event": "status"}, analysis={"covariates": ["age"]},
    )  # fmt: skip
    ref = _reference(trial, "survival")["colon_death"]["cox"]
    assert _of(found, "unadjusted", 1) == pytest.approx((ref["coef"]["A"], ref["se"]["A"]), rel=1e-5)
    assert len(found.primary) == 2
    assert any("multiplicity" in w for w in found.warnings)
    assert not any("not the same subjects" in w for w in found.warnings)


def test_repeated_fev(trial: Path, tmp_path: Path) -> None:
    found = run(
        tmp_path, _read(trial, "mmrm_fev_data"), subject="USUBJID", arms={"column": "ARMCD", "control": "PBO", "active": ["TRT"]},
        endpoint={"kind": "repeated", "outcome": "FEV1", "visit": "AVISIT", "at": "VIS4"},
        analysis={"covariates": ["RACE", "SEX"], "df": "satterthwaite"},
    )  # fmt: skip
    e = found.primary[0].estimate
    assert e.estimate == pytest.approx(4.3985, abs=1e-4)
    assert e.se == pytest.approx(1.6805, abs=1e-4)
    assert e.df == pytest.approx(133.4, abs=0.5)
    assert "RACE, SEX" in e.method


@pytest.fixture(scope="module")
def adas(trial: Path) -> pl.DataFrame:
    table = _read(trial, "cdiscpilot_adas_total").with_columns(pl.col("SITEGR1").cast(pl.String))
    return table.filter(pl.col("PARAMCD") == "ACTOT", pl.col("ITTFL") == "Y", pl.col("EFFFL") == "Y", pl.col("ANL01FL") == "Y")


ADAS: dict[str, Any] = {
    "subject": "USUBJID", "analysis": {"covariates": ["factor(SITEGR1)"]},
    "arms": {"column": "TRTP", "control": "Placebo", "active": ["Xanomeline Low Dose", "Xanomeline High Dose"]},
}  # fmt: skip


def test_repeated_cdisc_pilot(trial: Path, adas: pl.DataFrame, tmp_path: Path) -> None:
    endpoint = {"kind": "repeated", "outcome": "CHG", "visit": "AVISIT", "at": "Week 24", "baseline": "BASE", "better": "lower"}
    where = {"AVISIT": ["Week 8", "Week 16", "Week 24"], "DTYPE": ""}  # observed cases: an empty DTYPE
    found = run(tmp_path, adas, endpoint=endpoint, where=where, **ADAS)
    ref = {(c["contrast"], c["wk"]): c for c in _reference(trial, "cdisc_pilot_adas")["MMRM_observed"]["contrasts"]}
    for k, dose in enumerate(("Low", "High")):
        e, wanted = found.primary[k].estimate, ref[f"Xanomeline {dose} Dose - Placebo", "Week 24"]
        assert e.estimate == pytest.approx(wanted["estimate"], rel=1e-4)
        assert e.extra.get("se_model", e.se) == pytest.approx(wanted["SE"], rel=0.03)  # Kenward–Roger's is a little larger


def test_ancova_of_a_transport_file(trial: Path, adas: pl.DataFrame, tmp_path: Path) -> None:
    table = adas.filter(pl.col("AVISIT") == "Week 24").select("USUBJID", "TRTP", "SITEGR1", "BASE", "CHG", "AVISIT")
    write_table(tmp_path / "adqs.xpt", table, Metadata("ADQS"))
    found = run(
        tmp_path, None, data="adqs.xpt", endpoint={"kind": "continuous", "outcome": "CHG", "baseline": "BASE"},
        **(ADAS | {"analysis": {"covariates": ["factor(SITEGR1)"], "covariance": "model"}}),
    )  # fmt: skip
    ref = _reference(trial, "cdisc_pilot_adas")
    for k, arm in enumerate(("Xanomeline Low Dose", "Xanomeline High Dose")):
        assert _of(found, "covariates", k) == pytest.approx((ref["est"][f"T{arm}"], ref["se"][f"T{arm}"]), rel=1e-6)
    assert found.prepared.subjects == ref["n_by_arm"]


def test_codes_that_enter_as_numbers_are_told(adas: pl.DataFrame, tmp_path: Path) -> None:
    endpoint = {"kind": "continuous", "outcome": "CHG"}
    here = adas.filter(pl.col("AVISIT") == "Week 24")
    numbers = run(tmp_path, here, endpoint=endpoint, **(ADAS | {"analysis": {"covariates": ["SITEGR1"]}}))
    assert any("write factor(SITEGR1)" in w for w in numbers.warnings)
    assert not any("factor" in w for w in run(tmp_path, here, endpoint=endpoint, **ADAS).warnings)


def test_order_of_visits() -> None:
    assert visit_order(["Week 16", "Week 8"], {}) == ("Week 8", "Week 16")
    assert visit_order(["Week 16 (Day 112)", "Week 2 (Day 14)"], {}) == ("Week 2 (Day 14)", "Week 16 (Day 112)")
    assert visit_order(["late", "early"], {}) == ("late", "early")
    assert visit_order(["late", "early"], {"late": 9, "early": 1}) == ("early", "late")
    assert visit_order([2, 10, 1.0], {}) == ("1", "2", "10")


def test_visits_out_of_order_change_nothing(tmp_path: Path) -> None:
    table = repeated()
    endpoint = {"kind": "repeated", "outcome": "y", "visit": "visit", "at": "week 12", "baseline": "x"}
    one = run(tmp_path, table, endpoint=endpoint)
    other = run(tmp_path, table.sample(fraction=1.0, shuffle=True, seed=1), endpoint=endpoint)
    assert other.primary[0].estimate.estimate == pytest.approx(one.primary[0].estimate.estimate, rel=1e-9)
    assert any("out of order" in line for line in other.prepared.log)


def test_strata_left_out_are_told(tmp_path: Path) -> None:
    strata = {"scheme": "permuted-block", "strata": ["site"]}
    here: dict[str, Any] = {"endpoint": {"kind": "continuous", "outcome": "y"}, "randomisation": strata}
    out = run(tmp_path, simple(), analysis={"covariates": ["x"]}, **here)
    assert any(w.startswith("site stratified the randomisation") for w in out.warnings)
    within = run(tmp_path, simple(), analysis={"covariates": ["x", "site"]}, **here)
    assert any(w.startswith("unadjusted, not the primary analysis: site stratified") for w in within.warnings)
    assert out.as_dict()["warnings"] == list(out.warnings)


def test_a_visit_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such visit"):
        run(tmp_path, repeated(), endpoint={"kind": "repeated", "outcome": "y", "visit": "visit", "at": "week 99"})
