"""The vector that an optimiser moves: round trips, names, transforms, blocks of OMEGA, and what is refused."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.gaussian import line
from tests.inference.test_likelihood import Pair, pair

from gemello.base.errors import ModelError
from gemello.engine.lanes import precision
from gemello.inference.layout import Layout, layout, omega_blocks
from gemello.model.parameters import Parameter, ParameterTable


class Kinds(Pair):
    """One parameter for each transform, three etas, a constant, a residual parameter that is held."""

    name = "kinds"
    parameters = ParameterTable(
        (
            Parameter("CL", 4.0, "L/h", distribution="lognormal", variance=0.1),
            Parameter("V", 20.0, "L", distribution="lognormal", variance=0.2),
            Parameter("share", 0.3, "1", 0.0, 1.0, distribution="logitnormal", variance=0.3),
            Parameter("slope", -0.4, "1", -np.inf, np.inf),
            Parameter("gas", 8.3, "1", kind="constant"),
            Parameter("a", 0.2, "mg/L", kind="residual"), Parameter("b", 0.15, "1", kind="residual", estimate=False),
        ),
        {("CL", "share"): 0.05},
    )  # fmt: skip


kinds = Kinds()
VALUES = {r.name: r.value for r in kinds.parameters}
OMEGA = np.array([[0.1, 0.02, 0.05], [0.02, 0.2, 0.01], [0.05, 0.01, 0.3]])


def natural(shape: Layout, x: Any) -> dict[str, float]:
    with precision():
        return dict(zip(shape.names, map(float, shape.natural(jax.numpy.asarray(x))), strict=True))


def test_names_are_those_of_the_estimates_in_order() -> None:
    shape = layout(kinds, {}, omega="full")
    pairs = ["CL,CL", "V,CL", "V,V", "share,CL", "share,V", "share,share"]
    assert list(shape.names) == ["CL", "V", "share", "slope", "a", *(f"OMEGA({p})" for p in pairs)]
    assert len(shape) == len(shape.names) == 11
    assert [e.transform for e in (*shape.thetas, *shape.sigmas)] == ["log", "log", "logit", "linear", "log"]


@pytest.mark.parametrize("log_diagonal", [True, False])
def test_start_and_back(log_diagonal: bool) -> None:
    shape = layout(kinds, {}, omega="full", log_diagonal=log_diagonal)
    got = natural(shape, shape.start(VALUES, VALUES, OMEGA))
    want = {n: VALUES[n] for n in ("CL", "V", "share", "slope", "a")}
    want |= {
        f"OMEGA({kinds.parameters.eta_names[i]},{kinds.parameters.eta_names[j]})": OMEGA[i, j]
        for i in range(3)
        for j in range(i + 1)
    }
    assert got.keys() == want.keys()
    for name, v in want.items():
        assert got[name] == pytest.approx(v, rel=1e-7)


@given(st.lists(st.floats(-4.0, 4.0), min_size=11, max_size=11))
def test_any_x_is_a_population(x: list[float]) -> None:
    """OMEGA is a covariance, parameters stay within their ranges, and natural values lead back to x."""
    shape = layout(kinds, {}, omega="full")
    with precision():
        pop = jax.tree.map(np.asarray, shape.population(np.array(x)))
    assert np.linalg.eigvalsh(pop.omega).min() > 0
    np.testing.assert_array_equal(pop.omega, pop.omega.T)
    assert pop.theta["CL"] > 0
    assert 0 < pop.theta["share"] < 1
    assert pop.sigma["a"] > 0
    again = shape.start({k: float(v) for k, v in pop.theta.items()}, {k: float(v) for k, v in pop.sigma.items()}, pop.omega)
    np.testing.assert_allclose(natural(shape, again)["slope"], natural(shape, x)["slope"], rtol=1e-12)
    np.testing.assert_allclose(again[:5], x[:5], atol=1e-6)


def test_what_is_not_estimated_is_held() -> None:
    shape = layout(kinds, {"V": 33.0, "b": 0.5}, estimate=["CL", "a"])
    assert shape.names[:2] == ("CL", "a")
    with precision():
        pop = shape.population(np.zeros(len(shape)))
    assert {k: float(v) for k, v in pop.theta.items()} == pytest.approx(
        {"CL": 1.0, "V": 33.0, "share": 0.3, "slope": -0.4, "gas": 8.3}
    )
    assert float(pop.sigma["b"]) == 0.5


def test_blocks() -> None:
    assert omega_blocks(kinds, None) == (("CL", "share"), ("V",))  # what the table says
    assert omega_blocks(kinds, "diagonal") == (("CL",), ("V",), ("share",))
    assert omega_blocks(kinds, "full") == (("CL", "V", "share"),)
    assert omega_blocks(kinds, [["V", "CL"]]) == (("V", "CL"), ("share",))
    assert omega_blocks(pair, None) == (("CL", "V"),)
    shape = layout(kinds, {}, omega=[["V", "CL"]])
    with precision():
        omega = np.asarray(shape.population(np.linspace(-1, 1, len(shape))).omega)
    assert omega[0, 1] != 0
    assert omega[2, 0] == omega[2, 1] == 0


def test_a_factor_without_logarithms_may_be_singular() -> None:
    shape = layout(kinds, {}, omega="diagonal", log_diagonal=False)
    x = shape.start(VALUES, VALUES, OMEGA)
    x[-1] = 0.0
    with precision():
        factor, omega = np.asarray(shape.factor(x)), np.asarray(shape.population(x).omega)
    np.testing.assert_allclose(factor @ factor.T, omega, rtol=1e-14)
    assert omega[2, 2] == 0.0
    assert omega[0, 0] == pytest.approx(0.1, rel=1e-7)


def test_parameters_between_bounds_stay_there() -> None:
    shape = layout(line, {})
    assert [e.transform for e in shape.thetas] == ["logit", "logit"]
    far = np.full(len(shape), 30.0)
    assert natural(shape, far)["a"] <= 100.0
    assert natural(shape, -far)["a"] >= -100.0
    assert np.all(np.isfinite(shape.start({"a": 100.0, "b": -100.0}, {"sd": 1.0}, np.eye(2))))


def changed(**rows: dict[str, Any]) -> Kinds:
    class Other(Kinds):
        name = "other"
        parameters = ParameterTable(tuple(
            Parameter(**{**vars(r), **rows.get(r.name, {})}) for r in kinds.parameters
        ), {})  # fmt: skip

    return Other()


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="omega: Q; name each of CL, V, share at most once"):
        omega_blocks(kinds, [["CL", "Q"]])
    with pytest.raises(ModelError, match="a name twice"):
        omega_blocks(kinds, [["CL", "V"], ["V"]])
    with pytest.raises(ModelError, match="gas: a constant cannot be estimated"):
        layout(kinds, {}, estimate=["CL", "gas"])
    with pytest.raises(ModelError, match="no parameter 'Q'"):
        layout(kinds, {}, estimate=["Q"])
    with pytest.raises(ModelError, match="parameter V: varies between subjects but has variance 0"):
        layout(changed(V={"variance": 0.0}), {})
    with pytest.raises(ModelError, match="parameter a: start 0; a residual error is estimated from a start above 0"):
        layout(kinds, {"a": 0.0})
