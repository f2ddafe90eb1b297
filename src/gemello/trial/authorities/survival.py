"""Survival analyses against R's survival package and RobinCar2: every value of survival.json and robincar2_survival.json, and
those of robincar2_snapshots.json that belong to data and a call."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gemello.base.reference import Check, check
from gemello.trial.analysis.result import Estimate
from gemello.trial.analysis.survival import AdjustedLogRank, adjusted_logrank, concordance, cox, kaplan_meier, logrank, prepare

R = "R survival 3.5-3 (reference/survival.json)"
ROBIN = "RobinCar2 43ba7c1 (Ye, Shao & Yi 2024)"
TOLERANCE = 1e-5  # relative, of SOURCES.md
ROOT = 1.3e-4  # RobinCar2 finds its root to .Machine$double.eps^0.25 = 1.2e-4: two of its snapshots of one call differ by 3e-5


def table(folder: Path, name: str) -> pl.DataFrame:
    """A data set; ".", "NA" and nothing are missing."""
    return pl.read_csv(folder / f"{name}.csv", infer_schema_length=None, null_values=[".", "NA", ""])


def checks(folder: Path) -> Iterator[Check]:
    """All of them, in the order of the files."""
    known = json.loads((folder / "reference/survival.json").read_text())
    yield from _trial("PBC, death", pbc(folder), "time", "e", known["pbc_Dpen"])
    yield from _trial("colon, death", colon(folder), "time", "status", known["colon_death"])
    lung = table(folder, "survival_veteran").with_columns(A=pl.col("trt") == 2)
    yield from _trial("veteran", lung, "time", "status", known["veteran"])
    yield from _trial("ACTG175, event", actg(folder), "days", "cens", known["ACTG175_event"])
    yield from rotterdam(folder, known["Rotterdam_to_GBSG"])
    yield from robin(folder)
    yield from snapshots(folder)


def pbc(folder: Path) -> pl.DataFrame:
    """The 312 randomised patients, A D-penicillamine, e death (transplants censored)."""
    randomised = table(folder, "survival_pbc").filter(pl.col("trt").is_not_null())
    return randomised.with_columns(A=(pl.col("trt") == 1).cast(pl.Int64), e=(pl.col("status") == 2).cast(pl.Int64))


def colon(folder: Path) -> pl.DataFrame:
    """Death (etype 2), A levamisole and fluorouracil against observation."""
    two = table(folder, "survival_colon").filter((pl.col("etype") == 2) & pl.col("rx").is_in(["Obs", "Lev+5FU"]))
    return two.with_columns(A=(pl.col("rx") == "Lev+5FU").cast(pl.Int64))


def actg(folder: Path) -> pl.DataFrame:
    """Arm 1 (zidovudine and didanosine) against arm 0."""
    return table(folder, "ACTG175").filter(pl.col("arms").is_in([0, 1])).with_columns(A=pl.col("arms"))


def _trial(name: str, data: pl.DataFrame, time: str, event: str, known: dict[str, Any]) -> Iterator[Check]:
    if "logrank" in known:
        found = logrank(data, time=time, event=event, arm="A")
        yield check(f"{name}: log-rank chi-square", found.chisq, known["logrank"]["chisq"], TOLERANCE, R, relative=True)
        for key, values in (("obs", found.observed), ("exp", found.expected), ("n", np.array(found.n))):
            for i, (v, r) in enumerate(zip(values, known["logrank"][key], strict=True)):
                yield check(f"{name}: log-rank {key}, arm {i}", float(v), r, TOLERANCE, R, relative=True)
    for key in ("cox", "cox_adj"):
        if key in known:
            yield from _cox(f"{name}: {key}", data, time, event, known[key])
    if "rmst" in known:
        curves = kaplan_meier(data, time=time, event=event, arm="A")
        for i, curve in enumerate(curves.values()):
            mean, se = curve.rmst(known["rmst"]["tau"])
            yield check(f"{name}: restricted mean, arm {i}", mean, known["rmst"]["rmst"][i], TOLERANCE, R, relative=True)
            yield check(f"{name}: its standard error, arm {i}", se, known["rmst"]["se"][i], TOLERANCE, R, relative=True)
            median = known["rmst"]["median"][i]
            if median == "NA":
                yield check(f"{name}: median not reached, arm {i}", float(np.isnan(curve.median)), 1.0, 0.0, R)
            else:
                yield check(f"{name}: median, arm {i}", curve.median, median, TOLERANCE, R, relative=True)


def _cox(name: str, data: pl.DataFrame, time: str, event: str, known: dict[str, Any]) -> Iterator[Check]:
    terms = dict.fromkeys("celltype" if k.startswith("celltype") else k for k in known["coef"])
    model = cox(" + ".join(terms), data, time=time, event=event, ties=known.get("ties", "efron"))
    for k, v in known["coef"].items():
        own = k if k in model.names else k[2:-1]  # R writes I(sqrt(nodes))
        i = model.names.index(own)
        yield check(f"{name}: {k}", float(model.values[i]), v, TOLERANCE, R, relative=True)
        if "se" in known:
            yield check(f"{name}: se of {k}", float(model.se[i]), known["se"][k], TOLERANCE, R, relative=True)
    if "loglik" in known:
        yield check(f"{name}: log likelihood", model.log_likelihood, known["loglik"], TOLERANCE, R, relative=True)
    yield check(f"{name}: n", len(model.x), known["n"], 0.0, R)
    yield check(f"{name}: events", model.events, known["events"], 0.0, R)


def with_score(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The Rotterdam history, and the German trial with `prog`: the history's linear predictor without hormones, grade 2 at
    least."""
    history = table(folder, "survival_rotterdam").filter(pl.col("nodes") > 0)
    history = history.with_columns(t=pl.min_horizontal("rtime", "dtime"), e=pl.max_horizontal("recur", "death"))
    model = cox("age + meno + sqrt(nodes) + log1p(pgr) + grade + hormon", history, time="t", event="e")
    trial = table(folder, "survival_gbsg")
    as_known = trial.with_columns(pl.col("grade").clip(lower_bound=2), hormon=pl.lit(0))
    return history, trial.with_columns(prog=pl.Series(model.linear_predictor(as_known)))


