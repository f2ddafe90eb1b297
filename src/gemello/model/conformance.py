"""What every model must hold to, as a list of small checks. The contract tests of gemello use it, and so may any author.

    for check in conformance(model):
        print(check)

Nothing here depends on what a model is about: parameters, states and schedules are made up on the model's own scales
(`checks.probe`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from jax.errors import ConcretizationTypeError, TracerArrayConversionError

from gemello.base.errors import ModelError
from gemello.engine.lanes import precision
from gemello.model.checks import conservation, declarations, equations, refusals, solutions, units
from gemello.model.checks.common import BrokenError
from gemello.model.checks.probe import Probe
from gemello.model.contract import Model

_IN_ORDER: tuple[Callable[[Probe], str], ...] = (
    declarations.identity,
    declarations.card,
    declarations.parameter_table,
    declarations.declarations,
    units.units,
    units.dimensions,
    equations.shapes,
    equations.tracing,
    equations.elementwise,
    equations.closed_form,
    equations.matrix,
    equations.coupling,
    conservation.balance,
    conservation.balance_over_time,
    solutions.gradients,
    solutions.gradients_of_adaptive_solver,
    solutions.methods_agree,
    solutions.solvable,
    solutions.one_lane_or_many,
    solutions.bad_lane,
    solutions.same_bits_twice,
    refusals.refuses_bad_parameters,
    refusals.refuses_bad_covariates,
)
_CHECKS = {f.__name__.replace("_", "-"): f for f in _IN_ORDER}


@dataclass(frozen=True)
class Check:
    """Outcome of one check. detail: what was measured and what is allowed; what is wrong and the remedy; or why it does not
    apply (then it counts as passed)."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'}  {self.name}: {self.detail}"


def conformance(model: Model, only: Iterable[str] | None = None) -> Iterator[Check]:
    """All checks of `model`, one after another (`only`: these names). What is wrong with a model is told, never raised.

    Raises ModelError for a check that there is not.
    """
    for name in check_names() if only is None else only:
        if name not in _CHECKS:
            raise ModelError(f"no check {name!r}; the checks are {', '.join(_CHECKS)}")
        yield _run(name, model)


def check_names() -> tuple[str, ...]:
    """Names of the checks, in order."""
    return tuple(_CHECKS)


@lru_cache(maxsize=2)
def _probe(model: Model) -> Probe:
    """One probe for all checks of a model, so that its solutions serve them all."""
    return Probe(model)


def _run(name: str, model: Model) -> Check:
    try:
        with precision():
            return Check(name, True, _CHECKS[name](_probe(model)))
    except BrokenError as e:
        return Check(name, False, str(e))
    except (ConcretizationTypeError, TracerArrayConversionError):
        words = "an equation looks at the value of an argument; write jnp.where instead of if, jnp instead of np and math"
        return Check(name, False, words)
    except Exception as e:  # a model's own code may raise anything
        return Check(name, False, f"{type(e).__name__}: {' '.join(str(e).split())}"[:400])
