"""The joint objective, its gradient and curvature beside the same numbers by NumPy and scipy.stats."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError
from gemello.engine.lanes import map_blocks, precision
from gemello.inference import likelihood as li
from gemello.model.card import Card
from gemello.model.contract import Covariate, Model, Output, Port, Residual
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Schedule, Subject

DOSE = 100.0
THETA = {"CL": 4.0, "V": 20.0}
OMEGA = np.array([[0.10, 0.03], [0.03, 0.06]])
SIGMA = {"a": 0.2, "b": 0.15, "left_a": 3.0, "left_b": 0.1}


class Pair(Model):
    """One compartment, CL by weight; its concentration (combined2) and the amount left (combined1) are both measured."""

    name, version, time_unit = "pair", "1", "h"
    states = {"amount": "mg"}  # noqa: RUF012
    outputs = (
        Output("cp", "mg/L", Residual("a", "b")),
        Output("left", "mg", Residual("left_a", "left_b", "combined1")),
        Output("t", "h"),
    )
    ports = (Port("amount", "mg", state="amount"),)
    covariates = (Covariate("WT", "kg", 40.0, 120.0, 70.0),)
    parameters = ParameterTable(
        (
            Parameter("CL", THETA["CL"], "L/h", distribution="lognormal", variance=OMEGA[0, 0]),
            Parameter("V", THETA["V"], "L", distribution="lognormal", variance=OMEGA[1, 1]),
            Parameter("a", SIGMA["a"], "mg/L", kind="residual"), Parameter("b", SIGMA["b"], "1", kind="residual"),
            Parameter("left_a", SIGMA["left_a"], "mg", kind="residual"),
            Parameter("left_b", SIGMA["left_b"], "1", kind="residual"),
        ),
        {("CL", "V"): OMEGA[0, 1]},
    )  # fmt: skip
    card = Card("pair", {})

    def typical(self, theta: Any, cov: Any) -> Any:
        return self.individual_type(theta.CL * cov.WT / 70.0, theta.V)

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, r: self.state_type(y.amount * jax.numpy.exp(-p.CL / p.V * dt))

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(-p.CL / p.V * y.amount)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return y.amount / p.V, y.amount, t


class Logs(Pair):
    """The same with log-normal errors."""

    name = "logs"
    outputs = (Output("cp", "mg/L", Residual("a", form="lognormal")), *Pair.outputs[1:])


class Proportional(Pair):
    """The same with a purely proportional error of the concentration."""

    name = "proportional"
    outputs = (Output("cp", "mg/L", Residual(proportional="b")), *Pair.outputs[1:])


pair, proportional = Pair(), Proportional()
TIMES, WEIGHTS = np.array([1.0, 3.0, 3.0, 8.0, 20.0]), np.array([90.0, 90.0, 90.0, 50.0, 50.0])
OUTPUT = np.array([0, 0, 1, 1, 0])
VALUES = np.array([4.1, 2.2, 61.0, 25.0, 0.4])


def subject(values: NDArray[np.float64] = VALUES, times: NDArray[np.float64] = TIMES, who: str = "1") -> Subject:
    """A bolus at 0 and these measurements; the weight falls from 90 to 50 kg after 3 h."""
    s = Schedule.of(0.0, evid=1, amount=DOSE).merge(Schedule.of(times, value=values, output=OUTPUT[: len(times)]))
    return Subject(who, Schedule(**{**vars(s), "columns": {"WT": np.concatenate([[90.0], WEIGHTS[: len(times)]])}}))


class Parts(NamedTuple):
    """What a block says at one eta: objective, half its gradient (etas,), curvature (etas, etas), predictions and variances."""

    objective: float
    gradient: NDArray[np.float64]
    curvature: NDArray[np.float64]
    f: NDArray[np.float64]
    v: NDArray[np.float64]


def look(model: Model, s: Subject, etas: NDArray[np.float64]) -> list[Parts]:
    """At each of `etas` (n, etas), by one compiled program."""
    problem = li.problem(model, [s])
    data = jax.tree.map(lambda v: v[0], problem.blocks.tree)

    def run(pop: li.Population, eta: Any) -> Any:
        block, w = li.Block(model, problem.prepared.timeline.plan, data), li.prior(pop.omega)
        g, slope = block.gradient_parts(pop, eta)
        return (
            li.joint_objective(block, g, eta, w),
            li.joint_gradient(block, g, slope, eta, w),
            li.curvature(block, slope, g, w),
            g.f,
            g.v,
        )

    with precision():
        program = jax.jit(run)
        pop = li.Population({k: np.float64(v) for k, v in THETA.items()}, OMEGA, {k: np.float64(v) for k, v in SIGMA.items()})
        raw = [program(pop, np.asarray(e, float)[:, None]) for e in etas]
    n = len(s.schedule)
    out = []
    for o, gradient, h, f, v in raw:
        here = [np.asarray(x)[..., 0] for x in (o, gradient, h, f, v)]
        out.append(Parts(float(here[0]), here[1], here[2], here[3][1:n], here[4][1:n]))
    return out


def by_hand(eta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions and standard deviations: the weight of a record holds since the record before."""
    volume = THETA["V"] * np.exp(eta[1])
    rate = THETA["CL"] * WEIGHTS / 70.0 * np.exp(eta[0]) / volume
    amount = DOSE * np.exp(-np.cumsum(rate * np.diff(TIMES, prepend=0.0)))
    f = np.where(OUTPUT == 0, amount / volume, amount)
    sd = np.where(OUTPUT == 0, np.hypot(SIGMA["a"], SIGMA["b"] * f), SIGMA["left_a"] + SIGMA["left_b"] * f)
    return f, sd


