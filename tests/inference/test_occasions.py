"""Variability between occasions: a linear model whose likelihood is known exactly, and predictions occasion by occasion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gemello.base.errors import DataError, ModelError
from gemello.inference.ensemble import ensemble, population_of
from gemello.inference.evaluate import objective
from gemello.inference.laplace import modes
from gemello.inference.likelihood import problem
from gemello.inference.population import fit
from gemello.model.card import Card
from gemello.model.contract import Model, Output, Residual
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

A, BETWEEN, WITHIN, SD, DRIFT = 5.0, 0.8, 0.5, 0.3, 0.4


class Level(Model):
    """level = a, which differs between subjects and from occasion to occasion; `b` only between occasions."""

    name, version, time_unit = "level", "1", "h"
    states = {"nothing": "mg"}  # noqa: RUF012
    outputs = (Output("level", "mg", Residual(additive="sd")),)
    parameters = ParameterTable(
        (
            Parameter("a", A, "mg", -100, 100, distribution="normal", variance=BETWEEN, occasion_variance=WITHIN),
            Parameter("b", 1.0, "mg/h", -100, 100, distribution="normal", occasion_variance=DRIFT),
            Parameter("sd", SD, "mg", kind="residual"),
        )
    )
    card = Card("level", {})

    def propagator(self, p: Any) -> Any:
        return lambda dt, y, r: self.state_type(y.nothing + 0.0 * dt)

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(0.0 * y.nothing)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (p.a + p.b * t,)


level = Level()
TIMES, OCC = np.array([0.0, 1.0, 2.0, 2.5, 3.0]), np.array([7.0, 7.0, 1.0, 1.0, 4.0])  # numbered as they come, in any way


def subject(who: str, values: Any, times: Any = TIMES, occ: Any = OCC) -> Subject:
    s = Schedule().observe(times, values)
    return Subject(who, replace(s, columns={"OCC": np.asarray(occ, float)}))


def marginal(times: Any, occ: Any, between: float = BETWEEN, within: float = WITHIN, drift: float = DRIFT, sd: float = SD) -> Any:
    """Covariance of the values: all share the subject's eta, those of one occasion its two kappas."""
    same = np.equal.outer(occ, occ)
    return between + within * same + drift * same * np.outer(times, times) + sd**2 * np.eye(len(times))


VALUES = {"1": [6.1, 7.0, 6.2, 6.9, 8.8], "2": [4.0, 4.4, 7.0]}


def data() -> list[Subject]:
    return [subject("1", VALUES["1"]), subject("2", VALUES["2"], TIMES[:3], OCC[:3])]


def exact(times: Any, occ: Any, values: Any) -> float:
    return float(-2 * stats.multivariate_normal(A + times, marginal(times, occ)).logpdf(values) - len(times) * np.log(2 * np.pi))


@pytest.mark.parametrize("method", ["fo", "foce", "focei", "laplace"])
def test_the_likelihood_of_a_linear_model_is_exact(method: str) -> None:
    found = objective(p := problem(level, data()), population_of(PopulationParameters.of(level), 3), method)
    assert p.etas == 1 + 3 * 2
    np.testing.assert_allclose(found, [exact(TIMES, OCC, VALUES["1"]), exact(TIMES[:3], OCC[:3], VALUES["2"])], rtol=1e-10)


def test_modes_are_the_conditional_means() -> None:
    found = modes(problem(level, data()), population_of(PopulationParameters.of(level), 3))
    residual = np.linalg.solve(marginal(TIMES, OCC), np.array(VALUES["1"]) - A - TIMES)
    order = np.array([7.0, 1.0, 4.0])  # occasions as they appear
    kappas = [[WITHIN * residual[o == OCC].sum(), DRIFT * (TIMES * residual)[o == OCC].sum()] for o in order]
    np.testing.assert_allclose(found.eta[0], [BETWEEN * residual.sum(), *np.ravel(kappas)], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.eta[1, 5:], 0.0, atol=1e-12)  # the third occasion that subject 2 did not have


def test_the_evidence_of_the_ensemble_is_exact_within_its_error() -> None:
    """2,000 quasi-random draws of 7 etas; the tolerance is a tenth of a unit of ln evidence."""
    found = ensemble(problem(level, data()), PopulationParameters.of(level), draws=2000, seed=3)
    constant = 0.5 * np.log(2 * np.pi) * np.array([5, 3])
    expected = [-0.5 * exact(TIMES, OCC, VALUES["1"]), -0.5 * exact(TIMES[:3], OCC[:3], VALUES["2"])] - constant
    np.testing.assert_allclose(found.evidence, expected, atol=0.1)


def test_simulation_moves_each_occasion_by_its_own() -> None:
    etas = np.array([[1.0, 0.1, 0.01, 0.2, 0.02, 0.3, 0.03]])
    got = simulate(level, [subject("1", VALUES["1"])], etas=etas).outputs["level"][0]
    a = A + 1.0 + np.array([0.1, 0.1, 0.2, 0.2, 0.3])
    np.testing.assert_allclose(got, a + TIMES * (1 + np.array([0.01, 0.01, 0.02, 0.02, 0.03])), rtol=1e-14)
    without = simulate(level, [subject("1", VALUES["1"])], etas=[[1.0]]).outputs["level"][0]
    np.testing.assert_allclose(without, A + 1.0 + TIMES, rtol=1e-14)
    with pytest.raises(ModelError, match="what each occasion adds"):
        simulate(level, [subject("1", VALUES["1"])], etas=[[1.0, 2.0]])


def test_without_the_column_inference_asks_for_it() -> None:
    with pytest.raises(DataError, match="OCC"):
        problem(level, [Subject("1", Schedule().observe(TIMES, VALUES["1"]))])


def test_a_fit_finds_the_maximum_of_the_exact_likelihood() -> None:
    """60 subjects with 3 occasions of 3 values; the estimates are those of a direct search on the exact density."""
    from scipy.optimize import minimize

    random = np.random.default_rng(5)
    times, occ = 0.4 * np.arange(9.0), np.repeat([1.0, 2.0, 3.0], 3)
    root = np.linalg.cholesky(marginal(times, occ))
    values = A + times + (root @ random.standard_normal((9, 60))).T
    found = fit(level, [subject(str(i), v, times, occ) for i, v in enumerate(values)], "focei").check()

    def cost(x: Any) -> float:
        v = marginal(times, occ, *np.exp(x[2:5]), sd=np.exp(x[5]))
        return float(-2 * stats.multivariate_normal(x[0] + x[1] * times, v).logpdf(values).sum())

    best = minimize(cost, [A, 1.0, *np.log([BETWEEN, WITHIN, DRIFT, SD])], method="BFGS").x
    assert found.objective == pytest.approx(cost(best) - 540 * np.log(2 * np.pi), abs=1e-4)
    assert [found.theta["a"], found.theta["b"]] == pytest.approx(best[:2], abs=1e-3)
    own = [found.omega[0, 0], found.occasion["a"], found.occasion["b"], found.sigma["sd"]]
    assert own == pytest.approx(np.exp(best[2:]), rel=2e-3)
    assert found.individual.shape == (60, 1)
    assert found.individual_occasion.shape == (60, 3, 2)
    assert set(found.se) == {"a", "b", "sd", "OMEGA(a,a)", "OCCASION(a,a)", "OCCASION(b,b)"}
    assert all(v > 0 for v in found.se.values())
    assert PopulationParameters.from_fit(found).check(level).occasion == found.occasion
