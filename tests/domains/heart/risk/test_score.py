"""Scores and verdicts, on a cell whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.domains.heart.risk.common import CONTROL, drug, paced

from gemello.base.errors import DataError, SolverError
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.drugs.drug import Effects
from gemello.domains.heart.drugs.vintage import empty
from gemello.domains.heart.risk import score
from gemello.domains.heart.risk.assess import assess


def _run(*drugs: object, **options: object) -> list[score.Scored]:
    return score.run(list(drugs), model=cipa, pacer=paced, **options)  # type: ignore[arg-type]


def test_the_score_is_the_mean_over_doses() -> None:
    """Occupancy at m Cmax is m/(m + 10) for EC50 = 10 Cmax."""
    (found,) = _run(drug(samples=0))
    m = np.arange(1, 5)
    left = lambda ic50: 1 / (1 + 100.0 * m / ic50)  # noqa: E731
    wanted = CONTROL - 0.04 * m / (m + 10) + 0.02 * (1 - left(1e5)) + 0.01 * (1 - left(2e5))
    np.testing.assert_allclose(found.qnet[0], wanted, rtol=1e-12)
    np.testing.assert_allclose(found.scores, [wanted.mean()], rtol=1e-12)


def test_every_lane_is_its_own_drug_sample_and_dose() -> None:
    """A row of a run of many equals the run of that drug and sample alone, whatever the chunks."""
    first, second = drug("one", 300.0), drug("two", 3000.0)
    many = _run(first, second, samples=7, seed=2, chunk=5)
    for whole, d in zip(many, (first, second), strict=True):
        assert whole.qnet.shape == (8, 4)
        assert d.samples is not None
        for k, row in enumerate(whole.picked):
            one = {c: type(b)(*(v[row] for v in b)) for c, b in d.samples.block.items()}
            binding = type(d.point.binding)(*(v[row] for v in d.samples.binding))  # type: ignore[misc, union-attr]
            (alone,) = _run(replace(d, point=Effects(one, binding), samples=None))
            np.testing.assert_allclose(whole.qnet[k + 1], alone.qnet[0], rtol=1e-12)


def test_samples_are_drawn_by_seed_without_replacement() -> None:
    d = drug()
    a, b, c = (_run(d, samples=50, seed=s)[0].picked for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert len(set(a)) == 50
    assert len(_run(d, samples=9999)[0].picked) == 500  # all there are


def test_a_drug_beside_another_draws_the_same() -> None:
    d, other = drug(), drug("other")
    alone, beside = _run(d, samples=20)[0], _run(other, d, samples=20)[1]
    np.testing.assert_array_equal(alone.qnet, beside.qnet)


@pytest.mark.parametrize(("value", "risk"), [(0.0535, 2), (0.0536, 1), (0.06, 1), (0.0682999, 1), (0.0683, 0), (0.09, 0)])
def test_classes_by_the_thresholds(value: float, risk: int) -> None:
    """high < 0.0536 <= intermediate < 0.0683 <= low (FDA, lab-2020)."""
    thresholds = empty("lab2020").thresholds
    assert thresholds is not None
    assert score.classes_of(value, thresholds) == risk
    with pytest.raises(DataError, match="not a number"):
        score.classes_of([value, np.nan], thresholds)


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="no drug"):
        _run()
    with pytest.raises(DataError, match="doses"):
        _run(drug(), doses=(-1.0,))
    with pytest.raises(DataError, match="samples"):
        _run(drug(), samples=-1)


# ---- verdicts ------------------------------------------------------------------------------------------------------
def test_a_verdict_counts_its_samples() -> None:
    v = empty("lab2020")
    (found,) = _run(drug(ec50=500.0, spread=0.6), samples=400, seed=3)
    r = assess(found, v)
    drawn = found.scores[1:]
    assert v.thresholds is not None
    assert r.shares is not None
    assert r.low is not None
    assert r.high is not None
    assert r.median is not None
    by_hand = [np.mean(drawn >= 0.0683), np.mean((drawn < 0.0683) & (drawn >= 0.0536)), np.mean(drawn < 0.0536)]
    np.testing.assert_allclose([s.value for s in r.shares], by_hand)
    assert r.risk == int(np.argmax(by_hand))
    assert r.low.value == pytest.approx(np.quantile(drawn, 0.025, method="hazen"), rel=1e-9)
    assert r.high.value == pytest.approx(np.quantile(drawn, 0.975, method="hazen"), rel=1e-9)
    assert r.settled is False
    assert any("not settled" in w for w in r.warnings)


def test_the_monte_carlo_error_is_that_of_repeated_runs() -> None:
    """60 disjoint or nearly disjoint choices of 40 of 4,000 samples: the spread of the class probability over choices is the
    error that each states, within 35 % (the standard deviation of 60 values has a relative error of 9 %: false alarm 1e-3)."""
    d, v = drug(ec50=500.0, spread=0.6, samples=4000), empty("lab2020")
    found = [assess(_run(d, samples=40, seed=s)[0], v).probabilities for s in range(60)]
    high = np.array([[f[2].value, f[2].error] for f in found if f is not None])
    assert high[:, 0].std(ddof=1) == pytest.approx(high[:, 1].mean(), rel=0.35)


def test_without_samples_the_best_values_speak_and_it_says_so() -> None:
    r = assess(_run(drug(samples=0))[0], empty("lab2020"))
    assert (r.shares, r.median, r.settled, r.samples) == (None, None, None, 0)
    assert r.risk == r.point_risk
    assert r.probabilities is not None
    assert sum(p.value for p in r.probabilities) == pytest.approx(1.0)
    assert any("no samples" in w for w in r.warnings)


def test_static_herg_and_arrhythmias_are_told() -> None:
    d = drug(ec50=1.0)
    r = assess(_run(d, samples=20)[0], empty("lab2020"))
    assert [x.ead for x in r.doses] == [True] * 4
    assert any("early afterdepolarisations at 1, 2, 3, 4" in w for w in r.warnings)
    assert any("no repolarisation" in w for w in r.warnings)
    static = replace(d, point=d.point._replace(binding=None), samples=None)
    assert any("dynamic binding" in w for w in assess(_run(static)[0], empty("lab2020")).warnings)


def test_a_lane_that_fails_is_left_out_and_counted() -> None:
    def failing(model: object, parameters: object) -> dict[str, object]:
        out = paced(model, parameters)  # type: ignore[arg-type]
        if len(out["failed"]) > 4:  # the samples, which follow the best values
            out["failed"][10] = True  # the first of ten at the second dose
            out["qnet"][10] = np.nan
        return out

    (found,) = score.run([drug()], samples=10, model=cipa, pacer=failing)
    r = assess(found, empty("lab2020"))
    assert (r.samples, r.failed) == (9, 1)
    assert any("could not be solved" in w for w in r.warnings)


def test_best_values_that_fail_are_an_error() -> None:
    def failing(model: object, parameters: object) -> dict[str, object]:
        out = paced(model, parameters)  # type: ignore[arg-type]
        out["failed"][2] = True
        return out

    with pytest.raises(SolverError, match="made-up at 3 x Cmax"):
        assess(score.run([drug()], model=cipa, pacer=failing)[0], empty("lab2020"))


def test_vintages_are_not_mixed() -> None:
    (found,) = _run(drug(samples=0))
    with pytest.raises(DataError, match="belongs to vintage lab2020"):
        assess(found, empty("validation2018"))
    with pytest.raises(DataError, match="thresholds"):
        assess(found, empty("master2017"))
