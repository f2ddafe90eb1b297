"""Pharmacodynamic and mechanistic models against limits and courses that are known by hand, SciPy, and published fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad, solve_ivp
from scipy.optimize import least_squares

from gemello.base.reference import Check, check, rows
from gemello.domains.pharmacology.authorities.responses_courses import errors
from gemello.domains.pharmacology.responses import MODELS
from gemello.domains.pharmacology.warfarin.model import pk as warfarin_pk
from gemello.inference.population import fit
from gemello.model import registry
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
HELD = {"CL": 0.0}  # a drug that is not eliminated: its concentration holds after a bolus into the central compartment


def model(name: str) -> Model:
    return registry.get(MODELS[name])


def values(name: str) -> dict[str, float]:
    """Values of the model's table."""
    return {r.name: r.value for r in model(name).parameters}


def course(name: str, plan: Schedule, given: Mapping[str, Any], output: str, **options: Any) -> NDArray[np.float64]:
    """Output at the observations of `plan`, one subject."""
    got = simulate(model(name), plan, given, **{**TIGHT, **options}).check()
    return got.outputs[output][0][plan.evid == 0]


def largest(ours: Any, theirs: Any) -> float:
    """Largest difference, in parts of the largest value."""
    return float(np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs)))


def exact(name: str, ours: Any, theirs: Any, source: str, tolerance: float = 1e-6) -> Check:
    return check(f"{name}: largest error over its maximum", largest(ours, theirs), 0.0, tolerance, source)


# ---- parts -----------------------------------------------------------------------------------------------------------
def whole_courses() -> Iterator[Check]:
    """Every model but warfarin_pk, all states, against its equations written anew."""
    for name, error in errors():
        source = "equations of the paper in NumPy, SciPy at rtol 1e-11"
        yield check(f"{name}: every state under doses, largest error over its maximum", error, 0.0, 1e-5, source)


def effect_site() -> Iterator[Check]:
    """Effect site after an oral bolus: three exponentials."""
    p, t = values("effect_compartment"), np.linspace(0.25, 36.0, 40)
    k, ka, ke = p["CL"] / p["V"], p["KA"], p["KE0"]
    terms = [np.exp(-a * t) / ((b - a) * (c - a)) for a, b, c in ((ka, k, ke), (k, ka, ke), (ke, ka, k))]
    ours = course("effect_compartment", Schedule().dose(0.0, 100.0).observe(t), {}, "ce")
    yield exact("effect_compartment, ce", ours, 100.0 * ka * ke / p["V"] * sum(terms), "closed form (Sheiner 1979)", 1e-10)
    held = Schedule().dose(0.0, p["EC50"] * p["V"], port=2).observe([80.0, 90.0])
    ours = course("effect_compartment", held, HELD, "effect")
    yield exact("effect_compartment, effect of EC50 held", ours, np.full(2, p["E0"] + p["EMAX"] / 2), "E0 + EMAX/2", 1e-10)


def indirect() -> Iterator[Check]:
    """Responses to a constant concentration, and their limits at a very high one (Dayneka 1993; Sharma & Jusko 1996)."""
    t = np.linspace(0.5, 40.0, 25)
    for number in (1, 2, 3, 4):
        name = f"indirect_{number}"
        p = values(name)
        half, top, sign = (p["IC50"], p["IMAX"], -1.0) if number < 3 else (p["SC50"], p["SMAX"], 1.0)
        for c, label in ((half, "at C50"), (1e9 * half, "without limit")):
            factor = 1.0 + sign * top * c / (half + c)
            gain, loss = (factor, 1.0) if number in (1, 3) else (1.0, factor)
            end, rate, start = p["KIN"] * gain / (p["KOUT"] * loss), p["KOUT"] * loss, p["KIN"] / p["KOUT"]
            ours = course(name, Schedule().dose(0.0, c * p["V"], port=2).observe(t), HELD, "response")
            want = end + (start - end) * np.exp(-rate * t)
            yield exact(f"{name}, response to a concentration held {label}", ours, want, "closed form")
    p = values("turnover_emax")
    end = p["E0"] * (1 + p["EMAX"] / 2)
    ours = course("turnover_emax", Schedule().dose(0.0, p["EC50"] * p["V"], port=2).observe(t), HELD, "response")
    yield exact("turnover_emax, response to EC50 held", ours, end + (p["E0"] - end) * np.exp(-p["KOUT"] * t), "closed form")


