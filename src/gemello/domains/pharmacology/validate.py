"""The pharmacology models held against outside authorities: NONMEM, nlme, Monolix, posologyr, SciPy. Recomputed each time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from gemello.base.reference import reference_data
from gemello.domains.pharmacology.goti2018.model import vancomycin
from gemello.domains.pharmacology.one_compartment.model import oral as pk1_oral
from gemello.domains.pharmacology.phenobarbital_neonate.model import pheno
from gemello.domains.pharmacology.target_mediated.model import tmdd
from gemello.domains.pharmacology.theophylline.model import first_order as theoph_fo
from gemello.domains.pharmacology.theophylline.model import oral as theoph_oral
from gemello.domains.pharmacology.two_compartment.model import oral as pk2_oral
from gemello.formats import nonmem
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import Modes, modes
from gemello.inference.likelihood import problem
from gemello.inference.population import Fit, fit
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate
from gemello.twin.calibration import calibrate
from gemello.twin.goals import Target
from gemello.twin.regimens import Regimen
from gemello.twin.twin import Twin

Check = dict[str, Any]


def _check(name: str, value: float, reference: float, tolerance: float, source: str, relative: bool = False) -> Check:
    """One row; a relative tolerance is stated as the absolute one that it means."""
    limit = tolerance * abs(reference) if relative else tolerance
    passed = bool(abs(value - reference) <= limit)  # NaN never passes
    return {
        "check": name,
        "value": float(value),
        "reference": float(reference),
        "tolerance": limit,
        "source": source,
        "passed": passed,
    }


def checks() -> Iterator[Check]:
    """Every check of the domain, one at a time. Where the reference data are missing a row says so, and does not pass."""
    folder = reference_data("pharmacology")
    parts: tuple[Callable[[Path], Iterator[Check]], ...] = (
        dosing_designs,
        varying_covariates,
        theophylline,
        phenobarbital,
        mapbayr,
    )
    for part in parts:
        if folder is None:
            words = f"{part.__name__}: not run, no reference data; set GEMELLO_DATA to the folder that holds pharmacology/"
            yield {"check": words, "value": None, "reference": None, "tolerance": None, "source": "", "passed": False}
        else:
            yield from part(folder)
    yield from vancomycin_dosing()
    yield from solvers()
    yield from calibration()


# ---- dosing records ------------------------------------------------------------------------------------------------
def dosing_designs(folder: Path) -> Iterator[Check]:
    """NONMEM's concentrations for 29 dosing designs, 3,837 records."""
    path = folder / "nmtests"
    data = nonmem.read(path / "dosing_data_1001.csv", pk1_oral, bind={"ALAG2": "LAGT", "F2": "BIOAV", "D2": "DUR2"})
    expected = _columns(path / "dosing_results_1001-nm.csv")
    names = {r["ID"]: r["descr"] for r in _rows(path / "dosing_results_1001-run-key.csv")}
    got = simulate(
        pk1_oral,
        data.subjects,
        {"CL": 1.1, "V": 20.0, "KA": 1.5},
        bind={"ALAG2": "LAGT", "F2": "BIOAV", "D2": "DUR2"},
        outputs=["cp"],
    ).check()
    cp, seen = 1000.0 * got.outputs["cp"], ~np.isnan(got.time)
    wrong = np.abs(cp[seen] - expected["CP"]) / np.maximum(np.abs(expected["CP"]), 1.0)
    who = np.repeat(np.array(got.ids), seen.sum(axis=1))
    for i in got.ids:
        here = who == i
        name = f"nmtests {i}: {names[i]} ({here.sum()} records): largest |CP − NONMEM| / max(|NONMEM|, 1)"
        yield _check(name, wrong[here].max(), 0.0, 1e-4, "NONMEM, nmtests dosing_results_1001")
    yield _check("nmtests: records compared", len(wrong), 3837, 0, "NONMEM, nmtests dosing_results_1001")


