"""Population fits and individual estimates against NONMEM and nlme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gemello.base.reference import Check, check, columns, rows
from gemello.domains.pharmacology.authorities.common import theoph
from gemello.domains.pharmacology.one_compartment.model import oral as pk1_oral
from gemello.domains.pharmacology.phenobarbital_neonate.model import pheno
from gemello.domains.pharmacology.theophylline.model import first_order as theoph_fo
from gemello.domains.pharmacology.theophylline.model import oral as theoph_oral
from gemello.formats import nonmem
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import Modes, modes
from gemello.inference.likelihood import problem
from gemello.inference.population import fit
from gemello.inference.result import Fit
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters


def theophylline(folder: Path) -> Iterator[Check]:
    """Own fits to Theoph from plain start values, by FOCEI and by FO."""
    subjects = theoph(folder)
    start = {"KA": 1.0, "CL": 3.5, "V": 40.0, "cp_additive": 1.0}
    start |= {f"OMEGA({n},{n})": 0.1 for n in ("KA", "CL", "V")}
    own = fit(theoph_oral, subjects, "focei", start=start)
    nlme = "FOCEI re-fit, nlme_reference_estimates.csv (nlmixr2 prints 116.80)"
    yield _converged("Theoph FOCEI", own)
    yield check("Theoph FOCEI objective", own.objective, 116.8034, 0.01, nlme)
    for name, reference in (("KA", 0.46388), ("CL", 1.01216), ("V", 3.45975)):
        yield check(f"Theoph FOCEI log {name}", np.log(own.theta[name]), reference, 0.01, nlme, relative=True)
    start = {"KA": 2.0, "KE": 0.1, "CL": 0.05, "cp_additive": 1.0, "OMEGA(KA,KA)": 2.0, "OMEGA(KE,KE)": 1e-3, "OMEGA(CL,CL)": 0.2}
    start |= {f"OMEGA({a},{b})": 0.0 for a, b in (("KA", "KE"), ("KA", "CL"), ("KE", "CL"))}
    first = fit(theoph_fo, subjects, "fo", start=start, omega="full")
    guide = "NONMEM Users Guide model, FO; nlme_reference_estimates.csv"
    yield _converged("Theoph FO", first)
    yield check("Theoph FO objective", first.objective, 104.5611, 0.01, guide)
    for name, reference in (("KA", 2.7738), ("KE", 0.078128), ("CL", 0.036307)):
        yield check(f"Theoph FO {name}", first.theta[name], reference, 0.01, guide, relative=True)


def phenobarbital(folder: Path) -> Iterator[Check]:
    """NONMEM 7.5.1's objective, individual etas and standard errors for pheno."""
    path = folder / "pharmpy"
    subjects = nonmem.read(path / "pheno.csv", pheno).subjects
    final = next(r for r in rows(path / "pheno_nm751_focei_ext.csv") if r["ITERATION"] == "-1000000000")
    reference = columns(path / "pheno_nm751_focei_phi.csv")
    values = {"CL": float(final["THETA1"]), "V": float(final["THETA2"]), "V_APGR": float(final["THETA3"])}
    values["cp_proportional"] = float(final["SIGMA(1,1)"]) ** 0.5
    omega = np.diag([float(final["OMEGA(1,1)"]), float(final["OMEGA(2,2)"])])
    found = modes_at(pheno, subjects, values, omega)
    source = "NONMEM 7.5.1, pheno .ext and .phi"
    yield check("pheno FOCEI objective at NONMEM's parameters", found.laplace.sum(), float(final["OBJ"]), 1e-6, source)
    etas = np.stack([reference["ETA(1)"], reference["ETA(2)"]], axis=1)
    yield check("pheno etas of 59 neonates: largest |eta − NONMEM|", np.abs(found.eta - etas).max(), 0.0, 1e-5, source)
    start = {"CL": 0.006, "V": 1.3, "V_APGR": 0.1, "cp_proportional": 0.2, "OMEGA(CL,CL)": 0.1, "OMEGA(V,V)": 0.1}
    own = fit(pheno, subjects, "focei", start=start)
    yield _converged("pheno FOCEI", own)
    yield check("pheno own FOCEI fit objective", own.objective, float(final["OBJ"]), 0.01, source)
    estimates = {
        "CL": values["CL"],
        "V": values["V"],
        "V_APGR": values["V_APGR"],
        "OMEGA(CL,CL)": omega[0, 0],
        "OMEGA(V,V)": omega[1, 1],
    }
    for name, v in estimates.items():
        yield check(f"pheno own FOCEI fit {name}", own.estimates[name], v, 0.01, source, relative=True)
    for name, v in (("CL", 2.09967e-4), ("V", 2.68946e-2), ("V_APGR", 8.37555e-2)):
        yield check(f"pheno standard error of {name}", own.se[name], v, 0.02, source, relative=True)
    for name, v in (("CL", 47.580), ("V", 13.581)):
        listed = "NONMEM 7.5.1, pheno .lst, ETASHRINKSD"
        yield check(f"pheno shrinkage of eta {name}, %", 100 * own.shrinkage[name], v, 0.05, listed)


def mapbayr(folder: Path) -> Iterator[Check]:
    """NONMEM's etas and objective contributions for the 8 subjects of mapbayr's first example."""
    path = folder / "mapbayr"
    subjects = nonmem.read(path / "data_to_fit001.csv", pk1_oral).subjects
    reference = np.loadtxt(path / "nonmem_run001_phi.csv", delimiter=",", skiprows=1)  # SUBJECT_NO, ID, 3 etas, ..., OBJ
    values = {"CL": 4.0, "V": 70.0, "KA": 1.0, "cp_proportional": 0.05**0.5, "cp_additive": 0.0}
    found = modes_at(pk1_oral, subjects, values, 0.2 * np.eye(3))
    etas = reference[:, 2:5]
    source = "NONMEM, mapbayr run001 .phi"
    yield check("mapbayr 001 etas of 8 subjects: largest |eta − NONMEM|", np.abs(found.eta - etas).max(), 0.0, 1e-4, source)
    yield check(
        "mapbayr 001 objective of 8 subjects: largest difference",
        np.abs(found.laplace - reference[:, -1]).max(),
        0.0,
        1e-3,
        source,
    )


def modes_at(model: Model, subjects: Any, values: dict[str, float], omega: np.ndarray) -> Modes:
    parameters = PopulationParameters.of(model, values, omega)
    return modes(problem(model, subjects, values=parameters.theta), population_of(parameters))


def _converged(name: str, own: Fit) -> Check:
    return check(f"{name} converged (1 yes)", float(own.converged), 1.0, 0.0, "regression check: the fit's own verdict")
