"""Statistics of classification: FDA's published table from its counts, closed forms, and scores worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu

from gemello.base.reference import rows
from gemello.domains.heart.risk import performance as pf
from gemello.domains.heart.risk.logit import leave_one_out


def test_published_table_of_8_drugs(shared_data: Path) -> None:
    """FDA's Table7_nanion8_validation: likelihood ratios, medians and 95 % intervals over 2,000 samples, and the mean error with
    its interval, from the leave-one-out counts. The counts do not say which samples go together; no two drugs that matter are
    uncertain in the same class, so a random pairing (seed 1) gives the same to the two digits that the table has."""
    folder = shared_data / "heart" / "cipa" / "li2019"
    table = rows(folder / "nanion8_qNetLOOCV_probs.csv")
    random = np.random.default_rng(1)
    called = np.array([random.permutation(np.repeat([0, 1, 2], [int(r[f"predict_{c}"]) for c in range(3)])) for r in table])
    truth = np.array([int(r["CiPA"]) for r in table])
    published = {1: ((3.0, 2.4, 3.0), (1.5e-6, 1.5e-6, 0.3)), 2: ((6.0, 3.0, 6.0), (1.2e-6, 1.2e-6, 0.6))}
    for j, both in published.items():
        for values, wanted in zip(pf.likelihood_ratios(called >= j, truth >= j), both, strict=True):
            found = pf.across(values)
            np.testing.assert_allclose([found.value, found.low, found.high], wanted, rtol=2e-2)
    error = pf.class_error(called, truth)
    np.testing.assert_allclose([error.value, error.low, error.high], [0.322, 0.315, 0.329], atol=5.1e-4)


def test_auc_is_mann_whitneys() -> None:
    """SciPy's U over the number of pairs, with ties, for each of three samples."""
    random = np.random.default_rng(2)
    x = random.integers(0, 6, (12, 3)).astype(float)
    above = np.arange(12) % 3 == 0
    wanted = [mannwhitneyu(x[~above, s], x[above, s]).statistic / (4 * 8) for s in range(3)]
    np.testing.assert_allclose(pf.auc(x, above), wanted, rtol=1e-12)


def test_concordance_counts_pairs_of_different_classes() -> None:
    """Scores 4 3 2 1 of classes 0 1 1 2: all five pairs are right; with the last two exchanged one of them is wrong."""
    x = np.array([[4.0, 4.0], [3.0, 3.0], [2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(pf.concordance(x, [0, 1, 1, 2]), [1.0, 0.8])


def test_scores_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(pf.brier(p, [0, 0]), [0.09 + 0.04 + 0.01, 2.0])
    np.testing.assert_allclose(pf.ranked(p, [0, 0]), [0.3**2 + 0.1**2, 2.0])
    np.testing.assert_allclose(pf.log_loss(p, [0, 0]), [-np.log(0.7), -np.log(1e-12)])


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 7), (7, 7), (1, 28)])
def test_exact_interval_is_scipys(k: int, n: int) -> None:
    found, wanted = pf.exact(k, n), binomtest(k, n).proportion_ci(0.95, "exact")
    np.testing.assert_allclose([found.low, found.high], [wanted.low, wanted.high], atol=1e-10)


def test_calibration_counts_every_drug_once_at_each_threshold() -> None:
    random = np.random.default_rng(4)
    p = random.dirichlet([1.0, 1.0, 1.0], 28)
    truth = random.integers(0, 3, 28)
    found = pf.calibration(p, truth)
    for j in (1, 2):
        here = [b for b in found if b.threshold == j]
        assert sum(b.drugs for b in here) == 28
        assert sum(b.observed.value * b.drugs for b in here) == pytest.approx(np.sum(truth >= j))
        assert sum(b.predicted * b.drugs for b in here) == pytest.approx(p[:, j:].sum())


def test_everything_together_on_drugs_in_order() -> None:
    """Eight drugs of which one is out of order: AUC and pairs are known by counting."""
    base = np.array([0.08, 0.075, 0.066, 0.062, 0.058, 0.060, 0.045, 0.040])
    classes = [0, 0, 1, 1, 1, 2, 2, 2]
    scores = {f"d{i}": np.full(3, v) + np.array([0.0, 1e-5, 2e-5]) for i, v in enumerate(base)}
    overlapping = {**scores, "d1": scores["d1"] - 0.012}  # below d2: no score separates the classes
    found = pf.performance(leave_one_out(overlapping, {f"d{i}": c for i, c in enumerate(classes)}))
    assert found.auc1.value == pytest.approx(1 - 1 / 12)
    assert found.auc2.value == pytest.approx(1 - 1 / 15)
    assert found.pairwise.value == pytest.approx(1 - 2 / 21)
    assert 0 < found.brier.value < 2
    assert {name for name, _ in found.rows()} >= {"Brier score", "log loss"}
