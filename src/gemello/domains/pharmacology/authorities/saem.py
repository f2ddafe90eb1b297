"""SAEM, with objective and standard errors by importance sampling, against nlme, NONMEM and simulated sets with known truth; and
FOCEI on the same sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.reference import Check, check, rows
from gemello.domains.pharmacology.authorities import simulated
from gemello.domains.pharmacology.authorities.common import theoph
from gemello.domains.pharmacology.theophylline.model import oral as theoph_oral
from gemello.domains.pharmacology.warfarin.model import pk as warfarin_pk
from gemello.inference.population import fit
from gemello.inference.result import Fit
from gemello.model.schedule import Schedule, Subject

SEED = 1


def _verdict(name: str, found: Fit) -> Check:
    return check(f"{name} converged (1 yes)", float(found.converged), 1.0, 0.0, "regression check: the fit's own verdict")


def _variances(**values: float) -> dict[str, float]:
    return {f"OMEGA({n},{n})": v for n, v in values.items()}


def theophylline(folder: Path) -> Iterator[Check]:
    """Theoph by SAEM beside FOCEI, whose approximation of the likelihood is close there."""
    start = {"KA": 1.0, "CL": 3.5, "V": 40.0, "cp_additive": 1.0} | _variances(KA=0.1, CL=0.1, V=0.1)
    found = fit(theoph_oral, theoph(folder), "saem", start=start, seed=SEED)
    yield _verdict("Theoph SAEM", found)
    source = "FOCEI re-fit, nlme_reference_estimates.csv"
    for name, reference in (("KA", 0.46388), ("CL", 1.01216), ("V", 3.45975)):
        yield check(f"Theoph SAEM log {name}", np.log(found.estimates[name]), reference, 0.02, source)
    yield check("Theoph SAEM additive error, mg/L", found.estimates["cp_additive"], 0.69441, 0.01, source, relative=True)
    for name, reference in (("KA", 0.40235), ("CL", 0.06910), ("V", 0.01916)):
        yield check(f"Theoph SAEM OMEGA {name}", found.estimates[f"OMEGA({name},{name})"], reference, 0.1, source, relative=True)


def warfarin_subjects(folder: Path) -> list[Subject]:
    """The 250 concentrations of NONMEM's run. Its data (warfarin_conc.csv of DDMORE, public in pharmml-example) lack one row of
    nlmixr2data's, patient 13 at 3 h, and keep the four zeros."""
    table = rows(folder / "nlmixr2data" / "warfarin.csv")
    out = []
    for who in dict.fromkeys(r["id"] for r in table):
        own = [r for r in table if r["id"] == who]
        dose = next(r for r in own if r["evid"] == "1" and float(r["amt"]) > 0)
        seen = [r for r in own if r["evid"] == "0" and r["dvid"] == "cp" and (who, float(r["time"])) != ("13", 3.0)]
        s = Schedule().dose(float(dose["time"]), float(dose["amt"]))
        s = s.observe([float(r["time"]) for r in seen], [float(r["dv"]) for r in seen])
        out.append(Subject(who, s.covariates(WT=float(own[0]["wt"]))))
    return out


def warfarin(folder: Path) -> Iterator[Check]:
    """Warfarin by SAEM. NONMEM's additive error went to 0, where four values of 0 before the lag make the likelihood grow without
    bound; here it is held at 0, and a value of 0 where nothing has been absorbed yet says nothing."""
    start = {"CL": 0.1, "V": 8.0, "KA": 1.0, "ALAG1": 0.5, "cp_additive": 0.0, "cp_proportional": 0.2}
    start |= _variances(CL=0.1, V=0.1, KA=0.5, ALAG1=0.3) | {"OMEGA(CL,V)": 0.0}
    subjects = warfarin_subjects(folder)
    found = fit(
        warfarin_pk, subjects, "saem", start=start, estimate=("CL", "V", "KA", "ALAG1", "cp_proportional"), omega=(("CL", "V"),),
        seed=SEED, settings={"burn_in": 500, "smooth": 500},
    )  # fmt: skip
    source = "NONMEM 7.2 SAEM, nlme_reference_estimates.csv"
    yield check("warfarin SAEM: concentrations used", sum(s.schedule.measured.sum() for s in subjects), 250, 0, source)
    yield _verdict("warfarin SAEM", found)
    reference = {
        "CL": (0.133, 0.03),
        "V": (8.15, 0.03),
        "KA": (1.79, 0.2),
        "ALAG1": (0.875, 0.1),
        "cp_proportional": (0.106, 0.1),
    }
    for name, (value, tolerance) in reference.items():
        yield check(f"warfarin SAEM {name}", found.estimates[name], value, tolerance, source, relative=True)


# ---- the 12 simulated sets -----------------------------------------------------------------------------------------
def simulated_set(folder: Path, name: str, method: str) -> tuple[list[Check], NDArray[np.float64]]:
    """Checks of one of the 12 sets, and each parameter's distance from the truth in standard errors."""
    s = simulated.read(folder, name)
    start = s.start | _variances(**dict.fromkeys(s.model.parameters.eta_names, 0.2))
    found = fit(s.model, s.subjects, method, start=start, omega="diagonal", seed=SEED, tolerances=s.tolerances, solver=s.solver)
    truth = {**s.typical, "cp_proportional": simulated.RESIDUAL, **{f"OMEGA({k},{k})": v for k, v in s.variances.items()}}
    apart = [(v - truth[k]) / found.se[k] for k, v in found.estimates.items()]
    wrong = {k: abs((v / truth[k]) ** (0.5 if k.startswith("OMEGA") else 1.0) - 1.0) for k, v in found.estimates.items()}
    source = "nlmixr2data, true individual parameters"
    fixed = max(w for k, w in wrong.items() if not k.startswith("OMEGA"))
    which = max((k for k in wrong if k.startswith("OMEGA")), key=lambda k: wrong[k])
    words = f"{name} {method.upper()}"
    return [
        _verdict(words, found),
        check(f"{words}: largest relative error of typical values and residual error", fixed, 0.0, 0.1, source),
        check(f"{words}: largest relative error of an SD between subjects ({which})", wrong[which], 0.0, 0.1, source),
    ], np.array(apart)


def simulated_sets(folder: Path, method: str, names: Sequence[str] = simulated.NAMES) -> Iterator[Check]:
    """The 12 simulated sets, which take minutes; and the share of all parameters within 2 SE of the truth."""
    apart = []
    for name in names:
        out, z = simulated_set(folder, name, method)
        yield from out
        apart.append(z)
    inside = float(np.mean(np.abs(np.concatenate(apart)) < 2.0))
    source = "nlmixr2data, true individual parameters"
    yield check(f"{len(names)} simulated sets, {method.upper()}: share of parameters within 2 SE", inside, 1.0, 0.1, source)


by_saem = partial(simulated_sets, method="saem")
by_focei = partial(simulated_sets, method="focei")
