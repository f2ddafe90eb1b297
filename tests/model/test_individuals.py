"""From population parameters, etas and covariates to individual parameters; residual errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gemello.base.errors import DataError, ModelError
from gemello.model.contract import Covariate, Model, Output, Residual
from gemello.model.individuals import bound_arrays, covariate_arrays, individual, residual_sd, spread
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Schedule, Subject

pytestmark = pytest.mark.usefixtures("x64")


class Mixed(Model):
    """One parameter of each distribution; three residual errors."""

    name, version, time_unit = "mixed", "1", "h"
    states = {"a": "mg"}  # noqa: RUF012
    outputs = (
        Output("one", "mg", Residual("add", "prop", "combined1")), Output("two", "mg", Residual("add", "prop", "combined2")),
        Output("log", "mg", Residual("add", form="lognormal")), Output("never", "mg"),
    )  # fmt: skip
    covariates = (Covariate("WT", "kg", 40.0, 100.0, 70.0), Covariate("SEX", "1", 0.0, 1.0, 0.0, categorical=(0.0, 1.0)))
    parameters = ParameterTable((
        Parameter("L", 2.0, "1", distribution="lognormal", variance=0.1),
        Parameter("N", 2.0, "1", distribution="normal", variance=0.1),
        Parameter("G", 0.2, "1", upper=1.0, distribution="logitnormal", variance=0.1), Parameter("fixed", 3.0, "1"),
        Parameter("add", 0.5, "mg", kind="residual"), Parameter("prop", 0.1, "1", kind="residual"),
    ))  # fmt: skip

    def typical(self, theta: Any, cov: Any) -> Any:
        return theta._replace(fixed=theta.fixed * cov.WT / 70.0)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (y.a,) * 4


def test_each_distribution() -> None:
    """Log-normal p exp(η); normal p + η; logit-normal logit p + η."""
    m, eta = Mixed(), np.array([-0.7, 0.0, 1.3])
    p = individual(m, m.theta_type(2.0, 2.0, 0.2, 3.0), (eta, eta, eta), m.covariate_type(35.0, 0.0))
    np.testing.assert_allclose(p.L, 2.0 * np.exp(eta), rtol=1e-14)
    np.testing.assert_allclose(p.N, 2.0 + eta, rtol=1e-14)
    np.testing.assert_allclose(np.log(p.G / (1 - p.G)), np.log(0.25) + eta, rtol=1e-13)
    assert float(p.fixed) == 1.5


def test_the_number_of_etas_must_fit() -> None:
    m = Mixed()
    with pytest.raises(ValueError, match="zip"):
        individual(m, m.theta_type(2.0, 2.0, 0.2, 3.0), (np.zeros(2),), m.covariate_type(70.0, 0.0))


def test_spread_keeps_records_and_widens_lanes() -> None:
    a, b, c = spread((1.0, np.array([1.0, 2.0, 3.0]), np.ones((4, 1))), 3)
    assert (a.shape, b.tolist(), c.shape) == ((3,), [1.0, 2.0, 3.0], (4, 3))


def test_residual_errors() -> None:
    m, f, sigma = Mixed(), np.array([-2.0, 0.0, 10.0]), {"add": 0.5, "prop": 0.1}
    np.testing.assert_allclose(residual_sd(m, 0, f, sigma), [0.7, 0.5, 1.5])
    np.testing.assert_allclose(residual_sd(m, 1, f, sigma), np.sqrt([0.29, 0.25, 1.25]))
    np.testing.assert_allclose(residual_sd(m, 2, f, sigma), [0.5, 0.5, 0.5])
    with pytest.raises(ModelError, match="output never has no residual error"):
        residual_sd(m, 3, f, sigma)


def subject(number: int, weights: list[float], sex: float = 0.0) -> Subject:
    times = np.arange(float(len(weights)))
    return Subject(str(number), Schedule.of(times, {"WT": weights, "SEX": sex}, row=np.arange(len(weights)) + 2))


def test_covariates_that_stay_are_one_value_a_lane() -> None:
    cov, varying = covariate_arrays(Mixed(), [subject(1, [60.0, 60.0]), subject(2, [80.0], 1.0)])
    assert not varying
    assert (cov.WT.tolist(), cov.SEX.tolist()) == ([60.0, 80.0], [0.0, 1.0])


def test_covariates_that_change_are_one_value_a_record() -> None:
    cov, varying = covariate_arrays(Mixed(), [subject(1, [60.0, 61.0, 62.0]), subject(2, [80.0], 1.0)])
    assert varying
    assert cov.WT.tolist() == [[60.0, 80.0], [61.0, 80.0], [62.0, 80.0]]
    assert cov.SEX.tolist() == [[0.0, 1.0]] * 3


@pytest.mark.parametrize(
    ("weights", "sex", "column", "row", "words"),
    [
        ([60.0, -1.0], 0.0, "WT", 3, "give a value between 0 and"), ([60.0, np.nan], 0.0, "WT", 3, "give a value between 0 and"),
        ([60.0, 60.0], 0.5, "SEX", 2, "give a value one of (0.0, 1.0)"),
    ],
)  # fmt: skip
def test_impossible_covariates(weights: list[float], sex: float, column: str, row: int, words: str) -> None:
    with pytest.raises(DataError) as e:
        covariate_arrays(Mixed(), [subject(1, [70.0]), subject(2, weights, sex)])
    assert (e.value.column, e.value.row, words in str(e.value), "subject 2" in str(e.value)) == (column, row, True, True)


def test_a_missing_covariate_is_named() -> None:
    with pytest.raises(DataError, match="column SEX: subject 1: mixed needs this covariate; add the column"):
        covariate_arrays(Mixed(), [Subject("1", Schedule.of([0.0], {"WT": 70.0}))])


def test_bound_columns() -> None:
    bound, varying = bound_arrays(Mixed(), {"L": "WT"}, [subject(1, [60.0, 61.0]), subject(2, [80.0])])
    assert varying
    assert bound["L"].tolist() == [[60.0, 80.0], [61.0, 80.0]]
    with pytest.raises(ModelError, match="bind: mixed has no parameter 'KA'; it has L, N"):
        bound_arrays(Mixed(), {"KA": "WT"}, [subject(1, [60.0])])
    with pytest.raises(DataError, match="column AGE: subject 1: no such column"):
        bound_arrays(Mixed(), {"L": "AGE"}, [subject(1, [60.0])])
