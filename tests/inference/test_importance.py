"""The marginal likelihood by importance sampling: exact for a linear model, honest in its error, smooth in its derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from tests.inference.gaussian import line
from tests.inference.test_likelihood import TIMES, VALUES, pair, subject
from tests.inference.test_saem import best, exact, line_subjects, plain, prepared, slopes, slopes_subjects

from gemello.engine.lanes import precision
from gemello.inference import complete_data, importance
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import Problem, problem
from gemello.inference.population import fit
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject


def nonlinear() -> tuple[Problem, Layout, NDArray[np.float64]]:
    """Three subjects, two outputs, weight that changes, full OMEGA."""
    subjects = (subject(who="1"), subject(1.5 * VALUES, who="2"), subject(VALUES[:2] * 0.4, TIMES[:2], "3"))
    return prepared(pair, subjects, "full")


def test_a_linear_model_is_exact_within_the_stated_error() -> None:
    """20 seeds: the mean of z = (value − exact)/error within 4/√20 of 0, and its SD between 0.3 and 1.7 (8 sets of points give an
    error with 7 degrees of freedom a subject); false alarms below 1 in 1,000."""
    subjects = line_subjects()
    data, shape, x0 = prepared(plain, subjects, "full")
    found = [importance.objective(data, shape, x0, seed=s, draws=200) for s in range(20)]
    z = np.array([(m.total - exact(x0, shape, subjects)) / m.total_error for m in found])
    assert abs(z.mean()) < 4.0 / np.sqrt(20.0)
    assert 0.3 < z.std() < 1.7
    assert max(m.total_error for m in found) < 0.5
    assert found[0].value.shape == found[0].error.shape == (len(subjects),)
    assert importance.objective(data, shape, x0, seed=0, draws=200).total == found[0].total


def test_without_data_a_subject_adds_nothing() -> None:
    """A value that is missing: the marginal likelihood is 1, its objective 0 within 4 errors and 0.2."""
    blank = Subject("blank", Schedule.of(0.0, evid=2).observe([1.0], [np.nan]).covariates(WT=70.0))
    data, shape, x0 = prepared(plain, (*line_subjects(3), blank), "full")
    m = importance.objective(data, shape, x0, seed=1, draws=400)
    assert abs(m.value[-1]) < min(4.0 * m.error[-1], 0.2)


@pytest.mark.parametrize("make", [nonlinear, lambda: prepared(slopes, slopes_subjects(8))], ids=["pair", "occasions"])
def test_derivatives_are_those_of_the_likelihood_at_the_draws(make: object) -> None:
    """Gradient and Hessian against central differences at draws that stay, relative 1e-6 of the largest entry."""
    data, shape, x0 = make()  # type: ignore[operator]
    with precision():
        role = complete_data.roles(data, shape, x0)
        d = importance.sample(data, shape.population(x0), seed=1, draws=40)
        x = x0 + 0.05 * np.sin(np.arange(len(x0)))
        at = importance.derivatives(data, shape, role, x, x0, d)
        h = 1e-4
        near = [[importance.derivatives(data, shape, role, x + s * h * e, x0, d) for s in (1.0, -1.0)] for e in np.eye(len(x))]
    slope = np.array([(a.value.sum() - b.value.sum()) / (2 * h) for a, b in near])
    curve = np.array([(a.gradient.sum(axis=0) - b.gradient.sum(axis=0)) / (2 * h) for a, b in near])
    np.testing.assert_allclose(at.gradient.sum(axis=0), slope, atol=1e-6 * np.abs(slope).max())
    np.testing.assert_allclose(at.hessian, curve, atol=1e-6 * np.abs(curve).max())


def test_individual_parameters_that_stay_do_not_change_the_likelihood() -> None:
    """At draws made for other parameters the value is the marginal one too, within 4 errors of both (false alarm 1 in 10,000)."""
    subjects = line_subjects()
    data, shape, x0 = prepared(plain, subjects, "full")
    x = x0 + 0.05 * np.cos(np.arange(len(x0)))
    with precision():
        d = importance.sample(data, shape.population(x0), seed=2, draws=800)
        moved = importance.derivatives(data, shape, complete_data.roles(data, shape, x0), x, x0, d)
    error = 2.0 * importance.objective(data, shape, x0, seed=2, draws=800).total_error
    assert abs(moved.value.sum() - exact(x, shape, subjects)) < 4.0 * error


@pytest.mark.parametrize(("model", "subjects"), [(plain, line_subjects), (slopes, slopes_subjects)], ids=["full", "occasions"])
def test_the_maximum_of_a_linear_model(model: Model, subjects: object) -> None:
    """Within 5 Monte Carlo errors of the maximum in every coordinate (12 coordinates: 1 in 100,000), and 0.05 of its objective;
    standard errors from the Hessian within 15 % of those of the exact one's diagonal."""
    own: tuple[Subject, ...] = subjects()  # type: ignore[operator]
    data, shape, x0 = prepared(model, own, "full" if model is plain else None)
    found = importance.run(data, shape, x0 + 0.2 * np.cos(np.arange(len(x0))), seed=4, draws=200)
    top = best(shape, x0, own)
    assert found.converged, found.message
    assert np.all(np.abs(found.x - top) < 5.0 * found.error + 1e-3)
    assert exact(found.x, shape, own) - exact(top, shape, own) < 0.05
    assert found.objectives[-1] < found.objectives[0]
    at = importance.information(data, shape, found.x, seed=5, draws=400)
    h = 1e-3
    for i, e in enumerate(h * np.eye(len(top))):
        curvature = (exact(top + e, shape, own) + exact(top - e, shape, own) - 2.0 * exact(top, shape, own)) / h**2
        assert at.hessian[i, i] == pytest.approx(curvature, rel=0.3)


