"""Trial design against rpact 3.3.4 and the published prognostic sample sizes: every value of group_sequential.json and
prognostic_design.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gemello.base.reference import Check, check
from gemello.trial.design.boundaries import GroupSequential, group_sequential
from gemello.trial.design.combination import (
    StageMeans,
    conditional_power,
    conditional_rejection_probability,
    fisher_bounds,
    inverse_normal,
    repeated_interval,
    repeated_p,
)
from gemello.trial.design.prognostic import SimulatedTrials, prognostic_sample_size, simulate_trials
from gemello.trial.design.sample_size import power_means, sample_size_means, sample_size_rates, sample_size_survival

RPACT = "rpact 3.3.4 (reference/group_sequential.json)"
PUBLISHED = "prognostic sample size (reference/prognostic_design.json)"
BOUND, SIZE = 1e-4, 1e-3  # of SOURCES.md: boundaries absolute, sizes relative
TRIALS, SEED = 20_000, 20260


def checks(folder: Path) -> Iterator[Check]:
    """All of them."""
    known = json.loads((folder / "reference/group_sequential.json").read_text())
    yield from bounds(known["bounds"])
    yield from sizes(known["sample_size"])
    yield from combination(known["inverse_normal_example"])
    yield from prognostic(json.loads((folder / "reference/prognostic_design.json").read_text()))


def design_of(key: str) -> GroupSequential | None:
    """The design that a key of the file names; None for Fisher's product."""
    if key.startswith("Fisher"):
        return None
    if key == "asOF_50_75_100":
        return group_sequential([0.5, 0.75, 1.0], "asOF")
    if m := re.fullmatch(r"asHSD_gamma(-?[\d.]+)_K(\d)", key):
        return group_sequential(int(m[2]), "asHSD", parameter=float(m[1]))
    if m := re.fullmatch(r"(\w+)_two_sided_([\d.]+)_K(\d)", key):
        return group_sequential(int(m[3]), m[1], alpha=float(m[2]), sides=2)
    if m := re.fullmatch(r"WangTsiatis([\d.]+)_K(\d)", key):
        return group_sequential(int(m[2]), "WT", parameter=float(m[1]))
    if m := re.fullmatch(r"HaybittlePeto_K(\d)", key):
        return group_sequential(int(m[1]), "HP")
    if m := re.fullmatch(r"(as\w+)_(bs\w+)_nonbinding_K(\d)", key):
        return group_sequential(int(m[3]), m[1], futility=m[2])
    m = re.fullmatch(r"(\w+)_K(\d)_a([\d.]+)", key)
    assert m is not None, key
    return group_sequential(int(m[2]), m[1], alpha=float(m[3]))


def bounds(known: dict[str, Any]) -> Iterator[Check]:
    """Boundaries, levels spent, inflation."""
    for key, values in known.items():
        d = design_of(key)
        found: dict[str, Any] = {}
        if d is None:
            found["criticalValues"] = fisher_bounds(int(key[-1]))
        else:
            found = {"z": d.upper, "p_one_sided": d.p_one_sided, "alpha_spent": d.alpha_spent}
            found |= {"futility": d.lower[:-1], "shift": d.shift, "inflation": d.inflation, "inflation_power0.9": d.inflation}
        for name, reference in values.items():
            # levels and critical values of p are small: also relative, so that a wrong early one is seen
            small = name in ("p_one_sided", "alpha_spent", "criticalValues")
            for i, (v, r) in enumerate(zip(np.atleast_1d(found[name]), np.atleast_1d(reference), strict=True)):
                tolerance = min(BOUND, 1e-4 * abs(r) + 1e-9) if small else BOUND
                yield check(f"{key}: {name} {i + 1}", float(v), float(r), tolerance, RPACT)


def sizes(known: dict[str, Any]) -> Iterator[Check]:
    """Sample sizes, power, expected sizes."""
    of = group_sequential(3, "asOF")
    fixed = {
        "means_d0.5_fixed": sample_size_means(0.5, 1.0),
        "means_d0.5_p80": sample_size_means(0.5, 1.0, power=0.8),
        "means_d0.5_normal": sample_size_means(0.5, 1.0, normal=True),
        "means_d0.5_2to1": sample_size_means(0.5, 1.0, ratio=2.0),
        "rates_.6_.4": sample_size_rates(0.6, 0.4, power=0.8),
        "means_asOF_K3_p80": sample_size_means(0.5, 1.0, power=0.8, design=of),
        "rates_asOF_K3": sample_size_rates(0.6, 0.4, power=0.8, design=of),
    }
    for key, s in fixed.items():
        own = {
            "n": s.n, "n1": s.active, "n2": s.control, "n_by_stage": s.by_stage, "expected_H1": s.expected,
            "expected_H0": s.expected_null, "reject": s.reject, "eff_bounds_scale": s.effect_bounds,
        }  # fmt: skip
        yield from _all(key, own, known[key])
    timed = {
        "surv_HR0.7_med12_acc24_fu12_asOF": sample_size_survival(0.7, 12.0, power=0.8, design=of, accrual=24.0, follow_up=12.0),
        "surv_fixed_p90": sample_size_survival(0.7, 12.0, accrual=24.0, follow_up=12.0),
        "surv_fixed_p90_Freedman": sample_size_survival(0.7, 12.0, method="freedman", accrual=24.0, follow_up=12.0),
    }
    for key, e in timed.items():
        events = e.by_stage if isinstance(known[key]["events"], list) else e.events
        own = {"events": events, "max_subjects": e.n, "analysis_time": e.analysis_time, "expected_events_H1": e.expected}
        yield from _all(key, own, known[key])
    powers = [power_means(130, alt, 1.0, design=of) for alt in known["power_means_asOF_130"]["alt"]]
    own = {
        "alt": known["power_means_asOF_130"]["alt"], "power": [p.power for p in powers], "expN": [p.expected for p in powers],
        "early": [p.early for p in powers],
    }  # fmt: skip
    yield from _all("power_means_asOF_130", own, {k: v for k, v in known["power_means_asOF_130"].items() if k != "alt"})


