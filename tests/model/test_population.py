"""Population parameters: from a table, from a fit, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.inference.gaussian import OMEGA, line

from gemello.base.errors import ModelError
from gemello.model.population import PopulationParameters


def test_from_the_table() -> None:
    p = PopulationParameters.of(line)
    assert dict(p.theta) == {"a": 2.0, "b": -0.5}
    assert dict(p.sigma) == {"sd": 0.7}
    np.testing.assert_array_equal(p.omega, OMEGA)
    other = PopulationParameters.of(line, {"a": 3.0, "sd": 0.1}, omega=np.eye(2))
    assert (other.theta["a"], other.sigma["sd"]) == (3.0, 0.1)
    assert other.hash() != p.hash()
    assert PopulationParameters.of(line).hash() == p.hash()


def test_from_a_fit() -> None:
    fit = SimpleNamespace(
        theta={"a": 1.0, "b": 0.5}, omega=np.eye(2), etas=("a", "b"), sigma={"sd": 0.2}, names=("a",), covariance=np.eye(1),
        model="line", method="focei",
    )  # fmt: skip
    p = PopulationParameters.from_fit(fit).check(line)
    assert p.theta["a"] == 1.0
    assert p.estimated == ("a",)
    assert p.source == "fit of line (focei)"
    fit.covariance = np.full((1, 1), np.nan)
    assert PopulationParameters.from_fit(fit).covariance is None
    with pytest.raises(ModelError, match="int has no theta"):
        PopulationParameters.from_fit(3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"theta": {"a": 1.0}}, "theta names a; give a, b"),
        ({"sigma": {}}, "sigma names nothing; give sd"),
        ({"eta_names": ("b", "a")}, "eta_names names b, a; give a, b"),
        ({"theta": {"a": 1000.0, "b": 0.0}}, "value 1000 outside its range"),
        ({"omega": np.eye(3)}, r"OMEGA of shape \(3, 3\).*2 by 2"),
        ({"omega": np.array([[1.0, 0.5], [0.2, 1.0]])}, "symmetric"),
        ({"omega": np.array([[1.0, 2.0], [2.0, 1.0]])}, "not positive definite"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        replace(PopulationParameters.of(line), **change).check(line)  # type: ignore[arg-type]
