"""The whole-body models against published partition coefficients, volumes and a published fit, and against algebra and SciPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from gemello.base.reference import Check, check, rows
from gemello.domains.pharmacology.authorities.common import theoph
from gemello.domains.pharmacology.physiology import partition
from gemello.domains.pharmacology.physiology.drugs import drug
from gemello.domains.pharmacology.physiology.model import POULIN, RODGERS, WholeBody, mavoglurant, poulin, rodgers, wholebody
from gemello.engine.lanes import precision
from gemello.inference.population import fit
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

Floats = NDArray[np.float64]
ALL = (wholebody, poulin, rodgers, mavoglurant)
_NA, _NB = partition.NO_ACID, partition.NO_BASE

# logP, pKa (acid, base), fu, B:P and unbound Kp as Rodgers & Rowland report them, by way of the supplement of Utsey et al. 2020
KPU: dict[str, tuple[tuple[float, ...], dict[str, float]]] = {
    "bisoprolol": (
        (1.87, _NA, 9.4, 0.85, 1.36),
        dict(
            bone=3.61, brain=3.36, gut=11.0, heart=10.4, kidney=21.4, liver=19.6, lung=17.2, muscle=7.73, skin=6.37, thymus=10.8
        ),
    ),
    "acebutolol": (
        (1.87, _NA, 9.7, 0.79, 1.09),
        dict(bone=2.34, brain=2.57, gut=6.45, heart=6.1, kidney=11.8, liver=11.0, lung=9.67, muscle=4.84, skin=3.85, thymus=6.45),
    ),
    "enoxacin": (
        (np.log10(1.26), 6.1, 8.7, 0.66, 0.94),
        dict(bone=1.74, heart=4.62, kidney=9.88, liver=9.04, lung=7.61, muscle=3.74, skin=3.16, spleen=6.33),
    ),
    "cefazolin": (
        (0.3, 2.3, _NB, 0.16, 0.55),
        dict(bone=0.74, gut=1.28, heart=1.23, kidney=1.1, liver=0.79, lung=1.52, muscle=0.69, skin=1.92),
    ),
    "phenobarbital": (
        (1.6, 7.4, _NB, 0.64, 0.861),
        dict(gut=1.43, heart=0.88, kidney=0.97, liver=0.92, lung=1.07, muscle=0.79, skin=1.84, adipose=1.23),
    ),
    "alfentanil": (
        (2.2, _NA, 6.5, 0.11, 1.0),
        dict(
            brain=6.3,
            gut=7.33,
            heart=3.97,
            kidney=4.24,
            liver=4.05,
            lung=5.48,
            muscle=2.88,
            pancreas=6.71,
            skin=10.7,
            adipose=9.2,
        ),
    ),
    "ethoxybenzamide": (
        (0.77, _NA, _NB, 0.5, 1.0),
        dict(brain=1.03, gut=1.1, heart=0.79, kidney=0.91, lung=0.86, muscle=0.85, skin=1.11, spleen=0.78, adipose=0.48),
    ),
}
# Largest relative deviation allowed. For the last three the reported values lie below what the equations give with that table,
# most in spleen, heart and lung; why is not known (a correction for blood left in the organs would do it).
KPU_LIMIT = {"bisoprolol": 0.02, "acebutolol": 0.04, "enoxacin": 0.08, "cefazolin": 0.08}

# logP, pKa (acid, base), fu, B:P and volume of distribution (L/kg) as Poulin & Theil (2002) report them, by the same way
VOLUMES: dict[str, tuple[tuple[float, ...], float]] = {
    "acetaminophen": ((0.46, 9.38, _NB, 1.0, 1.0), 0.63),
    "ascorbic acid": ((-1.85, 4.7, _NB, 0.76, 0.82), 0.5),
    "isoniazid": ((-0.7, 1.82, _NB, 1.0, 1.0), 0.56),
    "thiopental": ((2.85, 7.45, _NB, 0.112, 1.0), 2.87),
    "acetazolamide": ((-0.26, 7.4, _NB, 0.044, 1.0), 0.32),
    "tetrahydrocannabinol": ((6.97, 10.6, _NB, 0.115, 0.55), 5.53),
    "caffeine": ((-0.07, _NA, 10.4, 0.681, 0.98), 0.53),
    "acebutolol": ((1.71, _NA, 9.67, 0.743, 1.0), 1.25),
    "chlorpheniramine": ((3.38, _NA, 9.13, 0.27, 1.34), 3.26),
    "carvedilol": ((4.19, _NA, 8.4, 0.0054, 0.71), 2.68),
    "mepivacaine": ((1.95, _NA, 7.76, 0.225, 0.9), 1.22),
    "trimethoprim": ((0.91, _NA, 7.12, 0.304, 1.0), 0.52),
    "alfentanil": ((2.16, _NA, 6.5, 0.074, 1.0), 1.38),
    "cimetidine": ((0.4, _NA, 6.8, 0.8, 1.0), 0.56),
    "etomidate": ((3.05, _NA, 4.5, 0.235, 1.0), 4.55),
    "coumarin": ((1.39, _NA, _NB, 0.853, 1.0), 1.08),
    "griseofulvin": ((2.18, _NA, _NB, 0.2, 1.0), 1.72),
    "cyclosporin": ((2.92, _NA, _NB, 0.0602, 1.36), 2.77),
}
# Parts of body weight (L/kg) that the paper sums over, plasma and blood cells apart
PARTS = dict(adipose=0.11957, bone=0.08563, brain=0.02, gut=0.0171, heart=0.0047, kidney=0.0044, liver=0.026, lung=0.0076)
PARTS |= dict(muscle=0.4, spleen=0.0026, skin=0.0371)
PLASMA, CELLS, HEMATOCRIT = 0.0424, 0.0347, 0.45

# Posterior medians and 90 % intervals of Elmokadem et al. (2023) Table 1
ELMOKADEM = {
    "CLINT": (1395.0, 1239.0, 1604.0),
    "KB_MUSCLE": (1.75, 1.49, 2.04),
    "KB_ADIPOSE": (10.3, 9.31, 11.51),
    "OMEGA(CLINT,CLINT)": (0.358**2, 0.263**2, 0.499**2),
    "cp_log": (0.32, 0.298, 0.345),
}


def checks(folder: Path) -> Iterator[Check]:
    """Every check of the whole-body models. The fit takes most of the time: about 75 CPU seconds."""
    yield from coefficients()
    yield from algebra()
    yield from observed()
    yield check(
        "PBPK: whole course, parts of the largest amount", course(rodgers), 0.0, 1e-6, "SciPy expm, equations written again"
    )
    yield from swallowed_theophylline(folder)
    yield from published_fit(folder)


# ---- partition coefficients ------------------------------------------------------------------------------------------
def unbound(name: str) -> dict[str, float]:
    """Kp/fu of a drug of `KPU` by Rodgers & Rowland."""
    log_p, acid, base, fu, ratio = KPU[name][0]
    with precision():
        kp = partition.rodgers_rowland(log_p, acid, base, fu, ratio, HEMATOCRIT, RODGERS)
    return {organ: float(k) / fu for organ, k in kp.items()}


def volume(name: str) -> float:
    """Volume of distribution (L/kg) of a drug of `VOLUMES` by Poulin & Theil: tissues, plasma and blood cells."""
    log_p, acid, base, fu, ratio = VOLUMES[name][0]
    with precision():
        kp = partition.poulin_theil(log_p, acid, base, fu, POULIN)
    cells = (ratio - (1.0 - HEMATOCRIT)) / HEMATOCRIT
    return sum(part * float(kp[organ]) for organ, part in PARTS.items()) + CELLS * cells + PLASMA


def coefficients() -> Iterator[Check]:
    """Both methods against the values that their papers print."""
    for name, (_, printed) in KPU.items():
        ours = unbound(name)
        off = [abs(ours[organ] / k - 1.0) for organ, k in printed.items()]
        source = f"Rodgers & Rowland 2005/2006, {len(off)} organs"
        yield check(f"unbound Kp of {name}: largest relative deviation", max(off), 0.0, KPU_LIMIT.get(name, 0.37), source)
    for name, (_, printed_volume) in VOLUMES.items():
        yield check(f"volume of {name}, L/kg", volume(name), printed_volume, 0.08, "Poulin & Theil 2002", relative=True)


# ---- algebra ---------------------------------------------------------------------------------------------------------
def individual(model: WholeBody, values: Mapping[str, float] | None = None, **cov: float) -> Any:
    """Individual parameters of a typical subject, as floats."""
    at = {r.name: r.value for r in model.parameters} | dict(values or {})
    with precision():
        theta = model.theta_type(*(at[n] for n in model.parameters.theta_names))
        p = model.typical(theta, model.covariate_type(**{c.name: c.reference for c in model.covariates} | cov))
        return p._make(float(v) for v in p)


def extraction(model: WholeBody, p: Any) -> tuple[float, float, float, float]:
    """By hand: blood clearance of liver and kidney (L/h), and concentration leaving them over the arterial, at steady state."""
    hepatic = sum(getattr(p, f"Q_{n.upper()}") for n in (*model.body.on("liver"), *model.body.on("portal")))
    free = p.FU / p.BP
    liver_out = hepatic / (hepatic + p.CLINT * free)
    if not model.body.renal:
        return hepatic * (1.0 - liver_out), 0.0, liver_out, 1.0
    filtered = p.GFR_FRACTION * p.GFR * free
    kidney_out = (p.Q_KIDNEY - filtered) / (p.Q_KIDNEY + p.CLSEC * free)
    return hepatic * (1.0 - liver_out), filtered + p.CLSEC * free * kidney_out, liver_out, kidney_out


def steady(model: WholeBody, p: Any) -> tuple[float, float]:
    """From the system matrix: plasma clearance (L/h) and volume (L) at the steady state of an infusion into venous blood."""
    a, names = system(model, p)
    into = np.zeros(len(names))
    into[names.index("venous")] = 1.0
    amounts = -np.linalg.solve(a, into)
    level = amounts[names.index("arterial")] / p.V_ARTERIAL / p.BP
    return 1.0 / level, float(amounts.sum()) / level


def system(model: WholeBody, p: Any) -> tuple[Floats, list[str]]:
    """System matrix without auc, and its states."""
    with precision():
        a = np.array([[float(v) for v in row] for row in model.matrix(p)])
    return a[:-1, :-1], list(model.states)[:-1]


def by_hand(model: WholeBody, p: Any) -> tuple[float, float]:
    """The same two numbers from the well-stirred organs: CL = B:P (CL_liver + CL_kidney), V = B:P (blood + sum of Kb V)."""
    liver, kidney, liver_out, kidney_out = extraction(model, p)
    level = {"liver": liver_out, "kidney": kidney_out}
    held = sum(
        p.KP_SCALE * getattr(p, f"KB_{n.upper()}") * getattr(p, f"V_{n.upper()}") * level.get(n, 1.0) for n in model.body.organs
    )
    return p.BP * (liver + kidney), p.BP * (p.V_ARTERIAL + p.V_VENOUS + held)


def algebra() -> Iterator[Check]:
    """Clearance and volume at steady state, and oral availability, of the system against the well-stirred organs."""
    for model in ALL:
        p = individual(model, {"CLSEC": 3.0} if model.body.renal else None)
        (cl, vss), (cl_hand, vss_hand) = steady(model, p), by_hand(model, p)
        yield check(f"{model.name}: clearance, L/h", cl, cl_hand, 1e-9, "well-stirred liver and kidney, by hand", relative=True)
        yield check(f"{model.name}: MRT x CL, L", vss, vss_hand, 1e-9, "blood + sum of Kp/(B:P) V, by hand", relative=True)
    p = individual(rodgers, drug("midazolam"))
    a, names = system(rodgers, p)
    swallowed, given = (
        -np.linalg.solve(a, np.eye(len(names))[names.index(s)])[names.index("venous")] for s in ("lumen", "venous")
    )
    out = extraction(rodgers, p)[2]
    yield check(
        "pbpk_rodgers: oral over intravenous area", swallowed / given, out, 1e-9, "1 - hepatic extraction, by hand", relative=True
    )


# ---- what was observed -----------------------------------------------------------------------------------------------
def observed() -> Iterator[Check]:
    """Clearance and volume of theophylline and midazolam predicted for a man of 70 kg."""
    cl, vss = steady(rodgers, individual(rodgers))
    yield check("theophylline: Vss by Rodgers & Rowland, L/kg", vss / 70.0, 0.39, 0.05, "Simcyp, Ke 2013 Table 1", relative=True)
    yield check("theophylline: clearance, L/h", cl, 3.0, 0.05, "observed, Ke 2013 Table 1", relative=True)
    cl, vss = steady(rodgers, individual(rodgers, drug("midazolam")))
    yield check("midazolam: Vss, L", vss, 50.2, 0.25, "observed in 6 volunteers, Heizmann 1983", relative=True)
    source = "mean of 17.0, 19.4 and 26.8, observed in 6 volunteers each (Allonen 1981, Heizmann 1983, Smith 1981)"
    yield check("midazolam: clearance, L/h", cl, 21.1, 0.35, source, relative=True)


def swallowed_theophylline(folder: Path) -> Iterator[Check]:
    """Twelve volunteers (R's Theoph) foretold, nothing fitted, from 0.2 h on. Sex and GFR are not recorded: men, 120 mL/min."""
    subjects = [Subject(s.id, s.schedule.covariates(SEX=1.0, GFR=120.0)) for s in theoph(folder)]
    foretold = simulate(rodgers, subjects).check().outputs["cp"]
    ratios = []
    for plan, cp in zip((s.schedule for s in subjects), foretold, strict=True):
        seen = np.flatnonzero(plan.measured & (plan.time > 0.2) & (plan.value > 0.0))
        ratios.append(np.log(plan.value[seen] / cp[seen]))
    off = np.concatenate(ratios)
    source = f"observed: Theoph, {len(off)} levels"
    yield check("theophylline by mouth: geometric mean of observed over foretold", float(np.exp(off.mean())), 1.0, 0.25, source)
    yield check(
        "theophylline by mouth: share of levels within twofold", float(np.mean(np.abs(off) < np.log(2.0))), 1.0, 0.2, source
    )


# ---- a whole course --------------------------------------------------------------------------------------------------
def slopes(y: Mapping[str, float], p: Any) -> dict[str, float]:
    """The equations of the adult models organ by organ, as a textbook has them: amounts, mg/h."""
    concentration = {n: y[n] / getattr(p, f"V_{n.upper()}") for n in (*rodgers.body.organs, "arterial", "venous")}
    out = {n: concentration[n] / (getattr(p, f"KB_{n.upper()}") * p.KP_SCALE) for n in rodgers.body.organs}
    art, ven = concentration["arterial"], concentration["venous"]
    q = {n: getattr(p, f"Q_{n.upper()}") for n in rodgers.body.fed}
    portal = ("gut", "spleen", "pancreas")
    hepatic, output = q["liver"] + sum(q[n] for n in portal), sum(q.values())
    slope = {n: q[n] * (art - out[n]) for n in q if n != "liver"}
    slope["gut"] += p.KA * y["lumen"]
    slope["kidney"] -= p.GFR_FRACTION * p.GFR * p.FU * art / p.BP + p.CLSEC * p.FU * out["kidney"] / p.BP
    slope["liver"] = q["liver"] * art + sum(q[n] * out[n] for n in portal) - (hepatic + p.CLINT * p.FU / p.BP) * out["liver"]
    slope["lung"] = output * (ven - out["lung"])
    slope["arterial"] = output * (out["lung"] - art)
    returning = sum(q[n] * out[n] for n in q if n not in (*portal, "liver"))
    return slope | {"lumen": -p.KA * y["lumen"], "venous": returning + hepatic * out["liver"] - output * ven, "auc": ven / p.BP}


def course(model: WholeBody) -> float:
    """A swallowed dose, a bolus and an infusion of midazolam: largest error of any state, in parts of its largest value."""
    values = drug("midazolam") | {"CLSEC": 2.0}
    p = individual(model, values, WT=82.0, SEX=0.0, GFR=70.0)
    times = np.array([0.05, 0.3, 1.0, 2.9, 3.1, 4.5, 6.0, 12.0, 36.0])
    plan = Schedule().dose(0.0, 7.5, port=1).dose(0.0, 2.0, port=2).dose(3.0, 5.0, port=2, duration=2.0).observe(times)
    got = simulate(model, plan.covariates(WT=82.0, SEX=0.0, GFR=70.0), values, states=True).check()
    names = list(model.states)
    a = np.array([[slopes(dict(zip(names, e, strict=True)), p)[n] for e in np.eye(len(names))] for n in names])
    start = np.zeros(len(names))
    start[names.index("lumen")], start[names.index("venous")] = 7.5 * values["F1"], 2.0
    rate = np.zeros(len(names))
    rate[names.index("venous")] = 2.5

    def wanted(t: float) -> Floats:
        y = expm(a * min(t, 3.0)) @ start
        if t > 3.0:
            wide = np.zeros((len(names) + 1,) * 2)
            wide[:-1, :-1], wide[:-1, -1] = a, rate
            y = (expm(wide * (min(t, 5.0) - 3.0)) @ np.append(y, 1.0))[:-1]
        return np.asarray(expm(a * (t - 5.0)) @ y if t > 5.0 else y)

    want = np.stack([wanted(t) for t in times], axis=1)
    ours = np.stack([got.states[n][0][plan.evid == 0] for n in names])
    return float((np.abs(ours - want).max(axis=1) / np.abs(want).max(axis=1)).max())


# ---- mavoglurant -----------------------------------------------------------------------------------------------------
def volunteers(folder: Path, count: int = 20) -> list[Subject]:
    """The first subjects of nlmixr2data's mavoglurant, as Elmokadem et al. took them; values of 0 are left out; mg and mg/L."""
    table = rows(folder / "nlmixr2data" / "mavoglurant.csv")
    out = []
    for i in list(dict.fromkeys(r["ID"] for r in table))[:count]:
        mine = [r for r in table if r["ID"] == i]
        seen = [r for r in mine if r["EVID"] == "0" and float(r["DV"]) > 0.0]
        plan = Schedule.of([float(r["TIME"]) for r in seen], value=[float(r["DV"]) / 1000.0 for r in seen])
        for r in (r for r in mine if r["EVID"] == "1"):
            plan = Schedule().dose(float(r["TIME"]), float(r["AMT"]), rate=float(r["RATE"])).merge(plan)
        out.append(Subject(i, plan.covariates(WT=float(mine[0]["WT"]))))
    return out


def published_fit(folder: Path) -> Iterator[Check]:
    """FOCEI of CLint and two partition coefficients; the other three that Elmokadem et al. estimated are held at their values."""
    found = fit(mavoglurant, volunteers(folder), estimate=("CLINT", "KB_MUSCLE", "KB_ADIPOSE", "cp_log")).check()
    for name, (median, low, high) in ELMOKADEM.items():
        source = f"Elmokadem 2023 Table 1 (Stan; 90 % interval {low:.3g} to {high:.3g})"
        yield check(f"mavoglurant FOCEI: {name}", found.estimates[name], median, (high - low) / 2.0, source)