def _all(key: str, own: dict[str, Any], known: dict[str, Any]) -> Iterator[Check]:
    for name, reference in known.items():
        for i, (v, r) in enumerate(zip(np.ravel(own[name]), np.ravel(reference), strict=True)):
            yield check(f"{key}: {name} {i + 1}", float(v), float(r), SIZE, RPACT, relative=True)


def combination(known: dict[str, Any]) -> Iterator[Check]:
    """The inverse normal example, with the numbers of its own description."""
    listed = {k: [float(v) for v in vs.strip(",").split(",")] for k, vs in re.findall(r"(\w+)=([\d.,]+)", known["data"])}
    data = StageMeans(*(np.array(listed[k]) for k in ("n1", "n2", "means1", "means2", "sd1", "sd2")))
    d = group_sequential(3, "asOF")
    z = inverse_normal(data.p(), d)
    parts = [StageMeans(*(v[:k] for v in data.__dict__.values())) for k in (1, 2)]
    intervals = [repeated_interval(p, d) for p in parts]
    power = conditional_power(z[1], 2, d, listed["nPlanned"][0], listed["thetaH1"][0], listed["sd"][0])
    own: dict[str, list[float]] = {
        "pValues": list(data.p()), "combInverseNormal": list(z), "conditional_power": [np.nan, np.nan, power],
        "crp": [conditional_rejection_probability(z[k], k + 1, d) for k in (0, 1)],
        "repeated_lower": [i[0] for i in intervals], "repeated_upper": [i[1] for i in intervals],
        "repeated_p": [repeated_p(z[k], k + 1, d) for k in (0, 1)],
    }  # fmt: skip
    for name, values in own.items():
        for i, (v, r) in enumerate(zip(values, known[name], strict=False)):
            if r is not None:
                yield check(f"inverse normal example: {name} {i + 1}", float(v), r, BOUND, RPACT)


def prognostic(known: dict[str, Any]) -> Iterator[Check]:
    """The table by its formula, and simulated trials within three Monte Carlo errors of both simulations."""
    for t in known["table"]:
        s = prognostic_sample_size(t["delta"], t["sd"], t["rho"], power=t["power"], ratio=t["r"])
        name = f"prognostic size, {t['r']}:1, rho {t['rho']}"
        yield check(f"{name}: total", s.n, t["n_total"], 1e-9, PUBLISHED, relative=True)
        yield check(f"{name}: variance ratio", s.variance_ratio, t["var_ratio"], 1e-12, PUBLISHED)
        yield check(f"{name}: sample size gain", s.sample_size_gain, t["ess_multiplier"], 1e-12, PUBLISHED)
    for key, values in known["monte_carlo_rho0_6_N200"].items():
        score = {"calibrated": "calibrated", "biased+scaled": "biased", "useless": "useless"}[key]
        s2 = simulate_trials(200, 0.0, 1.0, 0.6, trials=TRIALS, seed=SEED, score=score)  # type: ignore[arg-type]
        yield from _simulated(key, s2, values)


def _simulated(key: str, s: SimulatedTrials, known: dict[str, float]) -> Iterator[Check]:
    both = float(np.hypot(s.rejection_error, known["mc_se"]))
    words, three = f"{PUBLISHED}, {TRIALS} trials", 3 * float(np.sqrt(2))
    name = f"simulated, {key}"
    yield check(f"{name}: type I error", s.rejection, known["type1"], 3 * both, words)
    yield check(f"{name}: variance ratio", s.variance_ratio, known["var_ratio"], three * s.variance_ratio_error, words)
    yield check(f"{name}: bias", s.bias, known["bias"], three * s.bias_error, words)
    yield check(f"{name}: Monte Carlo error of the level", s.rejection_error, known["mc_se"], 1e-4, words)
    nominal = 1.0 if key == "useless" else 0.64
    yield check(f"{name}: level 0.05", s.rejection, 0.05, 0.005, "nominal level")
    yield check(f"{name}: variance ratio {nominal:g}", s.variance_ratio, nominal, 0.02, "1 − rho²")
