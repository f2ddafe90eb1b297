"""Analyses of one outcome per subject, and GEE, against R, SAS and the snapshots of RobinCar2; and what theory says of
simulated trials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.random import generator
from gemello.base.reference import Check, check
from gemello.trial.analysis import compare, glm, linear
from gemello.trial.analysis.ancova import ancova
from gemello.trial.analysis.formula import design
from gemello.trial.analysis.gee import gee
from gemello.trial.analysis.many import ManyAncova, ancova_many
from gemello.trial.analysis.marginal import g_computation
from gemello.trial.analysis.margins import Margins
from gemello.trial.analysis.result import Estimate

COVARIATES = ("cd40", "cd80", "age", "wtkg", "karnof", "hemo", "homo", "drugs", "race", "gender", "str2", "symptom")
REGRESSION, PRINTED_SAS = 1e-6, 1e-6
GEE = 1e-4
TRIALS, SUBJECTS, RHO, SEED = 20_000, 200, 0.6, 20_261_124
Array = NDArray[np.float64]
Pairs = Iterator[tuple[str, float, float]]


def checks(folder: Path) -> Iterator[Check]:
    """Every value of the reference files that this room answers for."""
    adjusted = _read(folder, "covariate_adjustment.json")
    yield from _relative(_actg175(folder, adjusted["ACTG175_cd420"]), "R 4.2.2 lm, sandwich 3.0-2")
    yield from _relative(_prognostic(folder, adjusted["prognostic_ACTG175"]), "R 4.2.2 lm, sandwich 3.0-2")
    yield from _relative(_anorexia(folder, adjusted["anorexia_ANCOVA"]), "R 4.2.2 lm, sandwich 3.0-2")
    yield from _relative(_indomethacin(folder, adjusted["indo_rct"]), "R 4.2.2 glm, sandwich 3.0-2")
    yield from _beeca(folder, adjusted["beeca_trial01"])
    yield from _relative(_cdisc(folder, _read(folder, "cdisc_pilot_adas.json")), "R 4.2.2 lm on CDISC Pilot 01")
    yield from _robincar(folder, _read(folder, "robincar2_snapshots.json"))
    yield from _longitudinal(folder, _read(folder, "longitudinal.json"))
    yield from invariance(folder)
    yield from simulation()


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / "reference" / name).read_text(encoding="utf-8"))


def _table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{name}.csv", infer_schema_length=None, null_values=["", "NA"])


def _relative(pairs: Pairs, source: str, tolerance: float = REGRESSION) -> Iterator[Check]:
    for name, value, reference in pairs:
        yield check(name, value, reference, tolerance, source, relative=True)


def _of(name: str, found: Mapping[str, float], reference: Mapping[str, Any]) -> Pairs:
    """A row for every number of the reference; a key that nothing answers is an error."""
    for key, value in reference.items():
        yield f"{name}: {key}", found[key], value


def _linear(fit: linear.LinearFit, column: str) -> dict[str, float]:
    i = fit.names.index(column)
    out = {f"se_{k}": float(np.sqrt(fit.covariance(k)[i, i])) for k in linear.KINDS}
    return out | {
        "est": float(fit.values[i]), "sigma2": fit.sigma2, "r2": fit.r2, "df": fit.df, "n": len(fit.residuals),
    }  # fmt: skip


# ---- ACTG175 -----------------------------------------------------------------------------------------------------------------
def _actg175(folder: Path, reference: Mapping[str, Any]) -> Pairs:
    table = _table(folder, "ACTG175")
    for k in (1, 2, 3):
        here = table.filter(pl.col("arms").is_in([0, k]))
        ref = reference[f"arm{k}_vs_0"]
        name = f"ACTG175 arm {k} v 0, cd420"
        for what, terms in (("unadjusted", ()), ("ANCOVA_cd40", ("cd40",)), ("ANCOVA_full", COVARIATES)):
            fit = linear.fit(design("cd420 ~ " + " + ".join((f"I(arms == {k})", *terms)), here))
            yield from _of(f"{name}, {what}", _linear(fit, f"I(arms == {k})"), ref[what])
        by_arm = ancova(here, outcome="cd420", arm="arms", control=0, covariates=COVARIATES, heterogeneous=True)
        e = by_arm.estimates[0]
        se = e.extra["se_by"]
        found = {"est": e.estimate, "se_HC0": se["HC0"], "se_HC3": se["HC3"], "se_influence_n_minus_1": e.se}
        yield from _of(f"{name}, ANHECOVA_full", found, ref["ANHECOVA_full"])
        yield from _of(name, {"n0": by_arm.counts[0], "n1": by_arm.counts[1]}, {key: ref[key] for key in ("n0", "n1")})


def history_and_trial(folder: Path) -> tuple[pl.DataFrame, linear.LinearFit, pl.DataFrame]:
    """ACTG175: history (arm 0, even pidnum), the score's fit on it, and the trial (arm 0 odd, arm 1) with the score."""
    table = _table(folder, "ACTG175")
    even = pl.col("pidnum") % 2 == 0
    history = table.filter((pl.col("arms") == 0) & even)
    trial = table.filter(((pl.col("arms") == 0) & ~even) | (pl.col("arms") == 1))
    d = design("cd420 ~ " + " + ".join(COVARIATES), history)
    fit = linear.fit(d)
    return history, fit, trial.with_columns(pl.Series("score", d.at(trial) @ fit.values))


