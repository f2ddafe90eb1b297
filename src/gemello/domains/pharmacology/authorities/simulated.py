"""The 12 simulated sets of nlmixr2data, whose true individual parameters are known: reader, models and truth.

120 subjects each, four dose levels, single and repeated doses; IIV 30 %, proportional error 20 %. Amounts are in µg and
concentrations in µg/L there; here they become mg and mg/L.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.reference import columns
from gemello.domains.pharmacology.michaelis_menten import model as saturable
from gemello.domains.pharmacology.one_compartment import model as one
from gemello.domains.pharmacology.two_compartment import model as two
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject

ROUTES = ("Bolus", "Infusion", "Oral")
KINDS = ("1CPT", "2CPT", "1CPTMM", "2CPTMM")
NAMES = tuple(f"{route}_{kind}" for kind in KINDS for route in ROUTES)
NOT_STEADY = 99  # SS of the files' ordinary doses
RESIDUAL = 0.2  # proportional error of all sets
ADAPTIVE_TOLERANCES = (1e-5, 1e-7)  # of the saturable models: far below the residual error of 20 %
_MODELS: dict[str, tuple[Model, Model]] = {
    "1CPT": (one.iv, one.oral),
    "2CPT": (two.iv, two.oral),
    "1CPTMM": (saturable.iv, saturable.oral),
    "2CPTMM": (saturable.two_iv, saturable.two_oral),
}


@dataclass(frozen=True)
class Simulated:
    """One set. truth: individual parameters (subjects,) by the model's names, in its units. start: plain start values."""

    name: str
    model: Model
    subjects: tuple[Subject, ...]
    truth: dict[str, NDArray[np.float64]]
    start: dict[str, float]

    @property
    def typical(self) -> dict[str, float]:
        """Geometric means of the true individual parameters."""
        return {k: float(np.exp(np.log(v).mean())) for k, v in self.truth.items()}

    @property
    def variances(self) -> dict[str, float]:
        """Variances of the true log individual parameters."""
        return {k: float(np.log(v).var()) for k, v in self.truth.items()}

    @property
    def tolerances(self) -> tuple[float, float] | tuple[None, None]:
        """Relative and absolute tolerance for its equations; none where their solution is exact."""
        return ADAPTIVE_TOLERANCES if self.name.endswith("MM") else (None, None)

    @property
    def solver(self) -> str | None:
        """Tsit5 for the saturable sets, which are not stiff: the second derivatives of `auto`, which holds Rodas5P ready, take
        tens of minutes and gigabytes to compile for two compartments."""
        return "tsit5" if self.name.endswith("MM") else None


def read(folder: Path, name: str) -> Simulated:
    """The set `name` (one of NAMES) from the folder of the pharmacology reference data. Rows of EVID 2 hold no value."""
    route, kind = name.split("_")
    oral = route == "Oral"
    model = _MODELS[kind][oral]
    table = columns(folder / "nlmixr2data" / f"{name}.csv")
    own = [n for n in ("VM", "KM", "CL", "V", "V1", "Q", "V2", "KA") if n in model.parameters]
    source = {n: n if n in table else "V" for n in own}  # the central volume of two compartments is V in some files
    scale = {n: 1e-3 if n in ("VM", "KM") else 1.0 for n in own}
    subjects, truth = [], {n: [] for n in own}  # type: ignore[var-annotated]
    for i in dict.fromkeys(table["ID"]):
        here = table["ID"] == i
        c = {k: v[here] for k, v in table.items()}
        steady = np.where(c["SS"] == NOT_STEADY, 0.0, c["SS"]) if "SS" in c else 0.0
        schedule = Schedule.of(
            c["TIME"], evid=c["EVID"], port=np.where(c["EVID"] == 1, c["CMT"], 0), amount=1e-3 * c["AMT"],
            rate=1e-3 * c["RATE"] if "RATE" in c else 0.0, interval=c.get("II", 0.0), steady_state=steady,
            value=np.where(c["EVID"] == 0, 1e-3 * c["DV"], np.nan),
        )  # fmt: skip
        subjects.append(Subject(f"{i:g}", schedule))
        for n in own:
            truth[n].append(scale[n] * c[source[n]][0])
    start = {"VM": 1.5, "KM": 0.4, "CL": 6.0, "V": 50.0, "V1": 50.0, "Q": 6.0, "V2": 60.0, "KA": 0.7, "cp_proportional": 0.5}
    start = {k: v for k, v in start.items() if k in model.parameters}
    return Simulated(name, model, tuple(subjects), {n: np.array(v) for n, v in truth.items()}, start)
