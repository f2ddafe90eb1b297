"""The library of published models against PKPDsim's files, which are read and integrated apart, and against published values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.reference import Check, check
from gemello.domains.pharmacology.authorities.library_cases import Case, cases
from gemello.domains.pharmacology.authorities.pkpdsim import Reference
from gemello.engine.lanes import precision
from gemello.model import registry
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

Numbers = dict[tuple[str, ...], float]  # by one name (a variance, a residual parameter) or two (a covariance)


def checks(folder: Path) -> Iterator[Check]:
    """Every model of the library: its trajectories, variances and residual errors against its file; then published values."""
    for name, case in cases().items():
        yield from of_model(name, case, folder / "pkpdsim_models")
    yield from published()


# ---- against the files -------------------------------------------------------------------------------------------------
def of_model(name: str, case: Case, folder: Path) -> Iterator[Check]:
    """The checks of one model against its file in `folder`."""
    model, reference = registry.get(name), Reference(folder / f"{case.file}.json5")
    source = f"PKPDsim {case.file}, read and integrated with SciPy"
    worst, size = trajectories(model, case, reference)
    title = f"library {name}: largest relative difference of {size} values of {', '.join(case.outputs)}"
    yield check(title, worst, 0.0, 1e-6, source)
    ours, theirs = numbers(model, case, reference)
    apart = [abs(ours[k] - theirs[k]) for k in ours if k not in case.departures]
    title = f"library {name}: largest difference of {len(apart)} variances and residual parameters"
    yield check(title, max(apart), 0.0, 1e-12, source)
    for k, (mine, its) in case.departures.items():
        item = " and ".join(k)
        yield check(f"library {name}: {item}, which departs from the file", ours[k], mine, 1e-12, "the paper (see the card)")
        yield check(f"library {name}: {item} of the file, from which it departs", theirs[k], its, 1e-12, source)


def trajectories(model: Model, case: Case, reference: Reference) -> tuple[float, int]:
    """Largest relative difference of gemello's outputs from the file's, and how many were compared.

    The first subject is typical, the others have random effects. Values below 1e-6 of the largest of a subject count as that.
    """
    worst, size = 0.0, 0
    names, file = model.parameters.eta_names, reference.file["parameters"]
    etas = np.array([[0.2 * k * (-1) ** j for j in range(len(names))] for k in range(len(case.subjects))])
    for port, compartment in case.ports:
        subjects = [Subject(str(k), _schedule(case, port).covariates(**c)) for k, c in enumerate(case.subjects)]
        got = simulate(model, subjects, case.values, etas=etas, outputs=list(case.outputs), rtol=1e-10, atol=1e-12).check()
        for k, c in enumerate(case.subjects):
            moved = {n: file[n] * math.exp(e) for n, e in _effects(case, c, dict(zip(names, etas[k], strict=True))).items()}
            expected = reference.solve(
                {**case.theirs(c), **moved},
                case.doses,
                case.times,
                compartment=compartment,
                start=case.start({**c, **moved}),
                breaks=case.breaks,
            )
            looks = np.flatnonzero(subjects[k].schedule.evid == 0)
            for output, variable in case.outputs.items():
                wanted = np.array([v[variable] for v in expected])
                size += len(wanted)
                least = 1e-6 * np.abs(wanted).max()
                apart = np.abs(got.outputs[output][k][looks] - wanted) / np.maximum(np.abs(wanted), least)
                worst = max(worst, float(apart.max()))
    return worst, size


def _effects(case: Case, covariates: Mapping[str, float], eta: Mapping[str, float]) -> Mapping[str, float]:
    """Random effects by the file's parameters."""
    if case.effects is not None:
        return case.effects(covariates, eta)
    return {case.names.get(n, n): e for n, e in eta.items()}


def _schedule(case: Case, port: int) -> Schedule:
    out = Schedule()
    for time, amount, duration in case.doses:
        out = out.dose(time, amount, port=port, duration=duration)
    return out.observe(list(case.times))


