"""FOCEI's objective where it is exact, and its gradient against central differences of the objective.

NONMEM's own objectives are in tests/authorities (test_pheno, test_mapbayr).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tests.inference.gaussian import line, observed
from tests.inference.test_likelihood import VALUES, pair, subject

from gemello.engine.lanes import map_blocks, precision
from gemello.inference import focei
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import problem
from gemello.model import registry
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, Subject

LINE = [
    observed(np.array([0.5, 1.0, 3.0, 6.0]), np.array([2.9, 2.2, 1.6, 0.4]), "1"),
    observed(np.array([2.0]), np.array([-3.0]), "2"),
    observed(np.array([1.0, 8.0]), np.array([2.0, -9.0]), "3"),
]
ETAS = np.array([[0.4, -0.1], [0.1, 0.2]])


class Objective:
    """FOCEI's objective and gradient as functions of x alone."""

    def __init__(
        self, model: Model, subjects: Sequence[Subject], values: Mapping[str, float], shape: Layout, **options: Any
    ) -> None:
        self.data = problem(model, subjects, values=values, estimated=frozenset(e.name for e in shape.thetas), **options)
        self.program = focei.program(model, self.data.prepared.timeline.plan, shape)
        self.start = np.zeros((len(subjects), len(shape.etas)))

    def parts(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Objective (subjects,), gradient (subjects, x), etas (subjects, etas)."""
        with precision():
            tree = self.data.blocks._replace(tree=(self.data.blocks.tree, self.data.cut(self.start.T).tree))
            out = map_blocks(self.program, np.asarray(x, float), tree)
        value, gradient, etas, decrement = (self.data.in_subject_order(v) for v in out)
        assert np.all(decrement < 1e-9)
        return value, gradient, etas

    def differences(self, x: NDArray[np.float64], step: float) -> NDArray[np.float64]:
        """(subjects, x) by central differences of the objective, the modes found anew each time."""
        return np.stack([(self.parts(x + e)[0] - self.parts(x - e)[0]) / (2 * step) for e in step * np.eye(len(x))], axis=1)


def start(model: Model, shape: Layout, **change: float) -> NDArray[np.float64]:
    values = {r.name: r.value for r in model.parameters} | change
    return shape.start(values, values, np.array(model.parameters.omega()))


def marginal(x: NDArray[np.float64], shape: Layout) -> list[float]:
    """−2 ln p without constants of each subject of LINE: y ~ N(X b, X W X' + s²)."""
    with precision():
        pop = shape.population(x)
    out = []
    for s in LINE:
        t, y = s.schedule.time[s.schedule.measured], s.schedule.value[s.schedule.measured]
        design = np.stack([np.ones_like(t), t], axis=1)
        covariance = design @ np.asarray(pop.omega) @ design.T + float(pop.sigma["sd"]) ** 2 * np.eye(len(t))
        mean = design @ [float(pop.theta["a"]), float(pop.theta["b"])]
        out.append(-2.0 * stats.multivariate_normal.logpdf(y, mean, covariance) - len(t) * np.log(2.0 * np.pi))
    return out


def test_a_linear_model_s_objective_and_gradient_are_exact() -> None:
    """Full OMEGA, parameters between bounds (logit)."""
    shape = layout(line, {}, omega="full")
    assert [e.transform for e in shape.thetas] == ["logit", "logit"]
    target = Objective(line, LINE, {}, shape)
    for x in (start(line, shape), start(line, shape) + np.array([0.05, -0.02, 0.3, 0.2, -0.1, 0.15])):
        value, gradient, _ = target.parts(x)
        np.testing.assert_allclose(value, marginal(x, shape), rtol=1e-10)
        h = 1e-5
        numeric = np.stack(
            [(np.array(marginal(x + e, shape)) - marginal(x - e, shape)) / (2 * h) for e in h * np.eye(len(x))], axis=1
        )
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)


SUBJECTS = [subject(who="1"), subject(1.5 * VALUES, who="2"), subject(VALUES[:2] * 0.4, np.array([1.0, 3.0]), "3")]


@pytest.mark.parametrize("estimate", [None, ["V", "left_b", "a"]], ids=["all", "three"])
def test_gradient_of_a_nonlinear_model(estimate: list[str] | None) -> None:
    """Two outputs, interaction, full OMEGA; all parameters, and some of them held. Relative 1e-6 of the largest entry."""
    shape = layout(pair, {"CL": 3.0}, estimate=estimate, omega="full")
    target = Objective(pair, SUBJECTS, {"CL": 3.0}, shape)
    x = start(pair, shape, CL=3.0) + 0.1 * np.cos(np.arange(len(shape)))
    _, gradient, etas = target.parts(x)
    assert np.abs(etas).max() > 0.1  # far from where the etas do not matter
    numeric = target.differences(x, 1e-4)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6 * np.abs(numeric).max())


def test_a_parameter_held_has_no_column() -> None:
    shape = layout(pair, {"CL": 3.0}, estimate=["V", "left_b", "a"], omega="full")
    all_of_them = layout(pair, {"CL": 3.0}, omega="full")
    some, every = Objective(pair, SUBJECTS, {"CL": 3.0}, shape), Objective(pair, SUBJECTS, {"CL": 3.0}, all_of_them)
    a = dict(zip(shape.names, some.parts(start(pair, shape))[1].sum(axis=0), strict=True))
    b = dict(zip(all_of_them.names, every.parts(start(pair, all_of_them, CL=3.0))[1].sum(axis=0), strict=True))
    for name, v in a.items():
        assert v == pytest.approx(b[name], rel=1e-8)


def test_gradient_of_an_adaptive_solver() -> None:
    """Michaelis-Menten elimination at rtol 1e-9: within 1e-3 of the largest entry."""
    model = registry.get("mm1_iv")
    values = np.array([[3.4, 2.1, 0.6], [4.4, 3.6, 1.9]])
    subjects = [Subject(str(i), Schedule().dose(0.0, 200.0).observe([1.0, 4.0, 10.0], v)) for i, v in enumerate(values)]
    shape = layout(model, {}, omega="diagonal")
    target = Objective(model, subjects, {}, shape, rtol=1e-9, atol=1e-10)
    x = start(model, shape) + 0.1 * np.cos(np.arange(len(shape)))
    _, gradient, _ = target.parts(x)
    numeric = target.differences(x, 1e-3)
    np.testing.assert_allclose(gradient, numeric, atol=1e-3 * np.abs(numeric).max())