def varying_covariates(folder: Path) -> Iterator[Check]:
    """NONMEM's concentrations where weight changes from record to record."""
    path = folder / "nmtests"
    rows = _columns(path / "time-varying_data_2001.csv")
    expected = _columns(path / "time-varying_results_2001-nm.csv")
    scaled = 1.1 * (rows["WT"] / 70.0) ** 0.75
    schedule = Schedule.of(
        rows["time"],
        {"CL": scaled},
        evid=rows["evid"],
        port=rows["cmt"],
        amount=rows["amt"],
        interval=rows["ii"],
        additional=rows["addl"],
    )
    got = simulate(pk1_oral, [Subject("1", schedule)], {"V": 20.0, "KA": 1.5}, bind={"CL": "CL"}, outputs=["cp"]).check()
    wrong = np.abs(1000.0 * got.outputs["cp"][0] - expected["CP"]) / np.maximum(np.abs(expected["CP"]), 1.0)
    name = f"nmtests time-varying covariate ({len(wrong)} records): largest |CP − NONMEM| / max(|NONMEM|, 1)"
    yield _check(name, wrong.max(), 0.0, 1e-4, "NONMEM, nmtests time-varying_results_2001")


# ---- population fits -----------------------------------------------------------------------------------------------
def theophylline(folder: Path) -> Iterator[Check]:
    """Own fits to Theoph from plain start values, by FOCEI and by FO."""
    subjects = _theoph(folder)
    start = {"KA": 1.0, "CL": 3.5, "V": 40.0, "cp_additive": 1.0}
    start |= {f"OMEGA({n},{n})": 0.1 for n in ("KA", "CL", "V")}
    own = fit(theoph_oral, subjects, "focei", start=start)
    nlme = "FOCEI re-fit, nlme_reference_estimates.csv (nlmixr2 prints 116.80)"
    yield _converged("Theoph FOCEI", own)
    yield _check("Theoph FOCEI objective", own.objective, 116.8034, 0.01, nlme)
    for name, reference in (("KA", 0.46388), ("CL", 1.01216), ("V", 3.45975)):
        yield _check(f"Theoph FOCEI log {name}", np.log(own.theta[name]), reference, 0.01, nlme, relative=True)
    start = {"KA": 2.0, "KE": 0.1, "CL": 0.05, "cp_additive": 1.0, "OMEGA(KA,KA)": 2.0, "OMEGA(KE,KE)": 1e-3, "OMEGA(CL,CL)": 0.2}
    start |= {f"OMEGA({a},{b})": 0.0 for a, b in (("KA", "KE"), ("KA", "CL"), ("KE", "CL"))}
    first = fit(theoph_fo, subjects, "fo", start=start, omega="full")
    guide = "NONMEM Users Guide model, FO; nlme_reference_estimates.csv"
    yield _converged("Theoph FO", first)
    yield _check("Theoph FO objective", first.objective, 104.5611, 0.01, guide)
    for name, reference in (("KA", 2.7738), ("KE", 0.078128), ("CL", 0.036307)):
        yield _check(f"Theoph FO {name}", first.theta[name], reference, 0.01, guide, relative=True)


def phenobarbital(folder: Path) -> Iterator[Check]:
    """NONMEM 7.5.1's objective, individual etas and standard errors for pheno."""
    path = folder / "pharmpy"
    subjects = nonmem.read(path / "pheno.csv", pheno).subjects
    final = next(r for r in _rows(path / "pheno_nm751_focei_ext.csv") if r["ITERATION"] == "-1000000000")
    reference = _columns(path / "pheno_nm751_focei_phi.csv")
    values = {"CL": float(final["THETA1"]), "V": float(final["THETA2"]), "V_APGR": float(final["THETA3"])}
    values["cp_proportional"] = float(final["SIGMA(1,1)"]) ** 0.5
    omega = np.diag([float(final["OMEGA(1,1)"]), float(final["OMEGA(2,2)"])])
    found = _modes(pheno, subjects, values, omega)
    source = "NONMEM 7.5.1, pheno .ext and .phi"
    yield _check("pheno FOCEI objective at NONMEM's parameters", found.laplace.sum(), float(final["OBJ"]), 1e-6, source)
    etas = np.stack([reference["ETA(1)"], reference["ETA(2)"]], axis=1)
    yield _check("pheno etas of 59 neonates: largest |eta − NONMEM|", np.abs(found.eta - etas).max(), 0.0, 1e-5, source)
    start = {"CL": 0.006, "V": 1.3, "V_APGR": 0.1, "cp_proportional": 0.2, "OMEGA(CL,CL)": 0.1, "OMEGA(V,V)": 0.1}
    own = fit(pheno, subjects, "focei", start=start)
    yield _converged("pheno FOCEI", own)
    yield _check("pheno own FOCEI fit objective", own.objective, float(final["OBJ"]), 0.01, source)
    estimates = {
        "CL": values["CL"],
        "V": values["V"],
        "V_APGR": values["V_APGR"],
        "OMEGA(CL,CL)": omega[0, 0],
        "OMEGA(V,V)": omega[1, 1],
    }
    for name, v in estimates.items():
        yield _check(f"pheno own FOCEI fit {name}", own.estimates[name], v, 0.01, source, relative=True)
    for name, v in (("CL", 2.09967e-4), ("V", 2.68946e-2), ("V_APGR", 8.37555e-2)):
        yield _check(f"pheno standard error of {name}", own.se[name], v, 0.02, source, relative=True)
    for name, v in (("CL", 47.580), ("V", 13.581)):
        listed = "NONMEM 7.5.1, pheno .lst, ETASHRINKSD"
        yield _check(f"pheno shrinkage of eta {name}, %", 100 * own.shrinkage[name], v, 0.05, listed)


