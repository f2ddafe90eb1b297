"""Proportional-odds regression: a textbook's estimates, SciPy on the likelihood written anew, FDA's thresholds and its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from gemello.base.errors import ConvergenceError, DataError
from gemello.base.reference import rows
from gemello.domains.heart.drugs.vintage import empty
from gemello.domains.heart.risk.assess import logit_of
from gemello.domains.heart.risk.logit import OrdinalLogit, fit, leave_one_out, pooled
from gemello.domains.heart.risk.score import classes_of


def test_agrestis_political_ideology() -> None:
    """Agresti 2007, An Introduction to Categorical Data Analysis, 2nd ed., Section 6.2.2: cumulative logit of five classes on
    party, 1991 General Social Survey. There logit P(Y ≤ j) = α_j + β x; with the classes in reverse order it is our P(≥ j).
    The book gives three decimals."""
    democrats, republicans = [80, 81, 171, 41, 55], [30, 46, 148, 84, 99]
    x = np.repeat([1.0, 0.0], 5)
    y = 4 - np.tile(np.arange(5), 2)
    found = fit(x, y, np.array(democrats + republicans, float))
    np.testing.assert_allclose(found.intercepts[::-1], [-2.469, -1.475, 0.237, 1.070], atol=5.1e-4)
    assert found.covariance is not None
    assert found.slope == pytest.approx(0.975, abs=5.1e-4)
    assert np.sqrt(found.covariance[-1, -1]) == pytest.approx(0.129, abs=5.1e-4)


def test_scipy_finds_the_same_maximum() -> None:
    """Nelder-Mead on Σ log P written directly, three classes, scores of the size of qNet. Tolerance 1e-4 relative: the flatness
    of the likelihood at Nelder-Mead's tolerance of 1e-12."""
    random = np.random.default_rng(3)
    x = random.normal(0.06, 0.012, 400)
    p = OrdinalLogit((20.0, 15.7), -292.5).probabilities(x)
    y = (random.uniform(size=400)[:, None] > np.cumsum(p, axis=1)).sum(axis=1)

    def minus(theta: np.ndarray) -> float:
        a, b, slope = theta[0] * 20, theta[1] * 20, theta[2] * 300
        above = np.stack([np.ones(400), expit(a + slope * x), expit(b + slope * x), np.zeros(400)], axis=1)
        share = (above[:, :-1] - above[:, 1:])[np.arange(400), y]
        return float(-np.log(np.maximum(share, 1e-300)).sum())

    best = minimize(minus, [1.0, 0.7, -1.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000})
    found = fit(x, y)
    np.testing.assert_allclose([*found.intercepts, found.slope], best.x * [20, 20, 300], rtol=1e-4)
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-6)


@given(
    st.floats(-30, 30), st.floats(0.5, 12), st.floats(-400, 400).filter(lambda b: abs(b) > 1), st.floats(-0.1, 0.2)
)  # fmt: skip
def test_probabilities_are_a_distribution_and_fall_together(a: float, gap: float, slope: float, x: float) -> None:
    p = OrdinalLogit((a, a - gap), slope).probabilities([x, x + 0.01])
    assert (p >= -1e-15).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    higher, lower = (p[1], p[0]) if slope > 0 else (p[0], p[1])
    assert higher[2] >= lower[2] - 1e-12
    assert higher[0] <= lower[0] + 1e-12


def test_thresholds_are_where_neighbours_are_equally_probable() -> None:
    m = OrdinalLogit((20.01199509307, 15.665426847338), -292.539547635619)
    low, high = m.thresholds()
    p = m.probabilities([low, high])
    assert p[0, 0] == pytest.approx(p[0, 1], rel=1e-9)
    assert p[1, 1] == pytest.approx(p[1, 2], rel=1e-9)
    # closed form of P(0) = P(1): with u = exp(α1 + βx), v = exp(α2 − α1): 1/(1+u) = u/(1+u) − uv/(1+uv)
    v = np.exp(m.intercepts[1] - m.intercepts[0])
    u = 1.0 / (1.0 - 2.0 * v)
    assert low == pytest.approx((np.log(u) - m.intercepts[0]) / m.slope, rel=1e-10)


def test_classes_that_are_never_most_probable_have_no_threshold() -> None:
    assert np.isnan(OrdinalLogit((1.0, 0.9), -1.0).thresholds()).all()