def cells() -> Iterator[Check]:
    """Circulating cells without drug, and their steady state under a constant concentration."""
    t = np.array([1.0, 500.0, 4000.0, 12000.0])
    p = values("myelosuppression")
    rest = course("myelosuppression", Schedule.of(0.0, evid=2).observe(t), {}, "circ")
    yield exact("myelosuppression, no drug", rest, np.full(4, p["CIRC0"]), "baseline CIRC0", 1e-9)
    for name, effect in (("myelosuppression", 0.2), ("myelosuppression_emax", 0.2)):
        p = values(name)
        c = effect / p["SLOPE"] if "SLOPE" in p else p["EC50"] * effect / (p["EMAX"] - effect)
        ours = course(name, Schedule().dose(0.0, c * p["V1"]).observe(t), {**HELD, "Q": 0.0}, "circ")
        want = p["CIRC0"] * (1 - effect) ** (1 / p["GAMMA"])
        yield check(f"{name}, Edrug {effect} for ever, cells at 12,000 h", ours[-1], want, 1e-5, "CIRC0 (1 − Edrug)^(1/GAMMA)")


def tumours() -> Iterator[Check]:
    """Growth without drug, kill at the threshold concentration, and growth under an exposure that wanes."""
    p = values("tumour_simeoni")
    grow, line, psi = p["LAMBDA0"], p["LAMBDA1"], p["PSI"]
    t = np.array([2.0, 6.0, 9.0, 12.0, 15.0, 20.0, 40.0])
    w = course("tumour_simeoni", Schedule.of(0.0, evid=2).observe(t), {}, "tumour")
    when = [
        quad(lambda v: (1 + (grow / line * v) ** psi) ** (1 / psi) / (grow * v), p["W0"], e, epsabs=1e-12, limit=200)[0]
        for e in w
    ]
    yield exact("tumour_simeoni, no drug, time at which a volume is reached", when, t, "quadrature of dt = dw/w'", 1e-7)
    yield check("tumour_simeoni, no drug, cm^3 in 20 days of linear growth", w[-1] - w[-2], 20 * line, 1e-6, "LAMBDA1 t")
    early = p["W0"] * np.exp(grow * t[:2])
    yield exact("tumour_simeoni, no drug, first 6 days", w[:2], early, "W0 exp(LAMBDA0 t)", 1e-7)
    held = Schedule().dose(0.0, p["V"] * grow / p["K2"], port=2).observe([0.5, 60.0])
    w = course("tumour_simeoni", held, HELD, "tumour")
    want = p["W0"] * (1 + 3 * grow / p["K1"])
    source = "cycling cells hold at C = LAMBDA0/K2; W0 (1 + 3 LAMBDA0/K1)"
    yield check("tumour_simeoni, threshold concentration held, cm^3 at 60 days", w[-1], want, 1e-7, source)
    p = values("tumour_claret")
    t = np.linspace(1.0, 60.0, 20)
    gone = lambda start, end: (np.exp(-p["LAMBDA"] * start) - np.exp(-p["LAMBDA"] * end)) / p["LAMBDA"]  # noqa: E731
    plan = Schedule().signal(0.0, 0.6, port=1).signal(26.0, 0.0, port=1).observe(t)
    want = p["Y0"] * np.exp(p["KL"] * t - p["KD"] * 0.6 * gone(0.0, np.minimum(t, 26.0)))
    yield exact("tumour_claret, 0.6 g for 26 weeks", course("tumour_claret", plan, {}, "tumour"), want, "closed form")


