"""`fit`: the truth of simulated data comes back, and what cannot be known, or did not work, is said.

NONMEM's estimates and standard errors are in tests/authorities.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.inference.gaussian import line, observed
from tests.inference.test_likelihood import OMEGA, SIGMA, THETA, Pair, pair, subject

from gemello.base.errors import ConvergenceError, DataError, ModelError, UnsupportedError
from gemello.inference.laplace import MAX_ITERATIONS
from gemello.inference.population import fit, usable
from gemello.inference.result import Fit
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

TRUTH = {**THETA, **SIGMA, "OMEGA(CL,CL)": OMEGA[0, 0], "OMEGA(V,CL)": OMEGA[1, 0], "OMEGA(V,V)": OMEGA[1, 1]}
START = {
    "CL": 8.0,
    "V": 10.0,
    "a": 0.5,
    "b": 0.3,
    "left_a": 1.0,
    "left_b": 0.3,
    "OMEGA(CL,CL)": 0.3,
    "OMEGA(V,V)": 0.3,
    "OMEGA(CL,V)": 0.0,
}
TIMES = np.array([0.5, 2.0, 4.0, 8.0, 12.0, 16.0])


@cache
def population(n: int, seed: int, variances: tuple[float, float] | None = None) -> tuple[Subject, ...]:
    """n subjects of `pair`, each with six concentrations and four amounts."""
    rng = np.random.default_rng(seed)
    omega = OMEGA if variances is None else np.diag(variances)
    out = []
    for i in range(n):
        eta = rng.multivariate_normal(np.zeros(2), omega)
        weight = rng.uniform(50.0, 100.0)
        cl, v = THETA["CL"] * weight / 70.0 * np.exp(eta[0]), THETA["V"] * np.exp(eta[1])
        left = 100.0 * np.exp(-cl / v * TIMES)
        cp = left / v + np.hypot(SIGMA["a"], SIGMA["b"] * left / v) * rng.standard_normal(6)
        amount = (left + (SIGMA["left_a"] + SIGMA["left_b"] * left) * rng.standard_normal(6))[:4]
        s = Schedule().dose(0.0, 100.0).observe(TIMES, cp).observe(TIMES[:4], amount, output=1).covariates(WT=weight)
        out.append(Subject(str(i + 1), s))
    return tuple(out)


@cache
def found() -> Fit:
    trace: list[tuple[int, float]] = []
    out = fit(pair, population(60, 5), start=START, report=lambda i, v, e: trace.append((i, v)))
    assert [v for _, v in trace] == list(out.trace)
    assert [i for i, _ in trace] == list(range(1, len(trace) + 1))
    return out


def test_the_truth_comes_back() -> None:
    """9 estimates within 3 standard errors: by chance alone one in 40 data sets would fail (9 × 0.27 %); the seed is fixed.

    The standard errors must not be so wide that anything passes.
    """
    f = found().check()
    assert list(f.names) == [*THETA, *SIGMA, "OMEGA(CL,CL)", "OMEGA(V,CL)", "OMEGA(V,V)"]
    for name, true in TRUTH.items():
        assert abs(f.estimates[name] - true) < 3.0 * f.se[name], name
    assert max(f.se[n] / THETA[n] for n in THETA) < 0.08
    assert f.covariance_type == "sandwich"
    assert (f.observations, len(f.ids)) == (600, 60)
    assert f.message == "converged"


def test_the_objective_falls_and_the_parts_add_up() -> None:
    f = found()
    assert list(f.trace) == sorted(f.trace, reverse=True)
    assert f.individual_objective.sum() == pytest.approx(f.objective, rel=1e-10)
    assert f.omega[0, 1] == f.omega[1, 0] == f.estimates["OMEGA(V,CL)"]
    sd = np.std(f.individual, axis=0) / np.sqrt(np.diag(f.omega))
    assert list(f.shrinkage.values()) == pytest.approx(list(1.0 - sd))


def test_a_fit_is_a_population_and_plain_json() -> None:
    f = found()
    p = PopulationParameters.from_fit(f)
    p.check(pair)
    assert p.estimated == f.names
    said = json.loads(json.dumps(f.to_dict(), allow_nan=False))
    assert said["theta"] == f.theta
    assert said["omega"] == {"etas": ["CL", "V"], "matrix": f.omega.tolist()}
    assert said["estimates"]["CL"] == {"estimate": f.estimates["CL"], "se": f.se["CL"]}
    assert [s["id"] for s in said["subjects"]] == list(f.ids)
    assert said["provenance"]["model"] == "pair"
    assert said["provenance"]["data_hash"]


@pytest.mark.parametrize(
    "far", [{"CL": 80.0, "V": 2.0}, {"CL": 0.05, "V": 1000.0}, {"OMEGA(CL,CL)": 4.0, "OMEGA(V,V)": 1e-3, "b": 2.0}]
)
def test_far_starts_reach_the_same_optimum(far: dict[str, float]) -> None:
    again = fit(pair, population(60, 5), start=START | far).check()
    assert again.objective == pytest.approx(found().objective, abs=1e-3)


def test_omega_may_be_given_another_shape() -> None:
    """The table's covariance is that of a full OMEGA here; without it the objective is higher."""
    subjects = population(60, 5)
    full, blocks = (fit(pair, subjects, start=START, omega=o) for o in ("full", [["V", "CL"]]))
    assert full.objective == pytest.approx(found().objective, abs=1e-6)
    assert blocks.names[-3:] == ("OMEGA(V,V)", "OMEGA(CL,V)", "OMEGA(CL,CL)")
    assert blocks.objective == pytest.approx(full.objective, abs=1e-4)
    assert blocks.estimates["OMEGA(CL,V)"] == pytest.approx(full.estimates["OMEGA(V,CL)"], rel=1e-3)
    diagonal = fit(pair, subjects, start=START, omega="diagonal").check()
    assert diagonal.objective > full.objective + 0.5
    assert diagonal.omega[0, 1] == 0.0