def _prognostic(folder: Path, reference: Mapping[str, Any]) -> Pairs:
    history, fit, trial = history_and_trial(folder)
    name = "prognostic adjustment, ACTG175"
    arm, y, s = (trial[c].cast(pl.Float64).to_numpy() for c in ("arms", "cd420", "score"))
    yield from _of(f"{name}, score", dict(zip(fit.names, fit.values, strict=True)), reference["prog_coef"])
    done = compare.analyses(ancova, trial, outcome="cd420", arm="arms", control=0, covariates="cd40", score="score")
    rows = {"unadjusted": "unadjusted", "score": "score", "score_plus_cd40": "score + covariates"}
    for key, terms in (("unadjusted", ""), ("score", " + score"), ("score_plus_cd40", " + score + cd40")):
        found = _linear(linear.fit(design(f"cd420 ~ arms{terms}", trial)), "arms")
        e = done.row(rows[key]).estimate  # type: ignore[arg-type]
        found |= {"est": e.estimate} | {f"se_{k}": e.extra["se_by"][k] for k in ("model", "HC0", "HC1", "HC2", "HC3")}
        yield from _of(f"{name}, {key}", found, reference[key])
    rho = [float(np.corrcoef(y[arm == a], s[arm == a])[0, 1]) for a in (0, 1)]
    found = {
        "historical_n": len(history), "trial_n0": int(np.sum(arm == 0)), "trial_n1": int(np.sum(arm == 1)),
        "prog_r2_hist": fit.r2, "rho_control": rho[0], "rho_treated": rho[1], "var_ratio_model": 1 / done.ess("score", "model"),
        "ess_gain": done.ess("score", "model"), "one_minus_rho0_sq": 1 - rho[0] ** 2,
    }  # fmt: skip
    yield from _of(name, found, {k: v for k, v in reference.items() if not isinstance(v, dict)})


# ---- other trials ------------------------------------------------------------------------------------------------------------
def _anorexia(folder: Path, reference: Mapping[str, Any]) -> Pairs:
    table = _table(folder, "MASS_anorexia")
    levels = {"Treat": ("Cont", "CBT", "FT")}
    both = linear.fit(design("Postwt ~ Treat + Prewt", table, levels=levels))
    alone = linear.fit(design("Postwt ~ Treat", table, levels=levels))
    where = {"CBT": (both, "TreatCBT"), "FT": (both, "TreatFT"), "prewt": (both, "Prewt"), "CBT_unadj": (alone, "TreatCBT")}
    for key, ref in reference.items():
        yield from _of(f"anorexia, {key}", _linear(*where[key]), ref)


def _binary(name: str, m: Margins, column: str, reference: Mapping[str, Any]) -> Pairs:
    """Rows of a two-armed logistic g-computation: risks, three contrasts, the conditional odds ratio, every covariance."""
    contrasts = {"rd": m.contrasts()[0], "logrr": m.contrasts("log ratio")[0], "logor": m.contrasts("log odds ratio")[0]}
    conditional = m.coefficients.of(column) if m.coefficients else None
    assert conditional is not None
    found = {"n": m.n, "p0": float(m.values[0]), "p1": float(m.values[1]), "cond_logor": conditional.estimate}
    found |= {key: e.estimate for key, e in contrasts.items()} | {"se_cond": conditional.se}
    kinds = {"Ge_model": "model", "Ge_HC0": "HC0", "Ge_HC3": "HC3", "influence_n_minus_1": "influence"}
    for key, ref in reference.items():
        if isinstance(ref, dict):
            se = {f"se_{c}": e.extra["se_by"][kinds[key]] for c, e in contrasts.items()}
            yield from _of(f"{name}, {key}", se, ref)
        else:
            yield f"{name}: {key}", found[key], ref