def rotterdam(folder: Path, known: dict[str, Any]) -> Iterator[Check]:
    """A score learnt in a registry, used in a trial."""
    history, trial = with_score(folder)
    yield from _cox("Rotterdam history", history, "t", "e", known["hist"])
    yield from _cox("GBSG unadjusted", trial, "rfstime", "status", known["unadj"])
    yield from _cox("GBSG with the Rotterdam score", trial, "rfstime", "status", known["prog"])
    c = concordance(*(trial[k].to_numpy() for k in ("rfstime", "status", "prog"))).c
    yield check("GBSG: Harrell C of the Rotterdam score", c, known["C"], TOLERANCE, R, relative=True)


def run(data: pl.DataFrame, arm: str, control: object, *, consistent: bool = False, **options: Any) -> AdjustedLogRank:
    """The covariate-adjusted log-rank test of the lung cancer data."""
    d = prepare(data, time="time", event="status", arm=arm, control=control, **options)
    return adjusted_logrank(d, self_consistent=consistent)


def robin(folder: Path) -> Iterator[Check]:
    """robincar2_survival.json."""
    known = json.loads((folder / "reference/robincar2_survival.json").read_text())
    data = table(folder, "RobinCar2_surv_data")
    calls: dict[str, AdjustedLogRank] = {
        "sex_unadjusted": run(data, "sex", "Male"),
        "sex_strata(strata)": run(data, "sex", "Male", strata=["strata"]),
        "sex_adj_age": run(data, "sex", "Male", covariates=["age"]),
        "ecog_adj_age_strata(sex) (exp_level 2, control 1)": run(data, "ecog", 0, covariates=["age"], strata=["sex"]),
    }
    for name, r in calls.items():
        k = known[name]
        yield check(f"{name}: log hazard ratio", r.log_hazard_ratio, k["loghr"], ROOT, ROBIN)
        yield check(f"{name}: standard error", r.se, k["se"], TOLERANCE, ROBIN, relative=True)
        yield check(f"{name}: z", r.z, k["z"], TOLERANCE, ROBIN, relative=True)
        yield check(f"{name}: p", r.p, k["p"], TOLERANCE, ROBIN, relative=True)
        yield check(f"{name}: n", r.n, k["n"], 0.0, ROBIN)


def snapshots(folder: Path) -> Iterator[Check]:
    """The survival part of robincar2_snapshots.json, by the titles of its sections."""
    text = json.loads((folder / "reference/robincar2_snapshots.json").read_text())["survival"]
    parts = {p.split("\n", 1)[0].strip(): p.split("\n", 1)[1] for p in re.split(r"^# ", text, flags=re.M) if p.strip()}
    data = table(folder, "RobinCar2_surv_data")
    up, down = run(data, "sex", "Female"), run(data, "sex", "Male")
    full = data.drop_nulls()
    strata = run(data, "sex", "Male", strata=["strata"])
    calls: dict[str, AdjustedLogRank] = {
        "h_log_hr_est_via_score works as expected": up,
        "h_log_hr_est_via_score does not give spurious warning": run(
            full, "ecog", 0, strata=["sex"], covariates=["age", "meal.cal", "wt.loss"], consistent=True
        ),
        "h_log_hr_est_via_score extends the search interval as needed": up,
        "h_lr_test_via_score works as expected": up,
        "robin_surv_comparison works as expected without covariate adjustment": up,
        "robin_surv_comparison can skip the hazard ratio estimation": up,
        "robin_surv_no_strata_no_cov works as expected": down,
        "robin_surv_strata works as expected": strata,
        "robin_surv_cov works as expected": run(data, "sex", "Male", covariates=["age"]),
        "robin_surv_strata_cov works as expected": run(data, "ecog", 0, covariates=["age"], strata=["sex"]),
    }
    for title, r in calls.items():
        for key, value in re.findall(r"(\w+) = (-?[\d.]+(?:e-?\d+)?)L?\b", parts[title]):
            own, tolerance, relative = _field(r, "test_sigma_l2" if key == "sigma_l2" and "u_l =" in parts[title] else key)
            yield check(f"{title}: {key}", own, float(value), tolerance, ROBIN, relative)
    ecog = run(data, "ecog", 0)
    yield from _row(
        "robin_surv without strata or covariates", ecog, parts["robin_surv works as expected without strata or covariates"]
    )
    yield from _row(
        "robin_surv with strata", run(data, "sex", "Female", strata=["strata"]), parts["robin_surv works as expected with strata"]
    )
    blobs = _serialised(parts["robin_surv works as expected without strata or covariates"])
    for name, value, known in zip(("z", "p"), (ecog.z, ecog.p), _doubles(blobs[0])[0], strict=True):
        yield check(f"robin_surv without strata or covariates: test {name}", value, known, TOLERANCE, ROBIN, relative=True)
    d = prepare(data, time="time", event="status", arm="ecog", control=0)
    counts = {"patients": np.bincount(d.arm), "events": np.bincount(d.arm, weights=d.event)}
    for (name, count), reference in zip(counts.items(), _integers(blobs[1])[:2], strict=True):
        for i, n in enumerate(reference):
            yield check(f"robin_surv without strata or covariates: {name}, arm {i}", float(count[i]), n, 0.0, ROBIN)
    yield from _wald(parts)


