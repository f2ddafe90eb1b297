"""FO's objective against the multivariate normal density, its gradient against differences, and no hang on several devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gemello.domains.pharmacology.theophylline.boeckmann1994 import subjects
from gemello.engine.lanes import map_blocks, precision
from gemello.inference import fo
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import problem
from gemello.model import registry
from gemello.model.schedule import Subject

ROOT = Path(__file__).resolve().parents[2]
SOME = subjects()[:4]
MODEL = registry.get("theoph_fo")


def shape_of(omega: str) -> Layout:
    return layout(MODEL, {}, omega=omega, log_diagonal=False)


def start(shape: Layout) -> NDArray[np.float64]:
    values = {r.name: r.value for r in MODEL.parameters}
    return shape.start(values, values, np.array(MODEL.parameters.omega()) + np.diag([0.5, 1e-4, 0.1]))


def ours(shape: Layout, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Objective (subjects,) and gradient (subjects, x)."""
    with precision():
        data = problem(MODEL, SOME)
        tree = data.blocks._replace(tree=(data.blocks.tree, data.cut(np.zeros((len(shape.etas), len(SOME)))).tree))
        out = map_blocks(fo.program(MODEL, data.prepared.timeline.plan, shape), x, tree)
        value, gradient, etas, _ = (data.in_subject_order(v) for v in out)
    assert not etas.any()
    return value, gradient


def concentration(s: Subject, p: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The formula of the NONMEM Users Guide with KA = p0, KE = p1, CL = p2 in L/h, V = CL/KE."""
    t = s.schedule.time[s.schedule.measured]
    amount = s.schedule.amount.max()
    return np.asarray(amount * p[0] * p[1] / (p[2] * (p[0] - p[1])) * (np.exp(-p[1] * t) - np.exp(-p[0] * t)))


def density(shape: Layout, x: NDArray[np.float64]) -> list[float]:
    """−2 ln N(y; f(0), J W J' + R) without constants; derivatives by a complex step."""
    with precision():
        pop = shape.population(x)
    out = []
    for s in SOME:
        y, weight = s.schedule.value[s.schedule.measured], s.schedule.columns["WT"][0]
        typical = np.array([float(pop.theta["KA"]), float(pop.theta["KE"]), float(pop.theta["CL"]) * weight], complex)
        j = np.stack([concentration(s, typical + 1e-30j * e).imag / 1e-30 for e in np.eye(3)], axis=1)
        v = j @ np.asarray(pop.omega) @ j.T + float(pop.sigma["cp_additive"]) ** 2 * np.eye(len(y))
        out.append(-2.0 * stats.multivariate_normal.logpdf(y, concentration(s, typical).real, v) - len(y) * np.log(2.0 * np.pi))
    return out


@pytest.mark.parametrize("omega", ["full", "diagonal"])
def test_objective_and_gradient(omega: str) -> None:
    shape = shape_of(omega)
    x = start(shape) * (1.0 + 0.1 * np.cos(np.arange(len(shape))))
    value, gradient = ours(shape, x)
    np.testing.assert_allclose(value, density(shape, x), rtol=1e-9)
    h = 1e-5
    numeric = np.stack([(np.array(density(shape, x + e)) - density(shape, x - e)) / (2 * h) for e in h * np.eye(len(x))], axis=1)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6 * np.abs(numeric).max())


def test_a_singular_omega_has_an_objective_and_a_gradient() -> None:
    """The variance of KE at 0, where the gradient along its factor vanishes."""
    shape = shape_of("diagonal")
    x = start(shape)
    x[-2] = 0.0
    value, gradient = ours(shape, x)
    np.testing.assert_allclose(value, density(shape, x), rtol=1e-9)
    np.testing.assert_allclose(gradient[:, -2], 0.0, atol=1e-9)
    assert np.isfinite(gradient).all()


SCRIPT = """
from gemello.engine.lanes import use_cpu_devices
use_cpu_devices(2)
import numpy as np
from gemello.inference.population import fit
from gemello.model import registry
from gemello.model.schedule import Schedule, Subject
rng = np.random.default_rng(0)
model = registry.get("pk1_iv")
t = np.linspace(1.0, 40.0, 20)
subjects = []
for i in range(64):
    cl, v = np.array([5.0, 50.0]) * np.exp(0.3 * rng.standard_normal(2))
    c = 500.0 / v * np.exp(-cl / v * t) * (1.0 + 0.1 * rng.standard_normal(20))
    subjects.append(Subject(str(i), Schedule().dose(0.0, 500.0).observe(t, c)))
print(fit(model, subjects, "fo").converged)
"""


def test_many_records_on_two_devices() -> None:
    """In a process of its own, because devices are chosen once. Batched LAPACK calls on two CPU devices once hung for ever."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.stdout == "True\n", done.stderr
