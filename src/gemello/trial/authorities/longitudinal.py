"""Mixed models beside SAS PROC MIXED (printed by it for fev_data) and R's nlme and lme4.

SAS stops before the optimum: its estimates are met to 1e-4, its standard errors to 1e-3, its degrees of freedom to 1 %. nlme's
estimates are met to 1e-4, or 3e-4 of their standard error where they are near zero. The pbcseq values are those of nlme's
optimiser "optim", which stops at a −2 log L 1.5e-4 above that of its default and of lme4 (3068.322431); there 2e-4. nlme's
standard errors under ML have a factor √(n/(n − p)) that ML does not have; it is put back here.
Two labels of the SAS file are not what they say, both seen in SAS's own output: `UN` is in the order VIS2, VIS3, VIS4, VIS1; and
the spatial exponential's columns KR and KR_linear are exchanged (they differ by 2.8e-4, less than the tolerance).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gemello.base.reference import Check, check
from gemello.trial.analysis.mmrm import LmeFit, MmrmFit, lme, mmrm
from gemello.trial.analysis.result import Estimate

SAS = "SAS PROC MIXED, openpharma/mmrm ec290b2"
NLME = "R 4.2.2, nlme 3.1-162"
FULL = "FEV1 ~ RACE + SEX + ARMCD*AVISIT"
_KEYS: Mapping[str, Any] = {"subject": "USUBJID", "visit": "AVISIT"}
_UN_ORDER = ("VIS2", "VIS3", "VIS4", "VIS1")


def checks(folder: Path) -> Iterator[Check]:
    """Every mixed-model value of the reference files."""
    reference = folder / "reference"
    sas, long, adas = (_json(reference / f"{n}.json") for n in ("mmrm_sas", "longitudinal", "cdisc_pilot_adas"))
    fev = pl.read_csv(folder / "mmrm_fev_data.csv")
    yield from _kenward_roger(fev, sas["FEV1~ARMCD Kenward-Roger (REML) by covariance: TRT-PBO"])
    yield from _sandwich(fev, sas["FEV1~ARMCD empirical sandwich SE"])
    yield from _means(fev, sas["FEV1~RACE+SEX+ARMCD*AVISIT US REML Satterthwaite LS means"])
    yield from _fit(fev, sas["fit"])
    for method in ("REML", "ML"):
        yield from _fev(fev, method, long[f"fev_US_{method}"])
    yield from _cdystonia(folder, long["cdystonia_US_REML"])
    yield from _pbcseq(folder, long["pbcseq_logbili_lme"])
    yield from _aids(folder, long["JM_aids_lme"])
    yield from _sleep(folder, long["sleepstudy"])
    yield from _adas(folder, adas["MMRM_observed"])


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


# ---- SAS -----------------------------------------------------------------------------------------------------------------
def _one_term(fev: pl.DataFrame, name: str, **options: Any) -> Estimate:
    times = ("VISITN", "VISITN2") if name == "spexp" else None
    fit = mmrm("FEV1 ~ ARMCD", fev, covariance=name, times=times, **_KEYS, **options)  # type: ignore[arg-type]
    return fit.difference("TRT", "PBO")


def _kenward_roger(fev: pl.DataFrame, reference: Mapping[str, Any]) -> Iterator[Check]:
    ways = {"KR": "kenward-roger", "KR_linear": "kenward-roger-linear"}
    for key, values in reference.items():
        name, how = key.split("_", 1)
        yield from _estimate(f"FEV1 ~ ARMCD, {name}, {how}", _one_term(fev, name, df=ways[how]), values)


def _sandwich(fev: pl.DataFrame, reference: Mapping[str, Any]) -> Iterator[Check]:
    for key, values in reference.items():
        name, *weighted = key.split("_")
        weights = "WEIGHT" if weighted else None
        found = _one_term(fev, name, df="between-within", vcov="empirical", weights=weights)
        yield from _estimate(f"FEV1 ~ ARMCD, {key}, sandwich", found, values)


def _estimate(name: str, found: Estimate, values: Mapping[str, float]) -> Iterator[Check]:
    yield check(f"{name}: estimate", found.estimate, values["Estimate"], 1e-4, SAS, relative=True)
    yield check(f"{name}: SE", found.se, values["StdErr"], 1e-3, SAS, relative=True)
    yield check(f"{name}: df", found.df or np.nan, values["DF"], 0.01, SAS, relative=True)
    if "tValue" in values:
        yield check(f"{name}: t", found.statistic, values["tValue"], 1e-3, SAS, relative=True)


def _means(fev: pl.DataFrame, reference: Mapping[str, Any]) -> Iterator[Check]:
    fit = mmrm(FULL, fev, **_KEYS)
    means = {f"{e.extra['AVISIT']}:{e.extra['ARMCD']}": e for e in fit.lsmeans(("AVISIT", "ARMCD"))}
    means |= {f"{v}:diff": fit.difference("TRT", "PBO", v) for v in fit.visits}
    for key, values in reference.items():
        e = means[key]
        low, high = e.interval
        found = {"est": e.estimate, "se": e.se, "df": e.df, "lower": low, "upper": high, "t": e.statistic, "p": e.p}
        limits = {"df": 0.01 * float(values["df"]), "lower": 3e-4, "upper": 3e-4, "t": 0.0051, "p": 1e-4}
        limits |= {"est": 1e-4 if key == "VIS4:diff" else 1e-4 * values["est"], "se": 1e-3 * values["se"]}
        for what, value in values.items():
            printed = 0.0 if value == "<.0001" else float(value)
            yield check(f"fev_data LS mean {key}: {what}", float(found[what] or np.nan), printed, limits[what], SAS)


def _fit(fev: pl.DataFrame, reference: Mapping[str, Any]) -> Iterator[Check]:
    fit = mmrm(FULL, fev, **_KEYS)
    sigma, where = fit.Sigma["all"], [fit.visits.index(v) for v in _UN_ORDER]
    yield check("fev_data US: −2 restricted log L", fit.minus2loglik, reference["minus2_res_loglik"], 1e-3, SAS)
    yield check("fev_data US: AIC", fit.aic, reference["AIC"], 0.0501, SAS)
    yield check("fev_data US: BIC", fit.bic, reference["BIC"], 0.0501, SAS)
    for key, value in reference["UN"].items():
        i, j = (where[int(k) - 1] for k in key)
        limit = 1e-3 * float(np.sqrt(sigma[i, i] * sigma[j, j]))
        yield check(f"fev_data US: covariance {fit.visits[i]}, {fit.visits[j]}", sigma[i, j], value, limit, SAS)
    yield check("fev_data: observations used", fit.n, reference["n_used"], 0, SAS)
    yield check("fev_data: observations not used", len(fev) - fit.n, reference["n_missing"], 0, SAS)
    yield check("fev_data: subjects read", fit.n_subjects + fit.n_without_outcome, reference["n_subjects"], 0, SAS)


# ---- R ---------------------------------------------------------------------------------------------------------------------
def _coefficients(
    name: str, fit: MmrmFit | LmeFit, reference: Mapping[str, Any], source: str, factor: float = 1.0,
    tolerance: float = 1e-4,
) -> Iterator[Check]:  # fmt: skip
    known = {_key(n): i for i, n in enumerate(fit.names)}
    for n, value in reference["coef"].items():
        i, se = known[_key(n)], reference["se"][n]
        limit = max(tolerance * abs(value), 3e-4 * se)
        yield check(f"{name}: {n}", fit.coefficients[i], value, limit, source)
        yield check(f"{name}: SE of {n}", factor * fit.se[i], se, 1e-3, source, relative=True)


def _key(name: str) -> frozenset[str]:
    """An interaction is the same whichever way round."""
    return frozenset(name.split(":"))


def _fev(fev: pl.DataFrame, method: Any, reference: Mapping[str, Any]) -> Iterator[Check]:
    fit = mmrm(FULL, fev, method=method, levels={"SEX": ["Male", "Female"]}, **_KEYS)
    name = f"fev_data US {method}"
    factor = 1.0 if method == "REML" else float(np.sqrt(fit.n / (fit.n - len(fit.names))))
    yield check(f"{name}: −2 log L", fit.minus2loglik, reference["minus2loglik"], 1e-3, NLME)
    yield from _coefficients(name, fit, reference, f"{NLME} gls", factor)
    for i, row in enumerate(reference["Sigma"]):
        for j, value in enumerate(row[: i + 1]):
            found = fit.Sigma["all"][i, j]
            yield check(f"{name}: Sigma {fit.visits[i]}, {fit.visits[j]}", found, value, 1e-3, NLME, relative=True)
    yield from _counts(name, fit, reference["n_obs"], reference["n_subj"])


def _counts(name: str, fit: MmrmFit | LmeFit, n: int, subjects: int) -> Iterator[Check]:
    yield check(f"{name}: observations", fit.n, n, 0, NLME)
    yield check(f"{name}: subjects", fit.n_subjects, subjects, 0, NLME)


def _cdystonia(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    table = pl.read_csv(folder / "medicaldata_cdystonia.csv").with_columns(
        person=pl.format("{}-{}", "site", "id"), wk=pl.col("week").cast(pl.String), treat=pl.col("treat").cast(pl.String)
    )
    base = table.filter(pl.col("week") == 0).select("person", base="twstrs")
    later = table.filter(pl.col("week") > 0).join(base, on="person")
    fit = mmrm("twstrs ~ base*wk + treat*wk", later, subject="person", visit="wk")
    name = "cdystonia US REML"
    yield check(f"{name}: −2 log L", fit.minus2loglik, reference["minus2loglik"], 1e-3, NLME)
    yield from _coefficients(name, fit, reference, f"{NLME} gls")
    yield from _counts(name, fit, reference["n"], reference["n_subj"])


def _pbcseq(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    table = pl.read_csv(folder / "survival_pbcseq.csv", infer_schema_length=None, null_values=[""])
    table = table.with_columns(yr=pl.col("day") / 365.25, A=(pl.col("trt") == 1).cast(pl.Float64))
    fit = lme("log(bili) ~ yr + yr:A", table, subject="id", random="1 + yr")
    name = "pbcseq log bilirubin, random yr"
    yield check(f"{name}: −2 log L", fit.minus2loglik, reference["minus2loglik"], 1e-3, NLME)
    yield from _coefficients(name, fit, reference, f"{NLME} lme, optim", tolerance=2e-4)
    parts = reference["VarCorr"]
    yield from _deviations(name, fit, [parts["sd_int"], parts["sd_slope"], parts["sd_resid"]])
    yield check(f"{name}: correlation", fit.correlation[0, 1], reference["cor"], 1e-3, NLME)


def _aids(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    table = pl.read_csv(folder / "JM_aids.csv", infer_schema_length=None)
    table = table.with_columns(A=(pl.col("drug") == "ddI").cast(pl.Float64))
    fit = lme("CD4 ~ obstime + obstime:A", table, subject="patient", random="1 + obstime")
    name = "JM aids CD4, random obstime"
    yield check(f"{name}: −2 log L", fit.minus2loglik, reference["minus2loglik"], 1e-3, NLME)
    yield from _coefficients(name, fit, reference, f"{NLME} lme")
    yield from _deviations(name, fit, reference["sd"])


def _deviations(name: str, fit: LmeFit, reference: Sequence[float]) -> Iterator[Check]:
    for what, found, value in zip(("intercept", "slope", "residual"), fit.standard_deviations, reference, strict=True):
        yield check(f"{name}: SD of the {what}", float(found), value, 1e-3, f"{NLME} lme", relative=True)


def _sleep(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    table = pl.read_csv(folder / "lme4_sleepstudy.csv")
    fit = lme("Reaction ~ Days", table, subject="Subject", random="1 + Days")
    source = "R 4.2.2, lme4 1.1-31"
    yield check("sleepstudy: REML criterion", fit.minus2loglik, reference["reml"], 1e-3, source)
    yield from _coefficients("sleepstudy", fit, reference, source)


def _adas(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    table = pl.read_csv(folder / "cdiscpilot_adas_total.csv", infer_schema_length=None, schema_overrides={"SITEGR1": pl.String})
    flags = pl.all_horizontal(pl.col(c) == "Y" for c in ("ITTFL", "EFFFL", "ANL01FL"))
    observed = pl.col("DTYPE").is_null() | (pl.col("DTYPE") == "")
    rows = table.filter(
        (pl.col("PARAMCD") == "ACTOT") & pl.col("AVISIT").is_in(["Week 8", "Week 16", "Week 24"]) & flags & observed
    )
    fit = mmrm("CHG ~ TRTP*AVISIT + BASE*AVISIT + SITEGR1", rows, subject="USUBJID", visit="AVISIT")
    name = "CDISC pilot MMRM"
    yield check(f"{name}: −2 log L", fit.minus2loglik, reference["minus2loglik"], 1e-3, NLME)
    yield from _counts(name, fit, reference["n"], reference["n_subj"])
    for row in reference["contrasts"]:
        arm, control = row["contrast"].split(" - ")
        found = fit.difference(arm, control, row["wk"])
        yield check(f"{name}: {found.label}", found.estimate, row["estimate"], 1e-4, NLME, relative=True)
        yield check(f"{name}: SE of {found.label}", found.se, row["SE"], 1e-3, NLME, relative=True)