def _indomethacin(folder: Path, reference: Mapping[str, Any]) -> Pairs:
    table = _table(folder, "medicaldata_indo_rct").with_columns((pl.col("outcome") == "1_yes").alias("outcome"))
    for key, terms in (("unadj", ()), ("adj", ("risk", "age", "gender", "site"))):
        m = g_computation(table, outcome="outcome", arm="rx", control="0_placebo", covariates=terms, covariance="model")
        yield from _binary(f"indomethacin, {key}", m, "rx1_indomethacin", reference[key])


def _beeca(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    table = _table(folder, "beeca_trial01")
    m = g_computation(table, outcome="aval", arm="trtp", control=0, covariates="bl_cov", covariance="model")
    yield from _relative(_binary("beeca trial01", m, "trtp1", reference["mine"]), "R 4.2.2 glm, sandwich 3.0-2")
    e = m.estimates[0]
    found = {"Estimate": e.estimate, "StdErr": e.se, "Lower": e.interval[0], "Upper": e.interval[1]}
    for name, value, ref in _of("beeca trial01, SAS margins", found, reference["published_margins"]):
        yield check(name, value, ref, PRINTED_SAS, "SAS %Margins, beeca 4b72c14")
    half = 1.96 * e.se  # as the macro has it
    found = {
        "diff": e.estimate, "se": e.se, "pt": m.values[1], "pC": m.values[0],
        "lower": e.estimate - half, "upper": e.estimate + half,
    }  # fmt: skip
    for name, value, ref in _of("beeca trial01, SAS macro of Ge", found, reference["published_Ge_macro"]):
        yield check(name, value, ref, PRINTED_SAS, "SAS macro of Ge et al. 2011 (good to 3e-7), beeca 4b72c14")


def cdisc_week24(folder: Path) -> pl.DataFrame:
    """CDISC Pilot 01, ADAS-Cog(11) at week 24, last observation carried forward, the efficacy population (234)."""
    table = _table(folder, "cdiscpilot_adas_total")
    flags = [pl.col(c) == "Y" for c in ("ITTFL", "EFFFL", "ANL01FL")]
    return table.filter((pl.col("PARAMCD") == "ACTOT") & (pl.col("AVISIT") == "Week 24"), *flags).with_columns(
        pl.col("SITEGR1").cast(pl.String)
    )


def _cdisc(folder: Path, reference: Mapping[str, Any]) -> Pairs:
    table = cdisc_week24(folder)
    name = "CDISC pilot, week-24 LOCF"
    here = {"outcome": "CHG", "arm": "TRTP", "control": "Placebo", "covariance": "model"}
    adjusted = ancova(table, covariates=("SITEGR1", "BASE"), **here)  # type: ignore[arg-type]
    alone = ancova(table, **here)  # type: ignore[arg-type]
    yield f"{name}: n", adjusted.n, reference["n"]
    yield from _of(f"{name}: n", dict(zip(adjusted.arms, adjusted.counts, strict=True)), reference["n_by_arm"])
    yield from _of(f"{name}: mean", dict(zip(alone.arms, map(float, alone.values), strict=True)), reference["raw_means"])
    for key, m, of in (
        ("est", adjusted, lambda e: e.estimate), ("se", adjusted, lambda e: e.se), ("p", adjusted, lambda e: e.p),
        ("se_HC3", adjusted, lambda e: e.extra["se_by"]["HC3"]), ("unadj_est", alone, lambda e: e.estimate),
        ("unadj_se", alone, lambda e: e.se),
    ):  # fmt: skip
        yield from _of(f"{name}: {key}", {f"T{a}": of(m.contrast(a)) for a in m.arms[1:]}, reference[key])
    trend = linear.ols("CHG ~ TRTPN + factor(SITEGR1) + BASE", table, "model").of("TRTPN")
    yield f"{name}: dose response p", trend.p, reference["dose_response_p"]


# ---- RobinCar2 ---------------------------------------------------------------------------------------------------------------
_NUMBER = r"-?\d+\.\d+(?:e-?\d+)?"
_ROW = re.compile(rf"^ +(\w+(?: v\.s\. \w+)?)((?: +{_NUMBER})+)", re.MULTILINE)


def _robincar(folder: Path, reference: Mapping[str, str]) -> Iterator[Check]:
    table = _table(folder, "RobinCar2_glm_data")
    for part, text in ((k, reference[k]) for k in ("glm", "lm")):
        for block in text.split("Code\n")[1:]:  # a call that names no family is gaussian; the stored results are logistic
            crossed, family = "y_b ~ treatment * s1" in block, "gaussian" if "robin_glm(" in block else "binomial"
            measure = "log ratio" if "log_risk_ratio" in block else "difference"
            given: dict[str, Any] = {"table": table, "outcome": "y_b", "arm": "treatment", "control": "pbo", "covariates": "s1"}
            given |= {"heterogeneous": crossed, "strata": "s1", "covariance": "vcovG"}
            found = ancova(**given) if part == "lm" else g_computation(family=family, **given)
            name = f"RobinCar2 {part}, y_b ~ treatment {'*' if crossed else '+'} s1"
            for label, numbers in _ROW.findall(block):
                yield from _printed(name, label, numbers.split(), found, measure)


def _printed(name: str, label: str, numbers: Sequence[str], m: Margins, measure: str) -> Iterator[Check]:
    """A printed row: of a mean estimate, SE and limits; of a contrast estimate, SE, z and p."""
    if " v.s. " in label:
        treated, control = label.split(" v.s. ")
        e = m.contrast(treated, control, measure)
        values = (e.estimate, e.se, e.statistic, e.p)
        words = ("estimate", "SE", "z", "p")
        name = f"{name}, {measure} {label.replace(' v.s. ', ' v ')}"
    else:
        e = m.mean(label)
        values, words, name = (e.estimate, e.se, *e.interval), ("estimate", "SE", "lower", "upper"), f"{name}, mean {label}"
    for word, value, text in zip(words, values, numbers, strict=True):
        yield check(f"{name}: {word}", value, float(text), _half_digit(text), "RobinCar2 43ba7c1, printed digits")


def _half_digit(text: str) -> float:
    """Half a unit of the last printed digit (and a little for its own rounding)."""
    mantissa, _, exponent = text.partition("e")
    return 0.501 * 10.0 ** (-len(mantissa.partition(".")[2]) + int(exponent or 0))


# ---- counts and repeated outcomes ----------------------------------------------------------------------------------------------
def _longitudinal(folder: Path, reference: Mapping[str, Any]) -> Iterator[Check]:
    epil = _table(folder, "MASS_epil").with_columns(A=(pl.col("trt") == "progabide").cast(pl.Int8))
    formula = "y ~ A + lbase + lage + V4"
    g = gee(formula, epil, subject="subject", family="poisson", correlation="exchangeable")
    ref = reference["epil_gee_exch"]
    yield from _relative(_named("epil, GEE exchangeable", g.names, g.values, ref["coef"]), "R geepack 1.3.9", GEE)
    yield from _relative(_named("epil, GEE robust SE", g.names, g.coefficients().se, ref["robust_se"]), "R geepack 1.3.9", GEE)
    yield check("epil, GEE: alpha", g.alpha, ref["alpha"], GEE, "R geepack 1.3.9", relative=True)
    yield check("epil, GEE: phi", g.phi, ref["phi"], GEE, "R geepack 1.3.9", relative=True)
    n, ref = glm.fit_formula(formula, epil, family="negative-binomial"), reference["epil_negbin_independence"]
    yield from _relative(_named("epil, negative binomial", n.names, n.values, ref["coef"]), "R MASS glm.nb")
    yield from _relative(_named("epil, negative binomial SE", n.names, n.coefficients().se, ref["se"]), "R MASS glm.nb")
    yield check(
        "epil, negative binomial: theta", n.family.theta or np.nan, ref["theta"], REGRESSION, "R MASS glm.nb", relative=True
    )
    respiratory = _table(folder, "geepack_respiratory").with_columns(A=(pl.col("treat") == "A").cast(pl.Int8))
    terms = "outcome ~ A + baseline + factor(center) + sex + age"
    g, ref = gee(terms, respiratory, subject=("center", "id"), family="binomial"), reference["respiratory_gee"]
    yield from _relative(_named("respiratory, GEE exchangeable", g.names, g.values, ref["coef"]), "R geepack 1.3.9", GEE)
    yield from _relative(
        _named("respiratory, GEE robust SE", g.names, g.coefficients().se, ref["robust_se"]), "R geepack 1.3.9", GEE
    )
    yield check("respiratory, GEE: alpha", g.alpha, ref["alpha"], GEE, "R geepack 1.3.9", relative=True)


def _named(name: str, names: Sequence[str], values: Array, reference: Mapping[str, float]) -> Pairs:
    yield from _of(name, dict(zip(names, map(float, values), strict=True)), reference)


# ---- what theory says --------------------------------------------------------------------------------------------------------
def invariance(folder: Path) -> Iterator[Check]:
    """Largest change of estimate and SE when the score is shifted and rescaled."""
    _, _, trial = history_and_trial(folder)
    trial = trial.with_columns(
        better=pl.col("cd420") > 350, grade=(pl.col("cd420") / 150).floor().clip(0, 4), count=(pl.col("cd420") / 50).floor()
    )
    moves = {
        "shifted by 1000": pl.col("score") + 1e3,
        "times −0.001": pl.col("score") * -1e-3,
        "both": pl.col("score") * 37 - 5e3,
    }

    def runs(table: pl.DataFrame) -> dict[str, Estimate]:
        here: dict[str, Any] = {"table": table, "arm": "arms", "control": 0, "score": "score"}
        return {
            "ANCOVA": ancova(outcome="cd420", covariates="age", **here).estimates[0],
            "ANHECOVA": ancova(outcome="cd420", heterogeneous=True, **here).estimates[0],
            "binary, risk difference": g_computation(outcome="better", **here).estimates[0],
            "count, log rate ratio": g_computation(outcome="count", family="poisson", **here).contrasts("log ratio")[0],
        }

    before = runs(trial)
    for words, moved in moves.items():
        for name, e in runs(trial.with_columns(score=moved)).items():
            change = max(abs(e.estimate - before[name].estimate), abs(e.se - before[name].se))
            yield check(f"score {words}, {name}: change of estimate and SE", change, 0.0, 1e-10, "invariance of the linear span")


def simulated(rho: float, trials: int = TRIALS, subjects: int = SUBJECTS, seed: int = SEED) -> tuple[ManyAncova, ManyAncova]:
    """Trials without an effect, 1:1, whose score correlates rho with the outcome: unadjusted and score-adjusted analyses."""
    rng = generator(seed, "cross-sectional trials", f"{rho:g}")
    arm = np.tile([0.0, 1.0], subjects // 2)
    score = rng.standard_normal((trials, subjects))
    y = rho * score + np.sqrt(1 - rho**2) * rng.standard_normal((trials, subjects))
    return ancova_many(y, None, arm), ancova_many(y, score[..., None], arm)


def variance_ratio(adjusted: Array, unadjusted: Array) -> tuple[float, float]:
    """Ratio of the variances of paired estimates, and its Monte Carlo standard error (delta method)."""
    a, u = ((v - v.mean()) ** 2 for v in (adjusted, unadjusted))
    ratio = float(a.mean() / u.mean())
    return ratio, ratio * float(np.std(a / a.mean() - u / u.mean(), ddof=1) / np.sqrt(len(a)))


def simulation(trials: int = TRIALS) -> Iterator[Check]:
    """Type I error and variance ratio of the score-adjusted analysis, for a useful and a useless score."""
    for rho, words in ((RHO, f"score of correlation {RHO}"), (0.0, "useless score")):
        unadjusted, adjusted = simulated(rho, trials)
        error = np.sqrt(0.05 * 0.95 / trials)
        source = f"nominal level; {trials} trials of {SUBJECTS}, Monte Carlo error {error:.4f}"
        yield check(f"simulation, {words}: type I error, HC3", adjusted.rejected(), 0.05, 0.005, source)
        yield check(f"simulation, {words}: type I error, model-based", adjusted.rejected(model=True), 0.05, 0.005, source)
        ratio, error = variance_ratio(adjusted.estimates, unadjusted.estimates)
        source = f"1 − rho² (Schuler et al. 2022); {trials} trials of {SUBJECTS}, Monte Carlo error {error:.4f}"
        yield check(f"simulation, {words}: variance ratio", ratio, 1 - rho**2, 0.02, source)