def objective_by_hand(eta: NDArray[np.float64]) -> float:
    f, sd = by_hand(eta)
    log = stats.norm.logpdf(VALUES, f, sd).sum() + stats.multivariate_normal.logpdf(eta, np.zeros(2), OMEGA)
    return float(-2.0 * log - (len(VALUES) + 2) * np.log(2.0 * np.pi))


ETAS = np.array([[0.0, 0.0], [0.3, -0.2], [-0.5, 0.4]])


def differences(f: Any, x: NDArray[np.float64], h: float = 1e-5) -> NDArray[np.float64]:
    """Central differences of f (scalar or array), the derivatives on the first axis."""
    return np.stack([(np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * h) for e in h * np.eye(len(x))])


def test_joint_objective_of_two_outputs_and_a_weight_that_changes() -> None:
    for eta, got in zip(ETAS, look(pair, subject(), ETAS), strict=True):
        f, sd = by_hand(eta)
        np.testing.assert_allclose(got.f, f, rtol=1e-12)
        np.testing.assert_allclose(np.sqrt(got.v), sd, rtol=1e-12)
        assert got.objective == pytest.approx(objective_by_hand(eta), rel=1e-12)


def test_gradient_is_half_that_of_the_objective() -> None:
    for eta, got in zip(ETAS, look(pair, subject(), ETAS), strict=True):
        np.testing.assert_allclose(2.0 * got.gradient, differences(objective_by_hand, eta), rtol=1e-7, atol=1e-7)


def test_curvature_is_fisher_s_information_with_interaction() -> None:
    """J'R⁻¹J + ½ (R'/R)'(R'/R) + W⁻¹ from differences of the predictions; and the mean of half the Hessian over data."""
    eta = ETAS[1]
    (got,) = look(pair, subject(), eta[None])
    f, sd = by_hand(eta)
    j = differences(lambda e: by_hand(e)[0], eta) / sd
    r = differences(lambda e: by_hand(e)[1] ** 2, eta) / sd**2
    np.testing.assert_allclose(got.curvature, j @ j.T + 0.5 * r @ r.T + np.linalg.inv(OMEGA), rtol=1e-7)
    # E[∂²(−ln p)] under data from the model itself: differences of the expected gradient
    expected = lambda e: 0.5 * np.sum((sd**2 + (f - by_hand(e)[0]) ** 2) / by_hand(e)[1] ** 2 + 2 * np.log(by_hand(e)[1]))  # noqa: E731
    hessian = differences(lambda e: differences(expected, e, 1e-4), eta, 1e-4) + np.linalg.inv(OMEGA)
    np.testing.assert_allclose(got.curvature, hessian, rtol=1e-4)


def test_a_prediction_of_zero_under_a_proportional_error() -> None:
    """Before any dose the prediction is 0: a measured 0 says nothing, anything else is impossible."""

    def early(value: float) -> Subject:
        s = Schedule.of([0.0, 1.0, 4.0], evid=[0, 1, 0], amount=[0.0, DOSE, 0.0], value=[value, np.nan, 3.0])
        return Subject("1", s.covariates(WT=70.0))

    later = Subject("1", early(0.0).schedule.take([1, 2]))
    eta = ETAS[1][None]
    (nothing,), (only,) = look(proportional, early(0.0), eta), look(proportional, later, eta)
    assert nothing.objective == pytest.approx(only.objective, rel=1e-13)
    np.testing.assert_allclose(nothing.gradient, only.gradient, rtol=1e-12)
    np.testing.assert_allclose(nothing.curvature, only.curvature, rtol=1e-12)
    (impossible,) = look(proportional, early(0.5), eta)
    assert not np.isfinite(impossible.objective)


def test_records_without_a_value_and_padding_add_nothing() -> None:
    """A subject with fewer records beside a longer one, and one with times at which only to predict."""
    short = subject(VALUES[:2], TIMES[:2], "short")
    blank = Subject("blank", short.schedule.merge(Schedule.of([0.5, 2.0])))
    problem = li.problem(pair, [short, subject(), blank])
    assert problem.observations.tolist() == [2, 5, 2]
    with precision():
        pop = li.Population({k: np.float64(v) for k, v in THETA.items()}, OMEGA, {k: np.float64(v) for k, v in SIGMA.items()})
        eta = problem.cut(np.tile(ETAS[1][:, None], 3))
        tree = problem.blocks._replace(tree=(problem.blocks.tree, eta.tree))
        got = problem.in_subject_order(map_blocks(li.log_likelihood_program(pair, problem.prepared.timeline.plan), pop, tree))
    assert got[0] == pytest.approx(got[2], rel=1e-13)
    assert got[1] == pytest.approx(objective_by_hand(ETAS[1]), rel=1e-12)