def virus() -> Iterator[Check]:
    """Untreated set point, complete and partial inhibition."""
    p = values("hiv_dynamics")
    t = np.array([0.5, 2.0, 5.0, 14.0, 40.0])
    rest = course("hiv_dynamics", Schedule.of(0.0, evid=2).observe(t), {}, "rna")
    target = p["C"] / (p["K"] * p["N"])
    infected = (p["LAMBDA"] - p["D"] * target) / p["DELTA"]
    first = p["N"] * p["DELTA"] * infected / p["C"]
    yield exact("hiv_dynamics, untreated, copies/mL", rest, np.full(5, 2 * first), "N DELTA I/C at T = C/(K N)", 1e-8)
    plan = Schedule().signal(0.0, 1.0, port=1).observe(t)
    full = course("hiv_dynamics", plan, {"E_RT": 1.0, "E_PI": 0.0}, "rna")
    want = 2 * first * (p["C"] * np.exp(-p["DELTA"] * t) - p["DELTA"] * np.exp(-p["C"] * t)) / (p["C"] - p["DELTA"])
    yield exact("hiv_dynamics, no cell infected from day 0, copies/mL", full, want, "two exponentials (Perelson 1996)")
    cd4 = course("hiv_dynamics", plan, {"E_RT": 1.0, "E_PI": 0.0}, "cd4")
    healthy = p["LAMBDA"] / p["D"]
    want = healthy + (target - healthy) * np.exp(-p["D"] * t) + infected * np.exp(-p["DELTA"] * t)
    yield exact("hiv_dynamics, no cell infected from day 0, CD4", cd4, want / 1000, "exponentials")
    late = Schedule().signal(0.0, 1.0, port=1).observe([1.0, 6000.0])
    weak = course("hiv_dynamics", late, {"E_RT": 0.2, "E_PI": 0.4}, "rna")
    left = 0.8 * 0.6
    new = (p["LAMBDA"] - p["D"] * target / left) * p["N"] / p["C"]
    yield check("hiv_dynamics, weak treatment for ever, copies/mL", weak[-1], 2 * new, 1e-5, "T = C/(K N left), left 0.48", True)
    without = simulate(
        model("hiv_dynamics"), Schedule.of(0.0, evid=2).observe([9.0]), {"N": 0.99 * p["D"] * p["C"] / (p["LAMBDA"] * p["K"])}
    )
    yield check(
        "hiv_dynamics, R0 = 0.99, CD4 (1/uL)", without.outputs["cd4"][0, -1], healthy / 1000, 1e-6, "no infection: LAMBDA/D"
    )


def binding() -> Iterator[Check]:
    """tmdd_full without tissue is tmdd; its target is constant where complex and target are lost alike; tmdd_qss is its limit."""
    t = np.linspace(0.5, 40.0, 30)
    p = values("tmdd_full")
    plan = Schedule().dose(0.0, 150.0, port=2).observe(t)
    alone = course("tmdd_full", plan, {"Q": 0.0}, "free")
    tmdd = registry.get("gemello.domains.pharmacology.target_mediated.model:tmdd")
    same = {"KEL": p["CL"] / p["V1"], "V": p["V1"], **{n: p[n] for n in ("KON", "KOFF", "KINT", "KSYN", "KDEG")}}
    got = simulate(tmdd, Schedule().dose(0.0, 150.0).observe(t), same, **TIGHT).check().outputs["free"][0, 1:]
    yield exact("tmdd_full without tissue, free drug", alone, got, "model tmdd (itself held against SciPy)")
    alike = simulate(model("tmdd_full"), plan, {"KINT": p["KDEG"]}, **TIGHT).check().outputs
    total = (alike["free_target"] + alike["bound"])[0][1:]
    yield exact("tmdd_full, KINT = KDEG, total target", total, np.full(30, p["KSYN"] / p["KDEG"]), "KSYN/KDEG", 1e-8)
    gaps = []
    for speed in (1.0, 10.0, 100.0):
        kon, koff = speed * p["KON"], speed * (p["KOFF"] + p["KINT"]) - p["KINT"]  # KSS as it is
        quasi = course("tmdd_qss", plan, {"KSS": (koff + p["KINT"]) / kon}, "free")
        gaps.append(largest(course("tmdd_full", plan, {"KON": kon, "KOFF": koff}, "free"), quasi))
    yield check(
        "tmdd_qss against tmdd_full at 100 × KON: largest difference over the maximum", gaps[2], 0.0, 1e-4, "Gibiansky 2008"
    )
    yield check(
        "tmdd_qss: its distance from tmdd_full falls as 1/KON (factor 10 each)", gaps[1] / gaps[2], 10.0, 1.0, "Gibiansky 2008"
    )


def warfarin_subjects(folder: Path) -> list[Subject]:
    """Concentrations of 32 subjects (output 0; the four that are 0 left out) and prothrombin complex activity (output 1)."""
    table = rows(folder / "nlmixr2data" / "warfarin.csv")
    out = []
    for i in dict.fromkeys(r["id"] for r in table):
        own = [r for r in table if r["id"] == i]
        (dose,) = (r for r in own if r["evid"] == "1")
        plan = Schedule().dose(float(dose["time"]), float(dose["amt"]))
        for k, name in enumerate(("cp", "pca")):
            seen = [(float(r["time"]), float(r["dv"])) for r in own if r["evid"] == "0" and r["dvid"] == name]
            kept = [s for s in seen if name == "pca" or s[1] > 0]
            plan = plan.observe([s[0] for s in kept], [s[1] for s in kept], output=k) if kept else plan
        out.append(Subject(i, plan.covariates(WT=float(dose["wt"]))))
    return out


def concentrations_alone(subject: Subject) -> Subject:
    s = subject.schedule
    return Subject(subject.id, s.take((s.evid != 0) | (s.output == 0)))