def mapbayr(folder: Path) -> Iterator[Check]:
    """NONMEM's etas and objective contributions for the 8 subjects of mapbayr's first example."""
    path = folder / "mapbayr"
    subjects = nonmem.read(path / "data_to_fit001.csv", pk1_oral).subjects
    reference = np.loadtxt(path / "nonmem_run001_phi.csv", delimiter=",", skiprows=1)  # SUBJECT_NO, ID, 3 etas, ..., OBJ
    values = {"CL": 4.0, "V": 70.0, "KA": 1.0, "cp_proportional": 0.05**0.5, "cp_additive": 0.0}
    found = _modes(pk1_oral, subjects, values, 0.2 * np.eye(3))
    etas = reference[:, 2:5]
    source = "NONMEM, mapbayr run001 .phi"
    yield _check("mapbayr 001 etas of 8 subjects: largest |eta − NONMEM|", np.abs(found.eta - etas).max(), 0.0, 1e-4, source)
    yield _check(
        "mapbayr 001 objective of 8 subjects: largest difference",
        np.abs(found.laplace - reference[:, -1]).max(),
        0.0,
        1e-3,
        source,
    )


def _modes(model: Model, subjects: Any, values: dict[str, float], omega: np.ndarray) -> Modes:
    parameters = PopulationParameters.of(model, values, omega)
    return modes(problem(model, subjects, values=parameters.theta), population_of(parameters))


def _converged(name: str, own: Fit) -> Check:
    return _check(f"{name} converged (1 yes)", float(own.converged), 1.0, 0.0, "regression check: the fit's own verdict")


# ---- twins ---------------------------------------------------------------------------------------------------------
def vancomycin_dosing() -> Iterator[Check]:
    """Individual parameters and doses of three patients, Goti 2018."""
    two = {"CLCREAT": 34.0, "WT": 62.0, "DIAL": 0.0}
    seen = Schedule().dose(0, 1900, duration=1).observe(12.0, 14.8).dose(22.2, 1750, duration=1).observe(37.5, 22.5)
    twin = Twin.new(vancomycin, covariates=two, id="02").assimilate(seen)
    p = twin.posterior.individual_mode
    for name, reference in (("CL", 1.72), ("V1", 59.8), ("V2", 41.6)):
        yield _check(
            f"vancomycin patient 02 MAP {name}", p[name], reference, 0.01, "Monolix MAP, posologyr_map_cases.csv", relative=True
        )
    own = {"CLCREAT": 65.0, "WT": 70.0, "DIAL": 0.0}
    seen = Schedule().dose(0, 2000, duration=2).observe(13.0, 12.0).dose(24.2, 1000, duration=2).observe(48.0, 9.5)
    twin = Twin.new(vancomycin, covariates=own, id="B").assimilate(seen)
    vignette = "posologyr vignette, posologyr_map_cases.csv"
    auc = partial(Target, "auc", statistic="increment")
    next_dose = twin.solve_dose(auc(window=(48.0, 72.0), low=400.0), 400.0, Regimen(1000.0, 24.0, 1, 48.0, 2.0))
    yield _check("vancomycin patient B next dose for AUC48-72 = 400, mg", next_dose.dose, 1411.0, 0.01, vignette, relative=True)
    steady = twin.solve_dose(auc(window=(216.0, 240.0), low=400.0), 400.0, Regimen(1000.0, 24.0, 11, 0.0, 2.0), history=False)
    yield _check(
        "vancomycin patient B maintenance every 24 h for AUC216-240 = 400, mg", steady.dose, 1200.0, 0.01, vignette, relative=True
    )
    seen = Schedule().dose(0, 2000, duration=2).observe(13.0, 12.0).dose(24.2, 1400, duration=2).observe(48.0, 10.5)
    twin = Twin.new(vancomycin, covariates=own, id="04").assimilate(seen)
    for name, reference, mode in zip(("CL", "V1", "V2"), (0.10796, 0.04643, 0.06860), twin.posterior.mode, strict=True):
        yield _check(f"vancomycin patient 04 eta {name}", mode, reference, 5e-4, "posologyr test, posologyr_map_cases.csv")


