"""The model `disease_course`: logistic courses of any number of outcomes along a latent disease time.

The registered one has the seven scores of leaspy's Alzheimer set; `LatentTime.model` makes one of any trained generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from gemello.domains.progression.latent_time import equations
from gemello.model.card import Card
from gemello.model.contract import Covariate, Model, Output, Residual, State
from gemello.model.parameters import ParameterTable

_HERE = Path(__file__).parent
CARD = Card.read(_HERE / "CARD.md")
ALZHEIMER = ("ecog_subject", "ecog_partner", "mmse", "ravlt", "faq", "fdg_pet", "hippocampus")


@final
class DiseaseCourse(Model):
    """Outcome k is LOW_k + (HIGH_k − LOW_k) / (1 + exp(−(SPEED_k (s − PLACE_k) + SHIFT_k))), s = START + Σ EFFECT_c (c −
    reference) + PACE t. Individual: PACE (log-normal, typical 1), START and SHIFT_k (normal, typical 0). t since baseline."""

    version = "1.0"
    states = {"stage": "year"}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        outcomes: Sequence[str],
        parameters: ParameterTable,
        *,
        units: Sequence[str] | None = None,
        covariates: Sequence[Covariate] = (),
        time_unit: str = "year",
        card: Card = CARD,
    ) -> None:
        self.name, self.courses, self.time_unit, self.card = name, tuple(outcomes), time_unit, card
        self.states = {"stage": time_unit}
        self.parameters, self.covariates = parameters, tuple(covariates)
        units = units or ["1"] * len(self.courses)
        self.outputs = tuple(Output(n, u, Residual(additive=f"{n}_additive")) for n, u in zip(self.courses, units, strict=True))
        kept = ("PACE", "START", *(f"{a}_{n}" for n in self.courses for a in ("LOW", "HIGH", "SPEED", "PLACE", "SHIFT")))
        self.individuals = {n: parameters[n].unit for n in kept}

    def typical(self, theta: Any, cov: Any) -> Any:
        own = {n: getattr(theta, n) for n in self.individual_type._fields}
        effects = sum((getattr(theta, f"EFFECT_{c.name}") * (getattr(cov, c.name) - c.reference) for c in self.covariates), 0.0)
        return self.individual_type(**(own | {"START": equations.start(theta.START, effects)}))

    def initial(self, p: Any) -> State:
        return self.state_type(p.START)

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(p.PACE)

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, rates: self.state_type(y.stage + (p.PACE + rates.stage) * dt)

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        of = lambda a, n: getattr(p, f"{a}_{n}")  # noqa: E731
        return tuple(
            equations.outcome(y.stage, *(of(a, n) for a in ("LOW", "HIGH", "SPEED", "PLACE", "SHIFT"))) for n in self.courses
        )


disease_course = DiseaseCourse(
    "disease_course", ALZHEIMER, ParameterTable.read(_HERE / "parameters.csv", covariances={("PACE", "START"): 0.58589})
)