def warfarin(folder: Path) -> Iterator[Check]:
    """Own FOCEI fit of the kinetics beside a published SAEM fit."""
    subjects = [concentrations_alone(s) for s in warfarin_subjects(folder)]
    start = {"CL": 0.1, "V": 10.0, "KA": 1.0, "ALAG1": 0.5, "cp_additive": 0.5, "cp_proportional": 0.2}
    start |= {f"OMEGA({n},{n})": 0.1 for n in ("CL", "V", "KA", "ALAG1")} | {"OMEGA(CL,V)": 0.0}
    own = fit(warfarin_pk, subjects, "focei", start=start)
    yield check("warfarin FOCEI converged (1 yes)", float(own.converged), 1.0, 0.0, "regression check: the fit's own verdict")
    yield check("warfarin FOCEI objective", own.objective, 211.545, 0.01, "regression check: this table's fit")
    saem = "NONMEM 7.2 SAEM, nlme_reference_estimates.csv (250 concentrations; ours 247)"
    for name, reference, tolerance in (("CL", 0.133, 0.03), ("V", 8.15, 0.03), ("ALAG1", 0.875, 0.1)):
        yield check(f"warfarin FOCEI {name}", own.theta[name], reference, tolerance, saem, relative=True)
    yield check("warfarin FOCEI variance of eta CL", own.omega[0, 0], 0.069, 0.05, saem, relative=True)
    yield check("warfarin FOCEI variance of eta V", own.omega[1, 1], 0.0188, 0.1, saem, relative=True)


def xenografts(folder: Path) -> Iterator[Check]:
    """Growth of 8 untreated LXF A677 xenografts: each fitted by SciPy, then grown by tumour_simeoni at the same values."""
    table = [r for r in rows(folder / "chi_tgi" / "lxf_control_growth.csv") if r["Observable"] == "Tumour volume"]
    subjects, fitted, left, straight = [], [], [], []
    for i in dict.fromkeys(r["ID"] for r in table):
        t, w = np.array(sorted((float(r["Time"]), float(r["Value"])) for r in table if r["ID"] == i)).T
        best = min(
            (least_squares(_misfit, np.log([w[0], a, b]), args=(t, w)) for a in (0.1, 0.2) for b in (0.03, 0.1)), key=_cost
        )
        fitted.append(np.exp(best.x))
        left.append(best.fun)
        straight.append(np.polyval(np.polyfit(t, np.log(w), 1), t) - np.log(w))
        subjects.append(Subject(i, Schedule().observe(t, w)))
    given = dict(zip(("W0", "LAMBDA0", "LAMBDA1"), np.array(fitted).T, strict=True))
    got = simulate(model("tumour_simeoni"), subjects, given, **TIGHT).check().outputs["tumour"]
    ours = [np.log(v[: len(s.schedule)] / s.schedule.value) for v, s in zip(got, subjects, strict=True)]
    wrong = np.abs(np.concatenate(ours) - np.concatenate(left)).max()
    yield check("LXF xenografts: largest |log volume − SciPy|, 102 volumes", wrong, 0.0, 1e-5, "SciPy on the same equation")
    spread = lambda parts, used: float(np.sqrt(np.sum(np.concatenate(parts) ** 2) / (102 - 8 * used)))  # noqa: E731
    source = "exponential growth alone, 2 parameters a mouse, fitted to the same data"
    gain = spread(ours, 3) / spread(straight, 2)
    yield check("LXF xenografts: residual SD of log volume, in parts of exponential growth's", gain, 0.66, 0.02, source)


def _misfit(x: NDArray[np.float64], t: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log volume less the measured one at log W0, log LAMBDA0 and log LAMBDA1."""
    first, grow, line = np.exp(x)
    slope = lambda _, v: grow * v / (1 + (grow / line * v) ** 20) ** 0.05  # noqa: E731
    return np.asarray(np.log(solve_ivp(slope, (0, t[-1]), [first], t_eval=t, rtol=1e-9, atol=1e-12).y[0] / w))


def _cost(found: Any) -> float:
    return float(found.cost)


# ---- all -------------------------------------------------------------------------------------------------------------
def known() -> Iterator[Check]:
    """What needs no data."""
    for part in (effect_site, indirect, cells, tumours, virus, binding, whole_courses):
        yield from part()


def checks(folder: Path) -> Iterator[Check]:
    """All checks of this room; `folder` holds the reference data of the domain."""
    yield from known()
    yield from xenografts(folder)
    yield from warfarin(folder)
