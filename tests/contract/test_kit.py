"""The kit itself: models that hold to the contract pass, and every check finds what was planted for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.contract.toys import Driven, Linear, Stepwise, row

from gemello.base.errors import ModelError
from gemello.model.card import Card
from gemello.model.conformance import Check, check_names, conformance
from gemello.model.contract import Balance, Covariate, Model, Output, Port, Propagator, Residual, State
from gemello.model.parameters import Parameter, ParameterTable


@pytest.mark.parametrize("kind", [Linear, Driven, Stepwise])
def test_good_models_pass(kind: type[Model]) -> None:
    outcomes = list(conformance(kind()))
    assert [c.name for c in outcomes] == list(check_names())
    assert [str(c) for c in outcomes if not c.passed] == []


def test_what_does_not_apply_is_said() -> None:
    said = {c.name for c in conformance(Stepwise(), only=["balance", "closed-form", "matrix"]) if "does not apply" in c.detail}
    assert said == {"balance", "closed-form", "matrix"}


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ModelError, match="no check 'units of measure'; the checks are identity, card"):
        list(conformance(Linear(), only=["units of measure"]))


def test_an_outcome_reads_well() -> None:
    assert str(Check("card", False, "no card")) == "FAILED  card: no card"


# ---- planted violations ------------------------------------------------------------------------------------------------
PLANTED: list[tuple[str, str, Callable[[], Model]]] = []


def plant(check: str, words: str) -> Callable[[type[Model]], type[Model]]:
    """The class breaks `check`, whose detail then contains `words`."""

    def add(kind: type[Model]) -> type[Model]:
        PLANTED.append((check, words, kind))
        return kind

    return add


def table(*rows: Parameter) -> ParameterTable:
    """The linear toy's table with these rows in place of those of the same name, or added."""
    new = {r.name: r for r in rows}
    kept = tuple(new.pop(r.name, r) for r in Linear.parameters)
    return ParameterTable((*kept, *new.values()))


@plant("identity", "no version")
class NoVersion(Linear):
    version = " "


@plant("identity", "unknown unit 'moons'")
class StrangeTime(Linear):
    time_unit = "moons"


@plant("identity", "neither derivative nor advance")
class NoEquations(Model):
    name, version, time_unit, states, outputs = "no equations", "1", "h", Linear.states, Linear.outputs
    parameters, card = Linear.parameters, Linear.card
    observe = Linear.observe


@plant("card", "no section Licence of sources, Known failures, References")
class HalfACard(Linear):
    card = Card("Toy", {"Question": "Which?", "Valid range": "All."})


@plant("card", "no card")
class NoCard(Linear):
    card = None  # type: ignore[assignment]


@plant("parameter-table", "CL: no source")
class NoSource(Linear):
    parameters = table(Parameter("CL", 2.0, "L/h", description="clearance"))


@plant("parameter-table", "V: no description")
class NoDescription(Linear):
    parameters = table(Parameter("V", 2.0, "L", source="made up"))


@plant("parameter-table", "CL: lognormal, but values outside [0, inf] are allowed")
class NegativeLognormal(Linear):
    parameters = table(row("CL", 2.0, "L/h", lower=-1.0, distribution="lognormal", variance=0.1))


@plant("parameter-table", "b: a standard deviation below 0 is allowed")
class NegativeDeviation(Linear):
    parameters = table(row("b", 0.1, "1", kind="residual", lower=-1.0))


@plant("parameter-table", "OMEGA is not positive semidefinite")
class ImpossibleOmega(Linear):
    parameters = ParameterTable(
        table(row("V", 20.0, "L", distribution="lognormal", variance=0.1)).rows, covariances={("CL", "V"): 0.5}
    )


@plant("declarations", "lag 'TLAG' is no individual parameter")
class UnknownLag(Linear):
    ports = (Port("a", "mg", state="a", lag="TLAG"),)


@plant("declarations", "no state 'depot'")
class UnknownState(Linear):
    ports = (Port("a", "mg", state="depot"),)