def calibration() -> Iterator[Check]:
    """Coverage of forecasts: 1,000 vancomycin patients simulated, two levels assimilated, the next four forecast."""
    schedule = Schedule().dose(0, 1500, duration=1.5, every=12, times=8).observe([11.5, 23.5, 36.0, 47.5, 60.0, 84.0])
    rng = np.random.default_rng(7)
    n = 1000
    cov = {"CLCREAT": np.clip(62.0 * np.exp(0.5 * rng.standard_normal(n)), 4, 150), "WT": np.clip(rng.normal(80, 18, n), 40, 200)}
    out = calibrate(
        vancomycin, schedule, 24.0, patients=n, covariates={**cov, "DIAL": (rng.random(n) < 0.15).astype(float)}, seed=11
    )
    source = f"nominal; 1,000 simulated patients, Monte Carlo error {100 * out.coverage.error:.2f} points"
    yield _check("coverage of 90 % forecast intervals, %", 100 * out.coverage.share, 90.0, 2.0, source)


# ---- solvers -------------------------------------------------------------------------------------------------------
def solvers() -> Iterator[Check]:
    """Adaptive solvers at rtol 1e-6 against SciPy at 1e-11."""
    times = np.linspace(0.0, 56.0, 113)
    p = {q.name: q.value for q in tmdd.parameters}
    got = simulate(tmdd, Schedule().dose(0, 50.0 * p["V"]).observe(times), method="rodas5p", states=True).check()
    individual = tmdd.individual_type(*(p[n] for n in tmdd.individual_type._fields))
    y0 = [float(np.asarray(v)) for v in tmdd.initial(individual)]
    y0[0] += 50.0 * p["V"]
    slope = lambda t, y: [float(v) for v in tmdd.derivative(t, tmdd.state_type(*y), individual, ())]  # noqa: E731
    tight = solve_ivp(slope, (0, 56), y0, "Radau", t_eval=times, rtol=1e-11, atol=1e-12).y
    for k, name in enumerate(tmdd.states):
        wrong = np.abs(got.states[name][0, -len(times) :][1:] - tight[k][1:]).max() / np.abs(tight[k]).max()
        yield _check(f"tmdd by rodas5p: {name}, largest error over its maximum", wrong, 0.0, 1e-5, "SciPy Radau, rtol 1e-11")
    plan = Schedule().dose(0, 100, every=24, times=7).observe(np.arange(169.0))
    exact = simulate(pk2_oral, plan, outputs=["cp"]).outputs["cp"]
    stepped = simulate(pk2_oral, plan, outputs=["cp"], method="tsit5").check().outputs["cp"]
    wrong = np.abs(stepped - exact).max() / exact.max()
    yield _check(
        "pk2_oral by tsit5: cp, largest error over its maximum",
        wrong,
        0.0,
        1e-5,
        "closed form (itself checked against SciPy expm)",
    )


# ---- reading -------------------------------------------------------------------------------------------------------
def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def _columns(path: Path) -> dict[str, np.ndarray]:
    rows = _rows(path)

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if r[name] in (".", "") else float(r[name]) for r in rows])

    return {name: column(name) for name in rows[0]}


def _theoph(folder: Path) -> list[Subject]:
    """Theoph with a dose record for each subject (dose in mg = mg/kg × weight)."""
    rows = _columns(folder / "R" / "Theoph.csv")
    out = []
    for i in dict.fromkeys(rows["Subject"]):
        here = rows["Subject"] == i
        weight = rows["Wt"][here][0]
        schedule = Schedule.of(rows["Time"][here], value=rows["conc"][here])
        dosed = Schedule.of(0.0, evid=1, amount=rows["Dose"][here][0] * weight).merge(schedule)
        out.append(Subject(f"{i:g}", dosed.covariates(WT=weight)))
    return out