def test_the_vintages_thresholds_are_those_of_its_classifier() -> None:
    """FDA publishes 0.0683 and 0.0536 with intercepts 20.012 and 15.665 and slope −292.54: to four decimals the same."""
    v = empty("lab2020")
    m = logit_of(v)
    assert m is not None
    assert v.thresholds == (round(m.thresholds()[1], 4), round(m.thresholds()[0], 4))
    x = np.linspace(0.03, 0.1, 701)
    apart = m.classify(x) != classes_of(x, v.thresholds)
    assert (np.min(np.abs(x[apart, None] - np.array(v.thresholds)), axis=1) < 1e-4).all() if apart.any() else True


def test_what_separates_the_classes_is_refused() -> None:
    with pytest.raises(ConvergenceError, match="separate"):
        fit([1.0, 1.1, 2.0, 2.1, 3.0, 3.1], [2, 2, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("score", "label", "words"),
    [
        ([1.0, 2.0], [0, 0, 1], "do not fit together"),
        ([1.0, np.nan, 2.0], [0, 1, 2], "not finite"),
        ([1.0, 2.0, 3.0], [0, 2, 2], "class without"),
        ([1.0, 2.0, 3.0], [0, 1, 1.5], "whole number"),
        ([1.0, 1.0, 1.0], [0, 1, 2], "equal"),
    ],
)
def test_impossible_rows_are_refused(score: list[float], label: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit(score, label)


def test_weights_are_counts() -> None:
    x, y, w = np.array([1.0, 2.0, 3.0, 1.5, 2.5]), np.array([0, 1, 0, 1, 1]), np.array([3, 1, 2, 2, 4])
    by_weight = fit(x, y, w)
    by_row = fit(np.repeat(x, w), np.repeat(y, w))
    np.testing.assert_allclose([*by_weight.intercepts, by_weight.slope], [*by_row.intercepts, by_row.slope], rtol=1e-9)


def _drugs(samples: int = 40) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    random = np.random.default_rng(7)
    centres = {"a": 0.075, "b": 0.068, "c": 0.066, "d": 0.070, "e": 0.058, "f": 0.055, "g": 0.050, "h": 0.057}
    classes = {"a": 0, "b": 0, "c": 1, "d": 1, "e": 1, "f": 2, "g": 2, "h": 2}
    return {d: random.normal(c, 0.002, samples) for d, c in centres.items()}, classes


def test_left_out_drugs_are_predicted_by_the_others_alone() -> None:
    """Whatever the left-out drug's scores are, its own model does not move."""
    scores, classes = _drugs()
    found = leave_one_out(scores, classes)
    moved = leave_one_out({**scores, "c": scores["c"] - 0.03}, classes)
    k = found.drugs.index("c")
    assert found.fits[k].slope == moved.fits[k].slope
    assert all(f.slope != m.slope for i, (f, m) in enumerate(zip(found.fits, moved.fits, strict=True)) if i != k)
    np.testing.assert_array_equal(found.probabilities[k], found.fits[k].probabilities(scores["c"]))
    np.testing.assert_allclose(found.errors, [np.mean(abs(p - c)) for p, c in zip(found.predicted, found.classes, strict=True)])


def test_pooling_is_the_regression_on_all_rows() -> None:
    scores, classes = _drugs()
    rows_ = fit(np.concatenate(list(scores.values())), np.repeat([classes[d] for d in scores], 40))
    both = pooled(scores, classes)
    np.testing.assert_allclose([*both.intercepts, both.slope], [*rows_.intercepts, rows_.slope], rtol=1e-9)
    with pytest.raises(DataError, match="different numbers"):
        leave_one_out({**scores, "a": scores["a"][:5]}, classes)


@pytest.mark.parametrize("kind", ["chantest28", "nanion8"])
def test_fdas_errors_follow_from_its_counts(kind: str, shared_data: Path) -> None:
    """What FDA calls error is the mean |most probable − true class|: of training over all samples of all drugs, of leave-one-out
    drug by drug. One sample of bepridil is two classes off, and counts twice. Exact: the files give counts."""
    folder = shared_data / "heart" / "cipa" / "li2019"

    def wrong(name: str) -> dict[str, float]:
        return {
            r["drug"]: sum(int(r[f"predict_{c}"]) * abs(c - int(r["CiPA"])) for c in range(3)) / 2000 for r in rows(folder / name)
        }

    left_out = wrong(f"{kind}_qNetLOOCV_probs.csv")
    for r in rows(folder / f"{kind}_qNetLOOCV_errors.csv"):
        assert left_out[r["drug"]] == pytest.approx(float(r["error"]), abs=1e-12)
    training = wrong(f"{kind}_qNettraining_probs.csv")
    (r,) = rows(folder / f"{kind}_qNettraining_errors.csv")
    assert np.mean(list(training.values())) == pytest.approx(float(r["error"]), abs=1e-12)
