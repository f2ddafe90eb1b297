"""ADaM: the analysis of the CDISC pilot written, read back and run again; the rules on sound and on broken data sets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyreadstat
import pytest

from gemello.base.errors import DataError
from gemello.formats import adam, cdisc
from gemello.formats.tables import Column, Metadata

CREATED = datetime(2026, 1, 2, 3, 4, 5)
ROLES = adam.Roles(
    subject="id",
    treatment="arm",
    value="y",
    arms=("placebo", "drug"),
    visit="week",
    baseline="y0",
    imputed="how",
    covariates=("site",),
)
FRAME = pl.DataFrame(
    {
        "id": ["b", "b", "a", "a"], "arm": ["drug", "drug", "placebo", "placebo"], "y": [3.0, 4.0, 1.0, 1.0],
        "y0": [5.0, 5.0, 2.0, 2.0],
        "week": ["Week 24", "Week 8", "Week 8", "Week 24"], "how": ["", None, None, "LOCF"], "site": ["s1", "s1", "s2", "s2"],
    }
)  # fmt: skip
ESTIMATE = {
    "label": "drug − placebo", "measure": "mean difference", "estimate": -1.006, "se": 0.841, "method": "ANCOVA", "n": 234,
    "df": 221.0, "scale": "identity", "level": 0.95, "null": 0.0, "lower": -2.66, "upper": 0.65, "statistic": -1.196, "p": 0.23,
    "extra": {"rho": 0.4, "list": [1]},
}  # fmt: skip
HOW = {"study": "S", "parameter": ("ACTOT", "ADAS-Cog(11) total")}


# ---- what is written -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["xpt", "json", "ndjson"])
def test_three_data_sets(tmp_path: Path, form: adam.Form) -> None:
    paths = adam.write_analysis(tmp_path, FRAME, ROLES, **HOW, estimates=[ESTIMATE], form=form, created=CREATED)  # type: ignore[arg-type]
    assert [p.name for p in paths] == [f"{n}.{form}" for n in ("adsl", "adeff", "adres")]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    adsl, said = cdisc.read_table(paths[0])
    assert (said.name, said.label) == ("ADSL", "Subject-Level Analysis Dataset")
    assert adsl.to_dict(as_series=False) == {
        "STUDYID": ["S", "S"], "USUBJID": ["a", "b"], "TRT01P": ["placebo", "drug"], "TRT01PN": [0.0, 1.0], "ITTFL": ["Y", "Y"],
        "SITE": ["s2", "s1"],
    }  # fmt: skip
    bds, said = cdisc.read_table(paths[1])
    assert bds.to_dict(as_series=False) == {
        "STUDYID": ["S"] * 4, "USUBJID": ["a", "a", "b", "b"], "TRTP": ["placebo", "placebo", "drug", "drug"],
        "TRTPN": [0.0, 0.0, 1.0, 1.0], "PARAMCD": ["ACTOT"] * 4, "PARAM": ["ADAS-Cog(11) total"] * 4,
        "AVISIT": ["Week 8", "Week 24", "Week 8", "Week 24"], "AVISITN": [8.0, 24.0, 8.0, 24.0], "AVAL": [1.0, 1.0, 4.0, 3.0],
        "BASE": [2.0, 2.0, 5.0, 5.0], "CHG": [-1.0, -1.0, -1.0, -2.0], "ANL01FL": ["Y"] * 4, "DTYPE": [None, "LOCF", None, None],
        "SITE": ["s2", "s2", "s1", "s1"],
    }  # fmt: skip
    assert said.column("AVAL").label == "Analysis Value"
    res, _ = cdisc.read_table(paths[2])
    values = dict(zip(res["STAT"], res["STATVAL"], strict=True))
    assert (values["ESTIMATE"], values["SE"], values["N"], values["PVALUE"], values["rho"]) == (-1.006, 0.841, 234.0, 0.23, 0.4)
    assert "list" not in values
    assert set(res["COMPARE"]) == {"drug - placebo"}


def test_the_pilot_analysis_survives_the_file(shared_data: Path, tmp_path: Path) -> None:
    """Week-24 LOCF ANCOVA of the CDISC pilot, run on the ADaM file: as its report prints it."""
    source, _ = cdisc.read_table(shared_data / "trial" / "cdiscpilot_adas_total.csv", text=["SITEGR1"])
    used = source.filter(
        (pl.col("AVISIT") == "Week 24") & (pl.col("ITTFL") == "Y") & (pl.col("EFFFL") == "Y") & (pl.col("ANL01FL") == "Y")
    )
    roles = adam.Roles(
        subject="USUBJID", treatment="TRTP", value="AVAL", arms=("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"),
        visit="AVISIT", visit_number="AVISITN", baseline="BASE", imputed="DTYPE", covariates=("SITEGR1",), population="EFFFL",
    )  # fmt: skip
    paths = adam.write_analysis(tmp_path, used, roles, study="CDISCPILOT01", parameter=("ACTOT", "Adas-Cog(11) Subscore"))
    theirs, _ = pyreadstat.read_xport(str(paths[1]), output_format="dict")
    back = pl.DataFrame({name: list(values) for name, values in theirs.items()})
    assert back.height == 234
    assert (back["DTYPE"] == "LOCF").sum() == 79
    sites = sorted(back["SITEGR1"].unique())
    dummies = [(back["TRTPN"] == k).to_numpy() for k in (1, 2)] + [(back["SITEGR1"] == s).to_numpy() for s in sites[1:]]
    X = np.column_stack([np.ones(234), *dummies, back["BASE"].to_numpy()]).astype(float)
    y = back["CHG"].to_numpy()
    beta, rss, *_ = np.linalg.lstsq(X, y, rcond=None)
    se = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * rss[0] / (234 - X.shape[1]))
    assert [round(v, 3) for v in (beta[2], se[2], beta[1], se[1])] == [-1.006, 0.841, -0.467, 0.818]
    adsl, said = cdisc.read_table(paths[0])
    assert adsl.height == 234
    assert adam.check(adsl, said, "ADSL") == ()


def test_times_to_an_event(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"id": [1, 2], "arm": [1, 0], "days": [10, 20], "death": [True, False], "a long name": [0.5, None], "A_LONG_NA": [1, 2]}
    )
    roles = adam.Roles("id", "arm", "days", event="death", covariates=("a long name", "A_LONG_NA"), score="days")
    paths = adam.write_analysis(tmp_path, frame, roles, study="S", parameter=("OS", "Overall Survival"), dataset="ADTTE")
    tte, said = cdisc.read_table(paths[1])
    assert tte.select("USUBJID", "TRTP", "TRTPN", "AVAL", "CNSR", "SCORE", "A_LONG_N", "A_LONG_2").rows() == [
        ("1", "1", 1.0, 10.0, 0.0, 10.0, 0.5, 1.0),
        ("2", "0", 0.0, 20.0, 1.0, 20.0, None, 2.0),
    ]
    assert said.column("A_LONG_N").label == "a long name"
    assert adam.check(tte, said, "TTE") == ()


def test_missing_and_left_out_records(tmp_path: Path) -> None:
    frame = FRAME.with_columns(
        y=pl.Series([3.0, None, 1.0, 1.0]), used=pl.Series(["Y", "N", "Y", ""]), how=pl.Series([False, False, False, True])
    )
    flags = []
    for roles in (ROLES, replace(ROLES, analysed="used")):
        made, _ = adam.analysis(frame, replace(roles, derivation="LOCF"), **HOW, dataset="ADX", label="X")  # type: ignore[arg-type]
        flags.append(made["ANL01FL"].to_list())
        assert made["DTYPE"].to_list() == [None, "LOCF", None, None]
    assert flags == [["Y", "Y", None, "Y"], ["Y", None, None, "Y"]]


BAD: dict[str, tuple[pl.DataFrame, adam.Roles, str]] = {
    "column": (FRAME, replace(ROLES, value="z"), "column z: no such column; the table has id, arm, y"),
    "no rows": (FRAME.head(0), ROLES, "the analysis table has no rows"),
    "no subject": (FRAME.with_columns(id=pl.lit(None)), ROLES, "row 1, column id: no value"),
    "two arms": (FRAME.with_columns(arm=pl.Series(["drug", "placebo"] * 2)), ROLES, "column arm: a subject with two treatments"),
    "unknown arm": (FRAME, replace(ROLES, arms=("placebo",)), "column arm, value 'drug': a treatment that is not in arms"),
    "twice": (
        pl.concat([FRAME, FRAME.head(1)]),
        ROLES,
        "ADEFF: row 5: a second record of b, ACTOT, Week 24; USUBJID, PARAMCD, AVISIT",
    ),
    "visits": (FRAME.with_columns(week=pl.Series(["a", "b", "b", "a"])), ROLES, "column week: visits whose names hold no number"),
    "imputed empty": (FRAME.with_columns(y=pl.lit(None, pl.Float64)), ROLES, "row 4, column y: imputed, but without a value"),
    "imputed how": (FRAME.with_columns(how=pl.lit(True)), ROLES, "column how: imputed as true and false, without its word"),
    "text value": (FRAME.with_columns(y=pl.lit("x")), ROLES, "column y, value 'String': is no column of numbers"),
    "infinite": (FRAME.with_columns(y=pl.lit(float("inf"))), replace(ROLES, imputed=None), "not a finite number"),
    "flag": (FRAME, replace(ROLES, analysed="y"), "column y: is no flag"),
    "population": (FRAME, replace(ROLES, population="XFL"), "value 'XFL': is no population flag"),
    "event": (FRAME, replace(ROLES, event="y"), "column y: must be 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_refused(tmp_path: Path, kind: str) -> None:
    frame, roles, words = BAD[kind]
    with pytest.raises(DataError, match=words) as e:
        adam.write_analysis(tmp_path / "out", frame, roles, **HOW)  # type: ignore[arg-type]
    assert "\n" not in str(e.value)
    assert not (tmp_path / "out" / "adeff.xpt").exists()


def test_bad_names_and_estimates(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="estimates, row 1: no measure, method"):
        adam.write_analysis(tmp_path, FRAME, ROLES, **HOW, estimates=[{"label": "x", "estimate": 1.0}])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="PARAMCD"):
        adam.write_analysis(tmp_path, FRAME, ROLES, study="S", parameter=("TOOLONGCODE", "x"))
    with pytest.raises(DataError, match="value 'TOOLONGNAME': is no name of an analysis data set"):
        adam.write_analysis(tmp_path, FRAME, ROLES, **HOW, dataset="TOOLONGNAME")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# ---- rules ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "kind"), [("adsl", "ADSL"), ("adas_total", "BDS"), ("cibic", "BDS")])
def test_the_pilot_breaks_no_rule_but_that_a_csv_has_no_labels(shared_data: Path, name: str, kind: adam.Kind) -> None:
    dates = {"adsl": ["DISONSDT", "VISIT1DT", "RFENDT", "TRTSDT", "TRTEDT"]}.get(name, ["ADT", "TRTSDT", "TRTEDT"])
    frame, said = cdisc.read_table(shared_data / "trial" / f"cdiscpilot_{name}.csv", dates=dates)
    assert {f.rule for f in adam.check(frame, said, kind)} == {"label"}
    labelled = Metadata("X", columns=tuple(Column(n, "a label") for n in frame.columns))
    assert adam.check(frame, labelled, kind) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            pl.lit("Week 8").alias("AVISIT"),
            ["row 2: a second record of a, ACTOT, Week 8", "AVISITN: AVISITN and AVISIT do not go together"],
        ),
        (pl.lit("maybe").alias("ANL01FL"), ["ANL01FL: a flag is Y, N or blank"]),
        (pl.lit(0.0).alias("CHG"), ["row 1: CHG is not AVAL - BASE"]),
        (pl.lit("x").alias("PARAMCD"), ["PARAMCD: 'x' is not 1 to 8 capitals"]),
        (pl.Series("PARAM", ["p", "q", "p", "p"]), ["PARAMCD: PARAMCD and PARAM do not go together one to one"]),
        (pl.lit("2014-01-01").alias("ADT"), ["ADT: a label has", "ADT: a variable that ends in DT or DTM is a date"]),
    ],
)  # fmt: skip
def test_rules_of_a_bds(change: pl.Expr, words: list[str]) -> None:
    frame, said = adam.analysis(FRAME, ROLES, **HOW, dataset="ADX", label="X")  # type: ignore[arg-type]
    assert adam.check(frame, said, "BDS") == ()
    found = [str(f) for f in adam.check(frame.with_columns(change), said, "BDS")]
    assert len(found) == len(words)
    assert all(f.startswith(w) for f, w in zip(found, words, strict=True))


def test_missing_variables() -> None:
    frame, said = adam.subject_level(FRAME, ROLES, study="S")
    assert adam.check(frame, said, "ADSL") == ()
    assert [f.place for f in adam.check(frame.drop("USUBJID", "TRT01P"), said, "ADSL")] == ["USUBJID", "TRT01P"]
    assert [f.place for f in adam.check(frame, said, "TTE")] == ["PARAMCD", "PARAM", "AVAL", "CNSR"]
    twice = pl.concat([frame, frame])
    assert [str(f) for f in adam.check(twice, said, "ADSL")] == ["row 3: a second record of a; USUBJID must be unique"]
