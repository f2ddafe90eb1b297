"""FO, FOCE and FOCEI objectives of Wang's example with 27 residual error models, against nlmixr2's and NONMEM's tables.

Wang Y. Derivation of various NONMEM estimation methods. J Pharmacokinet Pharmacodyn 2007;34:575-593: f = 10 exp(-0.5 e^eta t),
10 subjects seen at t = 0 and 1, var(eta) = 0.04; nothing is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from gemello.base.reference import Check, check, columns, rows
from gemello.inference.ensemble import population_of
from gemello.inference.evaluate import objective
from gemello.inference.likelihood import problem
from gemello.model.card import SECTIONS, Card
from gemello.model.contract import Model, Output, Residual
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

A = math.sqrt(0.1)
Sd = Callable[[Any, Any], Any]  # (f, g) -> standard deviation

# Names of the reference table; a transformed prediction is f - 1 (Box-Cox with lambda 1).
FORMS: dict[str, Sd] = {
    "prop": lambda f, g: A * f,
    "propMod": lambda f, g: g * f,
    "propF": lambda f, g: A * g,
    "propFMod": lambda f, g: jnp.log(f) * g,
    "add": lambda f, g: A + 0.0 * f,
    "addMod": lambda f, g: g,
    "pow": lambda f, g: A * f**0.5,
    "powF1": lambda f, g: g * f**0.5,
    "powF2": lambda f, g: A * f**g,
    "powF3": lambda f, g: jnp.log(f) * f**g,
    "powFMod": lambda f, g: A * g**0.5,
    "powFMod1": lambda f, g: jnp.log(f) * g**0.5,
    "powFMod2": lambda f, g: A * g ** jnp.log(f),
    "powFMod3": lambda f, g: jnp.log(f) * g ** (3.0 * g),
    "addModPropFMod": lambda f, g: jnp.sqrt(g**2 + (jnp.log(f) * 3.0 * g) ** 2),
    "addPropF": lambda f, g: jnp.sqrt(0.1 + 0.1 * g**2),
    "boxCoxPropT": lambda f, g: A * (f - 1.0),
    "boxCoxPropTMod": lambda f, g: g * (f - 1.0),
    "boxCoxPropT2Mod": lambda f, g: g * (f - 1.0),
    "boxCoxPowT": lambda f, g: A * (f - 1.0) ** 0.5,
    "boxCoxPowTF1": lambda f, g: g * (f - 1.0) ** 0.5,
    "boxCoxPowTF2": lambda f, g: A * (f - 1.0) ** g,
    "boxCoxPowTF3": lambda f, g: jnp.log(f) * (f - 1.0) ** g,
    "boxCoxAddPropT2": lambda f, g: jnp.sqrt(0.1 + 0.1 * (f - 1.0) ** 2),
    "boxCoxAddPropTc2": lambda f, g: jnp.sqrt(0.1 + 0.1 * (f - 1.0) ** 2),
    "boxCoxAddPropT3": lambda f, g: jnp.sqrt(g**2 + (3.0 * g * (f - 1.0)) ** 2),
    "boxCoxPropAddPropT2": lambda f, g: jnp.sqrt(g**2 + (3.0 * g * (f - 1.0)) ** 2),
}


def form(name: str) -> str:
    """The entry of FORMS that a name of the table (`.propVals`, `.addPropFVals2`) means."""
    return name.removeprefix(".").removesuffix("2").removesuffix("Vals")


def _sd(f: Any, p: Any, sigma: Any) -> Any:
    branches = [lambda v, h=h: h(v, v / (v + 5.0)) for h in FORMS.values()]
    return jax.lax.switch(jnp.asarray(sigma["form"], int), branches, f)


@final
class Wang(Model):
    """The example; the residual parameter `form` counts the entries of FORMS, so that one program serves all."""

    name, version, time_unit = "wang2007", "1.0", "h"
    states = {"central": "mg"}  # noqa: RUF012
    outputs = (Output("cp", "mg/L", Residual(sd=_sd, parameters=("form",))),)
    parameters = ParameterTable(
        (
            Parameter("KE", 0.5, "1/h", distribution="lognormal", variance=0.04, source="Wang 2007", description="elimination"),
            Parameter("form", 1.0, "1", kind="residual", source="here", description="which residual error"),
        )
    )
    card = Card("Wang 2007", dict.fromkeys(SECTIONS, "The example of Wang 2007."))

    def initial(self, p: Any) -> Any:
        return self.state_type(10.0 + 0.0 * p.KE)

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(-p.KE * y.central)

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, rates: self.state_type(y.central * jnp.exp(-p.KE * dt))

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (y.central,)


def objectives(folder: Path) -> Iterator[Check]:
    """All rows of wang2007_expected_ofv.csv, columns focei, foce and fo."""
    table = columns(folder / "nlmixr2data" / "Wang2007.csv")
    model = Wang()
    subjects = []
    for i in np.unique(table["ID"]):
        here = table["ID"] == i
        subjects.append(Subject(f"{i:g}", Schedule().observe(table["Time"][here], table["Y"][here])))
    data = problem(model, subjects)
    pop = population_of(PopulationParameters.of(model))
    known: dict[tuple[str, str], float] = {}
    source = "nlmixr2est, wang2007_expected_ofv.csv"
    for number, row in enumerate(rows(folder / "reference" / "wang2007_expected_ofv.csv"), start=1):
        name = form(row["error_model"])
        for method in ("focei", "foce", "fo"):
            if (name, method) not in known:
                which = {"form": np.float64(list(FORMS).index(name))}
                known[name, method] = float(objective(data, pop._replace(sigma=which), method).sum())
            words = f"Wang 2007 row {number}: {row['error_model']}"
            yield check(f"{words} {method}", known[name, method], float(row[method]), 1e-3, source)