def numbers(model: Model, case: Case, reference: Reference) -> tuple[Numbers, Numbers]:
    """Variances and covariances, between subjects and occasions, and residual parameters: gemello's and the file's."""
    table, etas = model.parameters, model.parameters.eta_names
    theirs_of = {n: case.names.get(n, n) for n in etas}
    if set(theirs_of.values()) != set(reference.varying):
        raise ValueError(f"{case.file}: {reference.varying} vary, in gemello's model {etas}")
    order = [reference.varying.index(n) for n in theirs_of.values()]
    ours = _elements(etas, np.array(table.omega()))
    theirs = _elements(etas, reference.omega()[np.ix_(order, order)])
    spread = (reference.file.get("iov") or {}).get("cv", {})
    for n in table.occasion_names:
        ours["between occasions", n], theirs["between occasions", n] = table[n].occasion_variance, spread[theirs_of[n]] ** 2
    for k, o in enumerate([o for o in model.outputs if o.residual]):
        for row, which in ((o.residual.additive, "add"), (o.residual.proportional, "prop")):  # type: ignore[union-attr]
            if row is not None:
                ours[(row,)], theirs[(row,)] = table[row].value, reference.residual(which)[k]
    return ours, theirs


def _elements(names: Sequence[str], matrix: NDArray[np.float64]) -> Numbers:
    found: Numbers = {(n,): float(matrix[i, i]) for i, n in enumerate(names)}
    return found | {(a, b): float(matrix[i, j]) for i, a in enumerate(names) for j, b in enumerate(names) if i < j}


# ---- published values --------------------------------------------------------------------------------------------------
def typical(name: str, **covariates: float) -> Any:
    """Individual parameters of a typical subject of a model."""
    model = registry.get(name)
    with precision():
        theta = model.theta_type(*(model.parameters[n].value for n in model.parameters.theta_names))
        return model.typical(theta, model.covariate_type(*(covariates[c.name] for c in model.covariates)))


def published() -> Iterator[Check]:
    """Typical values that the papers print."""
    yield from _colin()
    yield from _mccune()
    yield from _friberg()


def _colin() -> Iterator[Check]:
    p = typical("vancomycin_colin2019", WT=70.0, PMA=52.0 * 35.0 + 40.0, CR=0.83)
    source = "Colin 2019, abstract: 35 years, 70 kg, serum creatinine 0.83 mg/dL"
    for n, value in (("CL", 4.10), ("V1", 42.9), ("V2", 41.7), ("Q", 3.22)):
        yield check(f"library vancomycin_colin2019: typical {n}", float(getattr(p, n)), value, 0.005, source, relative=True)


def _mccune() -> Iterator[Check]:
    name, source = "busulfan_mccune2014", "McCune 2014, abstract"
    cl = lambda age, weight, height: float(typical(name, AGE=age, WT=weight, HT=height, SEX=1.0, T_CL_EFF=0.0).CL)  # noqa: E731
    yield check(
        f"library {name}: typical CL of a man of 70 kg and 1.76 m", cl(30.0, 70.0, 176.0), 12.4, 0.02, source, relative=True
    )
    grown = cl(2.5, 13.0, 90.0) / cl(60.0, 13.0, 90.0)
    yield check(f"library {name}: CL at 2.5 years in parts of a mature one of the same size", grown, 0.95, 0.01, source)


def _friberg() -> Iterator[Check]:
    """CL in Table 4 belongs to 6.10 L/h at 70 kg, and is 6.16 L/h in Table 3: 1 % apart, in the paper itself."""
    name, source = "voriconazole_friberg2012", "Friberg 2012, Table 4 (as quoted by nlmixr2lib)"
    teen, child = {"VMAX1": 95.1, "CL": 5.09, "Q": 21.2}, {"VMAX1": 44.6, "CL": 2.38, "Q": 9.92, "INH": 0.75}
    for weight, age, values in ((55.0, 14.0, teen), (20.0, 5.0, child)):
        p = typical(name, WT=weight, AGE=age, CYP2C19=0.0)
        for n, value in values.items():
            title = f"library {name}: typical {n} at {weight:g} kg, {age:g} years"
            yield check(title, float(getattr(p, n)), value, 0.015, source, relative=True)
    logit = registry.get(name).parameters["F_LOGIT"].value
    yield check(f"library {name}: typical oral fraction", 1.0 / (1.0 + math.exp(-logit)), 0.642, 0.001, source)
