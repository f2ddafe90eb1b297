"""Model averaging against evidences and mixtures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.inference.gaussian import OMEGA, SD, A, B, Line, exact, line, observed

from gemello.base.errors import DataError, ModelError
from gemello.model.contract import Output, Residual
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule
from gemello.twin.goals import Target
from gemello.twin.mixture import Mixture, average
from gemello.twin.regimens import Grid
from gemello.twin.twin import Twin

TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.6, 2.0, 0.3])
SHIFT = 0.6


class Higher(Line):
    """The same line, from a centre that lies SHIFT higher."""

    name = "higher"


class InGrams(Line):
    name = "grams"
    outputs = (Output("level", "g", Residual(additive="sd")), Output("area", "mg"))


HIGHER = Higher()
MOVED = PopulationParameters.of(HIGHER, {"a": A + SHIFT})
DATA = observed(TIMES, VALUES).schedule


def evidences(times: np.ndarray = TIMES, values: np.ndarray = VALUES) -> np.ndarray:
    x = np.stack([np.ones_like(times), times], axis=1)
    marginal = x @ OMEGA @ x.T + SD**2 * np.eye(len(times))
    return np.array([stats.multivariate_normal(A + shift + B * times, marginal).logpdf(values) for shift in (0.0, SHIFT)])


@pytest.fixture(scope="module")
def twins() -> list[Twin]:
    return [
        Twin.new(line, covariates={"WT": 70.0}).assimilate(DATA, draws=4000),
        Twin.new(HIGHER, MOVED, covariates={"WT": 70.0}).assimilate(DATA, draws=4000),
    ]


@pytest.mark.parametrize("prior", [None, (0.9, 0.1), (3.0, 1.0)])
def test_probabilities_of_models(twins: list[Twin], prior: tuple[float, float] | None) -> None:
    """Prior × evidence, normalised; evidences are Monte Carlo estimates with errors near 1 %."""
    m = average(twins, prior)
    w = np.array(prior or (0.5, 0.5)) * np.exp(evidences())
    np.testing.assert_allclose(m.probabilities, w / w.sum(), atol=0.01)
    assert sum(m.probabilities) == pytest.approx(1.0)
    assert m.names == ("line", "higher")


def test_a_forecast_of_the_mixture(twins: list[Twin]) -> None:
    """Mean and variance by the laws of total expectation and variance, from the exact posteriors of both models."""
    m = average(twins)
    f = m.forecast(times=[8.0], outputs="level", seed=3)
    x = np.array([1.0, 8.0])
    mean, covariance, _ = exact(TIMES, VALUES)
    other, _, _ = exact(TIMES, VALUES - SHIFT)
    means = np.array([A + B * 8.0 + x @ mean, A + SHIFT + B * 8.0 + x @ other])
    p = np.exp(evidences()) / np.exp(evidences()).sum()
    centre = p @ means
    between, within = p @ (means - centre) ** 2, x @ covariance @ x
    o = f.mixture["level"].prediction
    w = f.mixture.weights
    assert w.sum() == pytest.approx(1.0)
    got = float(w @ o.draws[:, 0])
    assert got == pytest.approx(centre, abs=4 * np.sqrt((between + within) / 4000))
    assert float(w @ (o.draws[:, 0] - got) ** 2) == pytest.approx(between + within, rel=0.1)
    assert f.between("level")[0] == pytest.approx(between / (between + within), abs=0.02)
    assert "average of 2 models: line 0." in f.mixture.notes[0]
    assert f.mixture.provenance.model == "line + higher"


def test_a_decision_of_the_mixture(twins: list[Twin]) -> None:
    """The probability of each candidate is the average of the models', by their probabilities; each stays visible."""
    m = average(twins)
    goal, grid = Target("level", "at", 10.0, low=1.0, high=4.0), Grid([0.0, 3.0, 5.0, 8.0], [5.0], start=6.0, until=10.0)
    together = m.optimise(goal, grid, least_probability=0.0)
    alone = [t.optimise(goal, grid, least_probability=0.0) for t in twins]
    for a, b, c in zip(together.table, alone[0].table, alone[1].table, strict=True):
        assert a.by_model == pytest.approx((b.probability, c.probability), abs=1e-9)
        assert a.probability == pytest.approx(np.dot(m.probabilities, a.by_model), abs=1e-9)
    assert [n for n, _ in together.models] == ["line", "higher"]
    assert together.frame().columns[-2:] == ["probability_line", "probability_higher"]
    assert together.provenance.model == "line + higher"


def test_new_data_change_the_weights(twins: list[Twin]) -> None:
    m = average(twins).assimilate(Schedule().observe(0.5, 3.5), draws=4000)
    assert isinstance(m, Mixture)
    w = np.exp(evidences(np.append(TIMES, 0.5), np.append(VALUES, 3.5)))
    np.testing.assert_allclose(m.probabilities, w / w.sum(), atol=0.015)


def test_changed_covariates_reach_the_models_that_have_them(twins: list[Twin]) -> None:
    goal, grid = Target("level", "at", 9.0, high=9.0), Grid([1.0], [2.0], start=6.0)
    changed = average(twins).optimise(goal, grid, least_probability=0.0, covariates={"WT": 60.0})
    assert changed.assumed == ("WT 60 from the first new dose on",)
    with pytest.raises(DataError, match="none of the models has such a covariate"):
        average(twins).optimise(goal, grid, covariates={"WTT": 60.0})


def test_what_cannot_be_compared_is_refused(twins: list[Twin]) -> None:
    new = Twin.new(HIGHER, MOVED, covariates={"WT": 70.0})
    grams = Twin.new(InGrams(), covariates={"WT": 70.0}).assimilate(DATA, draws=200)
    flat = new.assimilate(DATA, draws=200, prior_weight=0.5)
    other = Twin.new(HIGHER, MOVED, covariates={"WT": 70.0}, id="2").assimilate(DATA, draws=200)
    for second, words in (
        (new, "have seen different measurements"),
        (grams, "level in mg and in g"),
        (flat, "weighted differently"),
        (other, "of different subjects"),
        (twins[0], "a model that is given twice"),
    ):
        with pytest.raises(DataError, match=words):
            average([twins[0], second])
    for weights in ((1.0,), (0.0, 0.0), (-1.0, 2.0)):
        with pytest.raises(DataError, match="impossible weights"):
            average(twins, weights)
    with pytest.raises(DataError, match="no twins"):
        average([])
    assert average(twins, (1.0, 0.0)).names == ("line",)
    with pytest.raises(ModelError, match="no output"):
        average(twins).optimise(Target("cp", "at", 10.0, low=1.0), Grid([1.0], [5.0], start=6.0))