@plant("declarations", "residual 'V' is no row of kind residual")
class UnknownResidual(Linear):
    outputs = (Output("cp", "mg/L", Residual(proportional="V")),)


@plant("declarations", "residual rows without output: spare")
class UnusedResidual(Linear):
    parameters = table(row("spare", 0.1, "1", kind="residual"))


@plant("declarations", "accumulator 'auc' is no state")
class UnknownAccumulator(Linear):
    accumulators = ("auc",)


@plant("declarations", "KEL varies between subjects but is no individual parameter")
class LostEta(Linear):
    parameters = table(row("KEL", 0.1, "1/h", distribution="lognormal", variance=0.1))


@plant("declarations", "declare these as individuals")
class UndeclaredIndividuals(Linear):
    def typical(self, theta: Any, cov: Any) -> Any:
        return tuple(theta)


@plant("declarations", "covariate WT: possible, lower, reference and upper are not in order")
class ReferenceOutside(Linear):
    covariates = (Covariate("WT", "kg", 40.0, 120.0, 20.0),)


@plant("units", "unknown unit 'mgs/L'")
class StrangeUnit(Linear):
    outputs = (Output("cp", "mgs/L", Residual(proportional="b")),)


@plant("units", "port a in mol, its state in mg")
class PortOfAnotherUnit(Linear):
    ports = (Port("a", "mol", state="a"),)


@plant("units", "lag CL of port a must be in h")
class LagOfAnotherUnit(Linear):
    ports = (Port("a", "mg", state="a", lag="CL"),)


@plant("dimensions", "observe, cp: the dimensions do not agree with the unit mg/L")
class ForgottenVolume(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.a,)


@plant("dimensions", "derivative, a: the dimensions do not agree with the unit (mg)/(h)")
class ForgottenVolumeInTheRate(Linear):
    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(-p.CL * y.a)


@plant("dimensions", "observe, cp: the equation hides a conversion")
class Micrograms(Linear):
    outputs = (Output("cp", "ug/L", Residual(proportional="b")),)


@plant("dimensions", "derivative, a: the equation hides a conversion")
class Minutes(Linear):
    individuals = Linear.individuals | {"CL": "L/min"}  # type: ignore[operator]


@plant("shapes", "derivative gives a tuple; give State(a)")
class PlainTuple(Linear):
    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return (-p.CL / p.V * y.a,)