def check_objective(model: Model, s: Subject, by_hand: Any) -> None:
    """Objective and gradient beside a function of the etas; the curvature where the etas say nothing more than its own rank."""
    for eta, got in zip(ETAS, look(model, s, ETAS), strict=True):
        assert got.objective == pytest.approx(by_hand(eta), rel=1e-12)
        np.testing.assert_allclose(2.0 * got.gradient, differences(by_hand, eta), rtol=1e-6, atol=1e-6)
        assert np.linalg.eigvalsh(got.curvature)[0] > 0


def prior_by_hand(eta: NDArray[np.float64], measured: int) -> float:
    log = stats.multivariate_normal.logpdf(eta, np.zeros(2), OMEGA)
    return float(-2.0 * log - (measured + 2) * np.log(2.0 * np.pi))


def test_log_normal_errors_have_the_density_of_the_value_itself() -> None:
    def by_hand_logs(eta: NDArray[np.float64]) -> float:
        f, sd = by_hand(eta)
        cp = OUTPUT == 0
        log = (
            stats.lognorm.logpdf(VALUES[cp], SIGMA["a"], scale=f[cp]).sum()
            + stats.norm.logpdf(VALUES[~cp], f[~cp], sd[~cp]).sum()
        )
        return float(-2.0 * log) + prior_by_hand(eta, 5)

    check_objective(Logs(), subject(), by_hand_logs)
    with pytest.raises(DataError, match=r"value '0.0': subject 1: .* log-normal must be above 0"):
        li.problem(Logs(), [subject(np.array([4.1, 2.2, 61.0, 25.0, 0.0]))])


@pytest.mark.parametrize("model", [pair, Logs()])
def test_values_below_and_above_a_limit_add_their_probability(model: Model) -> None:
    """M3: the last concentration is below 0.5 mg/L, the first above 4.1."""
    values, censored = np.array([4.1, 2.2, 61.0, 25.0, 0.5]), np.array([-1, 0, 0, 0, 1])
    whole = subject(values)
    s = Subject("1", Schedule(**{**vars(whole.schedule), "censored": np.concatenate([[0], censored])}))

    def by_hand_m3(eta: NDArray[np.float64]) -> float:
        f, sd = by_hand(eta)
        if isinstance(model, Logs):
            cp = [stats.norm(np.log(f[k]), SIGMA["a"]) for k in range(5)]
            ends = cp[0].logsf(np.log(4.1)) + cp[4].logcdf(np.log(0.5)) + cp[1].logpdf(np.log(2.2)) - np.log(2.2)
        else:
            ends = stats.norm.logsf(4.1, f[0], sd[0]) + stats.norm.logcdf(0.5, f[4], sd[4]) + stats.norm.logpdf(2.2, f[1], sd[1])
        log = ends + stats.norm.logpdf(values[2:4], f[2:4], sd[2:4]).sum()
        return float(-2.0 * log) + prior_by_hand(eta, 3)

    check_objective(model, s, by_hand_m3)
    assert li.problem(model, [s]).observations.tolist() == [3]


def test_far_below_its_limit_a_censored_value_stays_finite() -> None:
    whole = subject(np.array([4.1, 2.2, 61.0, 25.0, 1e-9]))
    s = Subject("1", Schedule(**{**vars(whole.schedule), "censored": np.array([0, 0, 0, 0, 0, 1])}))
    (got,) = look(proportional, s, np.array([[-2.0, 0.0]]))
    assert np.isfinite(got.objective)
    assert np.isfinite(got.gradient).all()
    assert np.isfinite(got.curvature).all()


def test_the_exact_hessian_is_that_of_the_objective() -> None:
    from gemello.inference.focei import exact_hessian

    problem = li.problem(pair, [subject()])
    data = jax.tree.map(lambda v: v[0], problem.blocks.tree)
    with precision():
        pop = li.Population({k: np.float64(v) for k, v in THETA.items()}, OMEGA, {k: np.float64(v) for k, v in SIGMA.items()})
        block = li.Block(pair, problem.prepared.timeline.plan, data)
        h = np.asarray(exact_hessian(block, pop, ETAS[1][:, None], li.prior(pop.omega)))[..., 0]
    expected = 0.5 * differences(lambda e: differences(objective_by_hand, e, 1e-4), ETAS[1], 1e-4)
    np.testing.assert_allclose(h, expected, rtol=1e-5)


def test_outputs_without_error_are_refused() -> None:
    predicted = Subject(
        "7", Schedule.of([0.0, 1.0], evid=[1, 0], amount=[DOSE, 0.0], value=[np.nan, 1.0], output=2).covariates(WT=70.0)
    )
    with pytest.raises(DataError, match=r"subject 7: pair has no observable output of that number; observe one of: cp, left"):
        li.problem(pair, [predicted])
