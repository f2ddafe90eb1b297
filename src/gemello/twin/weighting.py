"""How much the population and old measurements count when a twin assimilates, where that is not Bayes' rule as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gemello.base.errors import DataError
from gemello.inference.likelihood import Problem
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule


@dataclass(frozen=True)
class Weighting:
    """Departures from Bayes' rule with the population as prior; the default is none.

    prior: weight of the population's log density beside that of the data, in (0, 1]: OMEGA is divided by it. Below 1 the prior
    is flattened: the twin follows its own levels more, and noise in them, too.
    half_life: time (of the model) in which a measurement loses half its weight, counted back from the newest one: its residual
    variance is divided by the weight.
    drift: variance that each eta gains per day. The posterior so far, widened by drift × days from its last measurement to the
    last new one, is then the prior of the new measurements, which alone count; the population has had its say before.
    """

    prior: float = 1.0
    half_life: float | None = None
    drift: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.prior <= 1:
            raise DataError("impossible weight", column="prior_weight", value=self.prior, remedy="give above 0, at most 1")
        for name, v, least in (("half_life", self.half_life, 0.0), ("drift", self.drift, -1e-300)):
            if v is not None and not (np.isfinite(v) and v > least):
                raise DataError("impossible", column=name, value=v, remedy="give a number above 0")

    def population(self, parameters: PopulationParameters) -> PopulationParameters:
        """The population as it is weighted."""
        return parameters if self.prior == 1.0 else replace(parameters, omega=parameters.omega / self.prior)

    def weigh(self, problem: Problem, schedules: Sequence[Schedule]) -> Problem:
        """The problem with its measurements weighted by age. schedules: of its subjects."""
        if self.half_life is None:
            return problem
        depth = problem.prepared.timeline.records.shape[0]
        w = np.ones((depth, len(schedules)))
        for i, s in enumerate(schedules):
            if s.measured.any():
                age = np.maximum(np.max(s.time[s.measured]) - s.time, 0.0)
                w[: len(s), i] = np.where(s.measured, 0.5 ** (age / self.half_life), 1.0)
        cut = problem.cut(w)
        return replace(problem, blocks=problem.blocks._replace(tree={**problem.blocks.tree, "weight": cut.tree}))

    def words(self, model: Model) -> tuple[str, ...]:
        """What was assumed, for the reader of a result."""
        out = []
        if self.prior != 1.0:
            out.append(f"the population counts with weight {self.prior:g} only (OMEGA divided by {self.prior:g})")
        if self.half_life is not None:
            out.append(f"measurements lose half their weight every {self.half_life:g} {model.time_unit}")
        if self.drift is not None:
            out.append(
                f"individual parameters drift: each eta gains a variance of {self.drift:g} per day between assimilations; they "
                "are taken as constant from the last measurement on, and drug from before it as if they had always been so"
            )
        return tuple(out)


BAYES = Weighting()  # the population as published, every measurement alike