def test_what_is_held_stays() -> None:
    f = fit(pair, population(60, 5), start=START | {"left_a": 3.0}, estimate=["CL", "V", "a", "b", "left_b"]).check()
    assert "left_a" not in f.estimates
    assert f.sigma["left_a"] == 3.0
    assert f.objective >= found().objective - 1e-6


def test_a_variance_at_its_boundary() -> None:
    """Nobody's V differs: its variance goes to 0, which is said, without a standard error, and the others keep theirs."""
    f = fit(pair, population(30, 8, (0.1, 0.0)), start=START, omega="diagonal").check()
    assert f.omega[1, 1] < 0.01
    if "boundary" in f.message:
        assert f.message == "converged; at the boundary, 0: OMEGA(V,V)"
        assert np.isnan(f.se["OMEGA(V,V)"])
    assert all(np.isfinite(v) for n, v in f.se.items() if n != "OMEGA(V,V)")
    json.dumps(f.to_dict(), allow_nan=False)


class Product(Pair):
    """`pair` with V twice: only the product of V and `scale` can be seen."""

    name = "product"
    parameters = ParameterTable((*pair.parameters.rows, Parameter("scale", 1.0, "1")), dict(pair.parameters.covariances))
    individuals = {"CL": "L/h", "V": "L"}  # noqa: RUF012

    def typical(self, theta: Any, cov: Any) -> Any:
        return self.individual_type(theta.CL * cov.WT / 70.0, theta.V * theta.scale)


def test_parameters_that_the_data_do_not_tell_apart() -> None:
    f = fit(Product(), population(60, 5)[:20], start=START)
    assert not f.converged
    assert f.message == "these data do not tell V, scale apart"
    assert all(np.isnan(v) for v in f.se.values())
    assert f.covariance_type == "none"
    assert json.loads(json.dumps(f.to_dict(), allow_nan=False))["estimates"]["V"]["se"] is None
    with pytest.raises(ConvergenceError, match=r"did not converge .*V, scale apart"):
        f.check()
    fixed = fit(Product(), population(60, 5)[:20], start=START, estimate=[*THETA, *SIGMA]).check()
    assert fixed.objective == pytest.approx(f.objective, abs=1e-3)


