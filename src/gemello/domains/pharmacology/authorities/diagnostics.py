"""What is done around a fit, on phenobarbital in 59 neonates: NONMEM's residuals, and rates that the methods' theory states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gemello.base.reference import Check, check, columns
from gemello.formats import nonmem
from gemello.inference.bootstrap import bootstrap
from gemello.inference.covariates import stepwise
from gemello.inference.npde import npde
from gemello.inference.observed import Replicates, replicates
from gemello.inference.population import fit
from gemello.inference.residuals import goodness
from gemello.inference.vpc import vpc
from gemello.model import registry
from gemello.model.effects import Effect, with_columns
from gemello.model.population import PopulationParameters

TRIALS = 40  # data sets that the rates are counted on


def checks(folder: Path) -> Iterator[Check]:
    """Residuals at NONMEM's estimates, then VPC, NPDE, bootstrap and covariate search."""
    model = registry.get("pheno")
    home = folder / "pharmpy"
    subjects = nonmem.read(home / "pheno.csv", model).subjects
    last = columns(home / "pheno_nm751_focei_ext.csv")
    end = {k: float(v[last["ITERATION"] == -1000000000][0]) for k, v in last.items()}
    values = {"CL": end["THETA1"], "V": end["THETA2"], "V_APGR": end["THETA3"], "cp_proportional": end["SIGMA(1,1)"] ** 0.5}
    theirs = PopulationParameters.of(model, values, np.diag([end["OMEGA(1,1)"], end["OMEGA(2,2)"]]))
    table = columns(home / "pheno_nm751_focei_tab.csv")
    seen = columns(home / "pheno.csv")["AMT"] == 0
    g = goodness(model, theirs, subjects)
    source = "NONMEM 7.5.1, table of pheno (5 digits)"
    for name, ours, tolerance in (
        ("PRED", g.typical, 1e-3), ("CIPREDI", g.individual, 1e-3), ("RES", g.res, 1e-3), ("CWRES", g.cwres, 1e-3),
    ):  # fmt: skip
        worst = float(np.max(np.abs(ours - table[name][seen])))
        yield check(f"pheno, {name} of 155 values, largest difference", worst, 0.0, tolerance, source)
    simulated = replicates(model, theirs, subjects, 500 + TRIALS, seed=1)
    yield from _rates(simulated)
    own = fit(model, subjects)
    b = bootstrap(model, own, subjects, 100, seed=1)
    for n in ("CL", "V"):
        ratio = float(b.se[b.names.index(n)] / own.se[n])
        yield check(
            f"pheno, bootstrap SE of {n} over the sandwich SE", ratio, 1.0, 0.3, "two estimates of one spread; 100 samples: 7 %"
        )
    yield from _search(home / "pheno.csv")


def _rates(simulated: Replicates) -> Iterator[Check]:
    """Rates under the true model: standard errors over the data sets are stated in the tolerance (4 of them)."""
    model = registry.get("pheno")
    outside, rejected = [], []
    for i in range(TRIALS):
        data = replace(simulated.data, value=simulated.simulated[i])
        r = replace(simulated, data=data, simulated=simulated.simulated[TRIALS:])
        (v,) = vpc(model, r, level=0.9, corrected=True)
        outside.append(v.outside[0] / v.outside[1])
        rejected.append(npde(model, r).tests.p_global < 0.05)
    error = float(np.std(outside) / TRIALS**0.5)
    words = f"{TRIALS} data sets simulated from the model"
    yield check(
        "pcVPC of the true model: share of percentiles outside 90 % intervals", float(np.mean(outside)), 0.1, 4 * error, words
    )
    room = 4 * (0.05 * 0.95 / TRIALS) ** 0.5
    yield check("NPDE of the true model: rejected at 5 %", float(np.mean(rejected)), 0.05, room, words)


def _search(path: Path) -> Iterator[Check]:
    """From a model without covariates the search finds weight on CL and on V, with exponents of about 1 as in the published
    model."""
    base = registry.get("pk1_iv")
    subjects = nonmem.read(path, with_columns(base, {"WGT": "kg", "APGR": "1"})).subjects
    candidates = [Effect(p, c, f) for p in ("CL", "V") for c, f in (("WGT", "power"), ("APGR", "linear"))]  # type: ignore[arg-type]
    found = stepwise(base, subjects, candidates, start={"CL": 0.006, "V": 1.3}, units={"WGT": "kg"})
    chosen = {(e.parameter, e.covariate) for e in found.effects}
    source = "CL and V proportional to weight: the covariate model of pheno (Grasela & Donn 1985)"
    right = float(chosen == {("CL", "WGT"), ("V", "WGT")})
    yield check("pheno, stepwise search from no covariates finds CL ~ WGT and V ~ WGT, and no more", right, 1.0, 0.0, source)
    for n in ("CL_WGT", "V_WGT"):
        yield check(
            f"pheno, exponent {n}", found.final.theta.get(n, float("nan")), 1.0, 3 * found.final.se.get(n, 0.0), f"{source}; 3 SE"
        )
