"""The penalised Cox regression against R's survival, and its baseline hazard."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.domains.progression.mixed import hazard
from gemello.domains.progression.scoring import concordance, kaplan_meier

# survival::ovarian (26 women, Edmonson et al. 1979): time, death, age, rx
TIME = np.array([59, 115, 156, 421, 431, 448, 464, 475, 477, 563, 638, 744, 769, 770, 803, 855, 1040, 1106, 1129, 1206, 1227, 268,
                 329, 353, 365, 377], float)  # fmt: skip
DEATH = np.array([1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0], bool)
AGE = np.array([72.3315, 74.4932, 66.4658, 53.3644, 50.3397, 56.4301, 56.937, 59.8548, 64.1753, 55.1781, 56.7562, 50.1096,
                59.6301, 57.0521, 39.2712, 43.1233, 38.8932, 44.6, 53.9068, 44.2055, 59.589, 74.5041, 43.137, 63.2192,
                64.4247, 58.3096])  # fmt: skip
RX = np.array([1, 1, 1, 2, 1, 1, 2, 2, 1, 2, 1, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2], float) - 1.0


def test_coefficients_are_those_of_coxph() -> None:
    """coxph(Surv(futime, fustat) ~ age + rx, ovarian): 0.14733, -0.80397, log-likelihood -27.04 (R 4.2.2, survival 3.5-3)."""
    x = np.column_stack([AGE, RX])
    x = x - x.mean(axis=0)
    b = hazard.newton(x, TIME, DEATH, 0.0)
    assert b == pytest.approx([0.14733, -0.80397], abs=2e-5)
    assert hazard.partial(x, TIME, DEATH, b)[0] == pytest.approx(-27.04, abs=5e-3)


def test_gradient_and_hessian_with_ties() -> None:
    rng = np.random.default_rng(0)
    x, time, seen = rng.standard_normal((40, 2)), rng.integers(1, 8, 40).astype(float), rng.random(40) < 0.6
    b = np.array([0.3, -0.2])
    _, gradient, hessian = hazard.partial(x, time, seen, b)
    step = 1e-5 * np.eye(2)
    numeric = [(hazard.partial(x, time, seen, b + s)[0] - hazard.partial(x, time, seen, b - s)[0]) / 2e-5 for s in step]
    assert gradient == pytest.approx(numeric, abs=1e-6)
    second = [(hazard.partial(x, time, seen, b + s)[1] - hazard.partial(x, time, seen, b - s)[1]) / 2e-5 for s in step]
    assert -hessian == pytest.approx(np.array(second), abs=1e-6)


def test_draws_agree_with_the_survival_function() -> None:
    h = hazard.fit(np.column_stack([AGE, RX]), TIME, DEATH, seed=1)
    x = np.column_stack([AGE, RX])[:3]
    drawn = h.draw(x, np.zeros(3), np.random.default_rng(1).uniform(size=(20_000, 3)))
    for t in (300.0, 600.0):
        assert np.mean(drawn > t, axis=0) == pytest.approx(h.survival(x, np.array([t]))[:, 0], abs=0.015)  # 4 errors: 6e-5


def test_concordance_and_kaplan_meier_of_small_sets() -> None:
    """By hand: 4 persons, one censored; three of five usable pairs in order and one tied."""
    time, seen, risk = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, True]), np.array([2.0, 5.0, 2.0, 1.0])
    assert concordance(time, seen, risk) == pytest.approx((1.5 + 1.0) / 4)
    assert kaplan_meier(time, seen, 3.5) == pytest.approx(0.75 * 0.5)