def test_an_adaptive_solver() -> None:
    """Saturable elimination: the gradient by Fisher's identity against differences, within 1e-3 of its largest entry."""
    from gemello.model import registry

    model = registry.get("mm1_iv")
    subjects = [
        Subject(str(i), Schedule().dose(0.0, 200.0).observe([1.0, 4.0, 10.0], v))
        for i, v in enumerate([[3.4, 2.1, 0.6], [4.4, 3.6, 1.9]])
    ]
    with precision():
        data = problem(model, subjects, rtol=1e-8, atol=1e-9)
        shape = layout(model, {}, omega="diagonal")
        values = {r.name: r.value for r in model.parameters}
        x0 = shape.start(values, values, np.array(model.parameters.omega()))
        role = complete_data.roles(data, shape, x0)
        d = importance.sample(data, shape.population(x0), seed=1, draws=32)
        at = importance.derivatives(data, shape, role, x0, x0, d)
        h = 1e-3
        pairs = [
            [importance.derivatives(data, shape, role, x0 + s * h * e, x0, d).value.sum() for s in (1, -1)]
            for e in np.eye(len(x0))
        ]
    slope = np.array([(a - b) / (2 * h) for a, b in pairs])
    np.testing.assert_allclose(at.gradient.sum(axis=0), slope, atol=1e-3 * np.abs(slope).max())


def test_a_step_too_far_is_taken_back() -> None:
    """A straight line with random intercept and slope, full OMEGA: the maximum is that of the exact normal likelihood."""
    random = np.random.default_rng(8)
    times, size = np.array([0.0, 1.0, 2.0, 3.0, 5.0]), 40
    design, root = np.stack([np.ones(5), times], axis=1), np.linalg.cholesky([[0.8, 0.15], [0.15, 0.12]])
    values = np.array([
        design @ (np.array([5.0, 1.0]) + root @ random.normal(size=2)) + 0.4 * random.normal(size=5) for _ in range(size)
    ])  # fmt: skip
    subjects = [Subject(str(i), Schedule().observe(times, v).covariates(WT=70.0)) for i, v in enumerate(values)]

    def density(q: Any) -> float:
        o = np.array([[q[2], q[4]], [q[4], q[3]]])
        v = design @ o @ design.T + q[5] ** 2 * np.eye(5)
        r = values - design @ q[:2]
        return float(size * np.linalg.slogdet(v)[1] + np.einsum("ij,jk,ik->", r, np.linalg.inv(v), r))

    start = {"a": 4.0, "b": 1.5, "sd": 0.5, "OMEGA(a,a)": 0.5, "OMEGA(b,b)": 0.2, "OMEGA(a,b)": 0.0}
    least = minimize(density, [5, 1, 0.8, 0.12, 0.15, 0.4], method="Nelder-Mead", options={"maxiter": 20_000, "fatol": 1e-9}).fun
    for seed, draws in ((1, 300), (2, 200)):
        found = fit(line, subjects, "imp", start=start, seed=seed, settings={"draws": draws})
        assert found.converged
        assert found.objective == pytest.approx(least, abs=0.5)  # Monte Carlo error of the objective: 0.1 to 0.2