def _field(r: AdjustedLogRank, key: str) -> tuple[float, float, bool]:
    """Our value of a field of RobinCar2, its tolerance, and whether it is relative."""
    root = {"theta": r.log_hazard_ratio, "estimate": r.log_hazard_ratio}
    exact = {
        "se": r.se, "sigma_l2": r.at_root.variance, "hr_sigma_l2": r.at_root.variance, "u_l": r.at_null.u,
        "test_score": r.at_null.u, "tau_l": r.z, "test_stat": r.z, "pval": r.p, "p_value": r.p,
        "test_sigma_l2": r.at_null.variance,
    }  # fmt: skip
    if key in root:
        return root[key], ROOT, False
    if key in ("n", "hr_n", "test_n"):
        return r.n, 0.0, False
    return exact[key], 2e-5, True


def _row(name: str, r: AdjustedLogRank, part: str) -> Iterator[Check]:
    """A printed matrix of one row: estimate, standard error, z, p."""
    numbers = [float(v) for v in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", part.partition("dim =")[0])]
    z = r.log_hazard_ratio / r.se
    e = Estimate("", "log hazard ratio", r.log_hazard_ratio, r.se, "", r.n, scale="log")
    own = (
        ("log hazard ratio", e.estimate, ROOT),
        ("standard error", e.se, 1e-5),
        ("Wald z", z, ROOT / e.se),
        ("Wald p", e.p, ROOT / e.se),
    )
    for (what, value, tolerance), reference in zip(own, numbers, strict=True):
        yield check(f"{name}: {what}", value, reference, tolerance, ROBIN)


def _wald(parts: dict[str, str]) -> Iterator[Check]:
    """Wald z and p of given estimates and standard errors."""
    one = [float(v) for v in re.findall(r"\d*\.?\d+", parts["h_log_hr_coef_mat works as expected"].partition("dim")[0])]
    many = _doubles(_serialised(parts["h_log_hr_coef_mat works as expected for multiple comparisons"])[0])[0]
    for k, values in ((1, one), (3, list(many))):
        for i in range(k):
            estimate, se, z, p = values[i::k]
            e = Estimate("", "log hazard ratio", estimate, se, "", 1)
            yield check(f"Wald z of {estimate:g} ({se:g})", e.statistic, z, 1e-12, ROBIN)
            yield check(f"Wald p of {estimate:g} ({se:g})", e.p, p, 1e-12, ROBIN)


# ---- R's serialised objects (format 3, XDR): vectors of numbers only -----------------------------------------------------------
def _serialised(part: str) -> list[bytes]:
    return [
        base64.b64decode(re.sub(r"\s", "", b)) for b in re.findall(r"WAoA[A-Za-z0-9+/=\s]*?(?=\n\n|\Z)", part.strip() + "\n\n")
    ]


def _vectors(blob: bytes, kind: int, code: str, size: int) -> list[tuple[Any, ...]]:
    """Vectors of one type of R (13 whole numbers, 14 real ones), without names or with a dim attribute."""
    out = []
    for flags in (kind, kind | 0x200):
        for m in re.finditer(re.escape(struct.pack(">i", flags)), blob):
            (n,) = struct.unpack_from(">i", blob, m.end()) if m.end() + 4 <= len(blob) else (-1,)
            if 0 < n <= 1000 and m.end() + 4 + n * size <= len(blob):
                out.append(struct.unpack_from(f">{n}{code}", blob, m.end() + 4))
    return out


def _doubles(blob: bytes) -> list[tuple[float, ...]]:
    return _vectors(blob, 14, "d", 8)


def _integers(blob: bytes) -> list[tuple[int, ...]]:
    return [v for v in _vectors(blob, 13, "i", 4) if min(v) >= 0]
