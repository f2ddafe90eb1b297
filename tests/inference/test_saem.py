"""SAEM where the maximum of the likelihood is known: a linear model with normal errors, with covariates and occasions."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize
from tests.inference.gaussian import Line
from tests.inference.gaussian import line as plain
from tests.inference.test_likelihood import pair

from gemello.base.errors import DataError
from gemello.engine.lanes import precision
from gemello.inference import complete_data, saem
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import Problem, problem
from gemello.model.contract import Model
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Schedule, Subject

TIMES = np.array([0.5, 1.0, 3.0, 6.0])
OCCASIONS = np.array([1, 1, 2, 2])


class Slopes(Line):
    """The line with a normal intercept, an intercept by weight (times a theta), a slope without etas and occasions."""

    name = "slopes"
    parameters = ParameterTable(
        (
            Parameter("a", 2.0, "mg", -100.0, np.inf, distribution="normal", variance=0.5, occasion_variance=0.3),
            Parameter("b", -0.5, "mg/h", -100.0, np.inf),
            Parameter("by_weight", 0.5, "mg", -100.0, np.inf),
            Parameter("sd", 0.7, "mg", kind="residual"),
        )
    )
    individuals = {"a": "mg", "b": "mg/h"}  # noqa: RUF012

    def typical(self, theta: Any, cov: Any) -> Any:
        return self.individual_type(theta.a + theta.by_weight * (cov.WT / 70.0 - 1.0), theta.b)


slopes = Slopes()


@cache
def line_subjects(count: int = 40) -> tuple[Subject, ...]:
    rng = np.random.default_rng(5)
    eta = rng.multivariate_normal([2.0, -0.5], [[0.8, 0.15], [0.15, 0.1]], count)
    y = eta[:, :1] + eta[:, 1:] * TIMES + 0.7 * rng.standard_normal((count, 4))
    return tuple(Subject(str(i), Schedule.of(0.0, evid=2).observe(TIMES, v).covariates(WT=70.0)) for i, v in enumerate(y))


@cache
def slopes_subjects(count: int = 60) -> tuple[Subject, ...]:
    rng = np.random.default_rng(6)
    weight = rng.uniform(45.0, 110.0, count)
    level = 2.0 + 0.8 * (weight / 70.0 - 1.0) + np.sqrt(0.5) * rng.standard_normal(count)
    between = np.sqrt(0.3) * rng.standard_normal((count, 2))
    y = level[:, None] + between[:, OCCASIONS - 1] - 0.5 * TIMES + 0.4 * rng.standard_normal((count, 4))
    out = []
    for i, v in enumerate(y):
        s = Schedule.of(0.0, evid=2).observe(TIMES, v).covariates(WT=weight[i])
        columns = {**s.columns, "OCC": np.concatenate([[1.0], OCCASIONS])}
        out.append(Subject(str(i), replace(s, columns=columns)))
    return tuple(out)


def prepared(model: Model, subjects: tuple[Subject, ...], omega: Any = None) -> tuple[Problem, Layout, NDArray[np.float64]]:
    with precision():
        data = problem(model, subjects, estimated=frozenset(model.parameters.theta_names))
    shape = layout(model, {}, omega=omega, occasions=data.prepared.occasions)
    values = {r.name: r.value for r in model.parameters}
    return data, shape, shape.start(values, values, np.array(model.parameters.omega()).reshape(len(shape.etas), -1))


def exact(x: NDArray[np.float64], shape: Layout, subjects: tuple[Subject, ...]) -> float:
    """Marginal −2 log-likelihood without its constant: y is normal."""
    with precision():
        pop = jax.tree.map(np.asarray, shape.population(np.asarray(x)))
    out = 0.0
    for s in subjects:
        y = s.schedule.value[s.schedule.measured]
        if shape.changing:
            design = np.column_stack([np.ones(4), OCCASIONS == 1, OCCASIONS == 2])
            intercept = pop.theta["a"] + pop.theta["by_weight"] * (s.schedule.columns["WT"][0] / 70.0 - 1.0)
        else:
            design, intercept = np.column_stack([np.ones(4), TIMES]), pop.theta["a"]
        covariance = design @ pop.omega @ design.T + pop.sigma["sd"] ** 2 * np.eye(4)
        out -= 2.0 * stats.multivariate_normal.logpdf(y, intercept + pop.theta["b"] * TIMES, covariance) + 4.0 * np.log(2 * np.pi)
    return out


def best(shape: Layout, x0: NDArray[np.float64], subjects: tuple[Subject, ...]) -> NDArray[np.float64]:
    return np.asarray(minimize(exact, x0, (shape, subjects), "BFGS", options={"gtol": 1e-3}).x)


@pytest.mark.parametrize(("model", "subjects"), [(plain, line_subjects), (slopes, slopes_subjects)], ids=["full", "occasions"])
def test_the_maximum_of_a_linear_model(model: Model, subjects: Any) -> None:
    """From elsewhere, to an objective within 0.1 of the least (1 is a standard error of one parameter); seed 3, 120 chains, whose
    noise leaves about 0.01. Conditional means are those of the normal posterior within 0.15 of its SD (root mean square)."""
    data, shape, x0 = prepared(model, subjects(), "full" if model is plain else None)
    seen: list[tuple[int, float]] = []
    start = x0 + 0.3 * np.cos(np.arange(len(x0)))
    found = saem.run(data, shape, start, seed=3, smooth=100, report=lambda k, v, x: seen.append((k, v)))
    top = best(shape, x0, subjects())
    assert exact(found.x, shape, subjects()) - exact(top, shape, subjects()) < 0.1
    assert exact(start, shape, subjects()) - exact(top, shape, subjects()) > 10.0
    assert found.converged, found.message
    assert [k for k, _ in seen] == list(range(25, 501, 25))
    assert found.trace.shape == (500, len(x0))
    assert np.all(found.error < 0.1)
    assert np.sqrt(np.mean(((found.mean - found.mode) / found.sd) ** 2)) < 0.15  # a normal posterior: mode = mean


def test_the_same_seed_gives_the_same_bits_and_another_one_others() -> None:
    data, shape, x0 = prepared(plain, line_subjects(), "full")
    one, two, other = (saem.run(data, shape, x0, seed=s, burn_in=20, smooth=10).trace for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3


def test_the_roles_of_thetas_are_found() -> None:
    data, shape, x0 = prepared(slopes, slopes_subjects())
    with precision():
        assert [e.name for e in shape.thetas] == ["a", "b", "by_weight"]
        assert complete_data.roles(data, shape, x0) == complete_data.Roles((0, 2), (1,), True)
        data, shape, x0 = prepared(plain, line_subjects())
        assert complete_data.roles(data, shape, x0) == complete_data.Roles((0, 1), (), False)  # between bounds: a logit


def test_roles_with_a_covariate_that_changes() -> None:
    """CL = theta · WT/70 with a log-normal eta is linear in its logarithm, whatever the weight does."""
    schedule = Schedule.of([0.0, 1.0, 6.0], evid=[1, 0, 0], amount=[100.0, 0.0, 0.0], value=[np.nan, 4.0, 1.0])
    changing = replace(schedule, columns={"WT": np.array([90.0, 90.0, 50.0])})
    data, shape, x0 = prepared(pair, (Subject("1", changing), Subject("2", schedule.covariates(WT=70.0))))
    with precision():
        assert complete_data.roles(data, shape, x0) == complete_data.Roles((0, 1), (), True)


def test_omega_of_a_structure_is_the_most_likely_one() -> None:
    """Full and diagonal blocks, and elements that are equal: the moments themselves, and means of those that are shared."""
    _, shape, x0 = prepared(slopes, slopes_subjects())
    with precision():
        basis, held = complete_data.omega_basis(shape, x0)
        s = np.cov(np.random.default_rng(1).standard_normal((3, 50)))
        found = np.asarray(saem.structured(s, np.asarray(shape.population(x0).omega), basis, held))
        np.testing.assert_allclose(found, np.diag([s[0, 0], *[0.5 * (s[1, 1] + s[2, 2])] * 2]), atol=1e-12)
        _, shape, x0 = prepared(plain, line_subjects(), "full")
        basis, held = complete_data.omega_basis(shape, x0)
        found = np.asarray(saem.structured(s[:2, :2], np.asarray(shape.population(x0).omega), basis, held))
    np.testing.assert_allclose(found, s[:2, :2], atol=1e-12)


def test_a_trace_that_still_drifts_is_seen() -> None:
    """Noise about a line that rises by 0.3 in a quarter drifts; the same noise alone, in 200 traces, does in at most 10 (5 %)."""
    rng = np.random.default_rng(2)
    noise = 0.05 * rng.standard_normal((300, 200))
    assert saem.drift(noise + np.linspace(0.0, 1.2, 300)[:, None]).mean() > 0.9
    assert saem.drift(noise * 20.0).sum() <= 10


def test_start_values_without_a_likelihood_are_refused() -> None:
    """A proportional error alone, and a value at time 0 of a drug that is not there yet."""
    from gemello.model import registry

    model = registry.get("pk1_oral")
    subjects = [Subject("7", Schedule().observe([0.0, 2.0], [5.0, 4.0]).merge(Schedule().dose(0.5, 100.0)))]
    with precision():
        data = problem(model, subjects)
    shape = layout(model, {})
    values = {r.name: r.value for r in model.parameters}
    with pytest.raises(DataError, match=r"no objective at the start values .* the first 7"):
        saem.run(data, shape, shape.start(values, values, np.array(model.parameters.omega())), seed=1, burn_in=10, smooth=5)