def test_a_fit_that_is_stopped_says_so() -> None:
    f = fit(pair, population(60, 5), start=START | {"CL": 80.0, "V": 2.0}, max_iterations=1)
    assert not f.converged
    assert f.message.startswith("the objective could still fall by ")
    assert f.objective > found().objective + 1.0
    assert f.iterations <= 1 < MAX_ITERATIONS


def test_subjects_that_cannot_be_used_are_named() -> None:
    some = list(population(60, 5)[:8])
    wrong = Subject("wrong", Schedule.of([0.0, -1.0], value=[np.nan, 1.0]).covariates(WT=70.0))
    silent = Subject("silent", Schedule().dose(0.0, 100.0).observe(1.0).covariates(WT=70.0))
    kept, out = usable([*some, wrong, silent])
    assert kept == some
    assert [i for i, _ in out] == ["wrong", "silent"]
    assert "time" in out[0][1]
    assert out[1][1] == "no measured value"
    f = fit(line, [*LINES, wrong, silent], excluded=[("first", "by the reader")], notes=["a note"])
    assert [i for i, _ in f.excluded] == ["first", "wrong", "silent"]
    assert f.ids == tuple(s.id for s in LINES)
    assert f.to_dict()["excluded"][0] == {"id": "first", "reason": "by the reader"}
    assert f.notes == ("a note",)
    with pytest.raises(DataError, match="no subject with a measured value; silent: no measured value"):
        fit(line, [silent])


LINES = [observed(np.array([0.5, 1.0, 3.0, 6.0]), np.array(v), str(i)) for i, v in enumerate((
    [2.9, 2.2, 1.6, 0.4], [1.0, 0.2, 0.9, -2.0], [3.1, 2.8, 0.1, 1.5], [1.9, 0.5, 1.1, -0.8], [2.2, 2.4, -0.5, -1.9],
))]  # fmt: skip


def test_standard_errors_by_the_hessian_where_subjects_are_few() -> None:
    f = fit(line, LINES, omega="diagonal")
    assert f.covariance_type == "R"
    assert len(f.names) == 5 == len(LINES)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"method": "magic"}, UnsupportedError, "method 'magic': use fo, foce, focei, laplace, saem, imp or bayes"),
    ({"start": {"Q": 1.0}}, ModelError, "no parameter 'Q'"),
    ({"start": {"CL": -1.0}}, ModelError, "CL"),
    ({"start": {"OMEGA(CL,V)": 1.0}}, ModelError, "the start of OMEGA is not positive definite"),
    ({"start": {"OMEGA(CL,Q)": 1.0}}, ModelError, "OMEGA"),
    ({"estimate": ["Q"]}, ModelError, "no parameter 'Q'"),
    ({"omega": [["Q"]]}, ModelError, "omega: Q"),
])  # fmt: skip
def test_what_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        fit(pair, population(60, 5)[:3], **options)


def test_start_values_from_which_nothing_can_be_computed() -> None:
    """All is eliminated long before the first measurement: under a proportional error no value is possible."""

    class Proportional(Pair):
        name = "proportional too"
        outputs = (type(pair.outputs[0])("cp", "mg/L", type(pair.outputs[0].residual)(proportional="b")), *pair.outputs[1:])  # type: ignore[misc]

    who = [subject(np.array([4.1, 2.2]), np.array([1.0, 3.0]), "ada")]
    with pytest.raises(DataError, match="no objective at the start values for 1 of 1 subjects, the first ada; give start values"):
        fit(Proportional(), who, start={"CL": 40_000.0, "V": 1.0}, estimate=["CL"])
