"""The model that a model file gives: programs made of expressions, behind the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
import numpy as np

from gemello.model.card import Card
from gemello.model.contract import Covariate, Model, Output, Port, State
from gemello.model.expression import TIME, Function
from gemello.model.parameters import ParameterTable


@dataclass(frozen=True, eq=False)
class Program:
    """Definitions, each from names known before it, and the results that they lead to."""

    steps: tuple[tuple[str, Function], ...]
    results: tuple[Function, ...]

    def __call__(self, values: Mapping[str, Any], xp: Any = jnp) -> tuple[Any, ...]:
        """Results from values by name, which may be of any shape that broadcasts; xp: numpy or jax.numpy."""
        known = dict(values)
        for name, f in self.steps:
            known[name] = f(known, xp)
        return tuple(f(known, xp) for f in self.results)


@dataclass(frozen=True, eq=False)
class StandardDeviation:
    """`Residual.sd` from an expression, which calls the prediction `prediction`."""

    program: Program
    prediction: str

    def __call__(self, f: Any, p: Any, sigma: Mapping[str, Any]) -> Any:
        (out,) = self.program({**p._asdict(), **sigma, self.prediction: f})
        return out


@dataclass(frozen=True, eq=False)
class Programs:
    """What a model computes: `typical` from theta and covariates, the others from individual parameters, states, signals and
    time. `matrix` (rows of the system matrix, None where an entry is 0) is None where the system is not linear."""

    typical: Program
    initial: Program | None
    derivative: Program
    observe: Program
    matrix: tuple[Program, tuple[tuple[int | None, ...], ...]] | None


@dataclass(frozen=True, eq=False)
class Declared:
    """What a model file declares, by the names of the contract."""

    name: str
    version: str
    time_unit: str
    states: Mapping[str, str]
    outputs: tuple[Output, ...]
    ports: tuple[Port, ...]
    covariates: tuple[Covariate, ...]
    individuals: Mapping[str, str]
    accumulators: tuple[str, ...]
    parameters: ParameterTable
    card: Card
    unit_literals: str
    method: str
    tolerances: tuple[float, float]


class _TextModel(Model):
    """What both kinds share."""

    def __init__(self, declared: Declared, programs: Programs) -> None:
        for name, value in vars(declared).items():
            setattr(self, name, value)
        self._programs = programs

    def typical(self, theta: Any, cov: Any) -> Any:
        values = {**theta._asdict(), **cov._asdict()}
        if any(not isinstance(v, np.ndarray | float | int) for v in values.values()):
            return self.individual_type(*self._programs.typical(values))
        with np.errstate(all="ignore"):  # on the host: what is not finite is found by the solver, which names the subject
            arrays = {k: np.asarray(v, float) for k, v in values.items()}
            return self.individual_type(*self._programs.typical(arrays, np))

    def initial(self, p: Any) -> State:
        if self._programs.initial is None:
            return super().initial(p)
        return self.state_type(*self._programs.initial(p._asdict()))

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(*self._programs.derivative(_values(t, y, p, u)))

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return self._programs.observe(_values(t, y, p, u))


@final
class TextModel(_TextModel):
    """A model read from a file."""


@final
class LinearTextModel(_TextModel):
    """A model read from a file whose derivative is a matrix times the state: solved by the matrix exponential."""

    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        assert self._programs.matrix is not None
        program, places = self._programs.matrix
        entries = program(p._asdict())
        return tuple(tuple(0.0 if k is None else entries[k] for k in row) for row in places)


def _values(t: Any, y: Any, p: Any, u: Any) -> dict[str, Any]:
    return {**p._asdict(), **y._asdict(), **u._asdict(), TIME: t}