@plant("shapes", "observe gives shape (1,) for arguments of shape ()")
class Stacked(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (jnp.stack([y.a / p.V]),)


@plant("shapes", "observe gives float32 for float64")
class SinglePrecision(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return ((y.a / p.V).astype(jnp.float32),)


@plant("tracing", "write jnp.where instead of if")
class Branching(Linear):
    def propagator(self, p: Any) -> Propagator:
        whole = super().propagator(p)
        return lambda dt, y, rates: whole(dt, y, rates) if p.CL > 0 else y


@plant("tracing", "jnp instead of np and math")
class PlainNumpy(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (np.maximum(np.asarray(y.a), 0.0) / p.V,)


@plant("elementwise", "observe: one lane's arguments change another's result")
class Leaking(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.a / jnp.mean(p.V),)


@plant("closed-form", "against derivative")
class ForgottenInput(Linear):
    def propagator(self, p: Any) -> Propagator:
        return lambda dt, y, rates: self.state_type(y.a * jnp.exp(-p.CL / p.V * dt))


@plant("closed-form", "against derivative")
class NotASemigroup(Linear):
    def propagator(self, p: Any) -> Propagator:
        whole = super().propagator(p)
        return lambda dt, y, rates: whole(dt * (1.0 + 1e-6 * dt), y, rates)


@plant("coupling", "M x against derivative")
class WrongCoupling(Linear):
    """A block whose matrix drains half as fast as its derivative."""

    coupled = (("a",),)

    def coupling(self, t: Any, y: State, p: Any, u: Any) -> tuple[Any, ...]:
        return (((-0.5 * p.CL / p.V,),),)


@plant("matrix", "A y against derivative")
class WrongSign(Linear):
    def matrix(self, p: Any) -> tuple[tuple[Any, ...], ...]:
        return ((p.CL / p.V,),)


@plant("balance", "d(stored)/dt + outflow")
class LostMass(Linear):
    def balance(self, t: Any, y: State, p: Any, u: Any) -> Balance | None:
        return Balance(y.a, 0.99 * p.CL / p.V * y.a)


@plant("balance-over-time", "stored + gone - dosed")
class LostMassOverTime(LostMass):
    pass


@plant("gradients", "cp by V")
class StoppedGradient(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.a / jax.lax.stop_gradient(p.V),)


@plant("gradients-of-adaptive-solver", "(cp by ")
class StoppedRate(Linear):
    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(-jax.lax.stop_gradient(p.CL) / p.V * y.a)


@plant("methods-agree", "closed against an adaptive solver")
class AnotherClosedForm(Linear):
    def propagator(self, p: Any) -> Propagator:
        return super().propagator(p._replace(CL=1.0001 * p.CL))


@plant("solvable", "could not be solved")
class NotANumber(Linear):
    def propagator(self, p: Any) -> Propagator:
        return super().propagator(p._replace(CL=jnp.log(-p.CL)))


@plant("solvable", "output cp never changes")
class BlindOutput(Linear):
    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (1.0 + 0.0 * y.a / p.V,)


@plant("one-lane-or-many", "alone against together")
class MeanRate(Linear):
    def propagator(self, p: Any) -> Propagator:
        return super().propagator(p._replace(CL=jnp.mean(p.CL) + 0.0 * p.CL))


@plant("bad-lane", "no failure is reported")
class HiddenFailure(Linear):
    def initial(self, p: Any) -> State:
        return self.state_type(0.0)

    def propagator(self, p: Any) -> Propagator:
        return super().propagator(p._replace(CL=jnp.nan_to_num(p.CL, nan=1.0), V=jnp.nan_to_num(p.V, nan=1.0)))

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return (y.a / jnp.nan_to_num(p.V, nan=1.0),)

    def typical(self, theta: Any, cov: Any) -> Any:
        return super().typical(theta, cov)._replace(F1=jnp.nan_to_num(theta.F1, nan=1.0), ALAG1=jnp.nan_to_num(theta.ALAG1))


@plant("bad-lane", "keep lanes apart")
class SpreadFailure(MeanRate):
    pass


@plant("same-bits-twice", "must not draw random numbers")
class Dice(Linear):
    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        return self.state_type(-p.CL / p.V * y.a * (1.0 + 1e-9 * np.random.default_rng().uniform()))


class Lenient(ParameterTable):
    """A table that has every parameter."""

    def __getitem__(self, name: str) -> Parameter:
        return super().__getitem__(name if name in self else "V")


class Unbounded(ParameterTable):
    """A table that tells a range and does not keep it."""

    def __getitem__(self, name: str) -> Parameter:
        found = super().__getitem__(name)
        return replace(found, lower=-np.inf) if name == "V" else found


@plant("refuses-bad-parameters", "no_such_parameter = 1 is accepted; it should raise ModelError")
class AnyName(Linear):
    parameters = Lenient(Linear.parameters.rows)


@plant("refuses-bad-parameters", "V = -1 is accepted; it should raise ModelError")
class AnyValue(Linear):
    parameters = Unbounded(Linear.parameters.rows)


@plant("refuses-bad-covariates", "covariate WT: no value is impossible")
class AnyWeight(Linear):
    covariates = (Covariate("WT", "kg", 40.0, 120.0, 70.0, possible=(-np.inf, np.inf)),)


@pytest.mark.parametrize(("check", "words", "kind"), PLANTED, ids=[f"{c}:{k.__name__}" for c, _, k in PLANTED])
def test_a_planted_violation_is_found(check: str, words: str, kind: Callable[[], Model]) -> None:
    (outcome,) = conformance(kind(), only=[check])
    assert not outcome.passed
    assert words in outcome.detail


def test_every_check_has_a_planted_violation() -> None:
    assert {check for check, _, _ in PLANTED} == set(check_names())
