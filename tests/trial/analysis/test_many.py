"""Many trials at once give what one at a time gives."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis.linear import least_squares
from gemello.trial.analysis.many import ancova_many

RNG = np.random.default_rng(9)
TRIALS, N = 700, 60  # two blocks
Y, ARM = RNG.normal(size=(TRIALS, N)), RNG.permuted(np.tile([0.0, 1.0], (TRIALS, N // 2)), axis=1)
X = RNG.normal(size=(TRIALS, N, 3)) + np.array([0, 1e4, 0])
X[..., 2] = X[..., 0] + 1e-3 * X[..., 2]  # nearly the same column twice


@pytest.mark.parametrize("arm", [ARM, ARM[0]])
@pytest.mark.parametrize("x", [X, X[0], X[..., :1], None])
def test_same_as_one_at_a_time(arm: np.ndarray, x: np.ndarray | None) -> None:
    many = ancova_many(Y, x, arm)
    for i in (0, 1, 698, 699):
        own = np.empty((N, 0)) if x is None else x if x.ndim == 2 else x[i]
        design = np.column_stack([np.ones(N), own, arm if arm.ndim == 1 else arm[i]])
        one = least_squares(design, Y[i], ("",) * design.shape[1])
        assert many.estimates[i] == pytest.approx(one.values[-1], rel=1e-7)
        assert many.se[i] == pytest.approx(np.sqrt(one.covariance("HC3")[-1, -1]), rel=1e-7)
        assert many.se_model[i] == pytest.approx(np.sqrt(one.covariance("model")[-1, -1]), rel=1e-7)
    assert many.df == N - 2 - (0 if x is None else x.shape[-1])


def test_rejection_rate_is_nominal() -> None:
    """20,000 trials: standard error 0.0015, so 0.006 is four of them (false alarm 6e-5)."""
    y = np.random.default_rng(10).normal(size=(20_000, 50))
    many = ancova_many(y, None, np.tile([0.0, 1.0], 25))
    assert many.rejected(model=True) == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize(
    ("y", "x", "arm", "words"),
    [
        (Y[0], None, ARM[0], "y has 1 axes"),
        (Y, X[:, :50], ARM, "do not fit"),
        (Y[:, :4], X[:, :4], ARM[:, :4], "4 subjects for 5 coefficients"),
        (Y, X[..., [0, 0]], ARM, r"trial 1: x\[1\] cannot be told"),
        (Y, None, np.zeros(N), "trial 1: arm cannot be told"),
        (np.where(np.arange(TRIALS)[:, None] == 650, np.nan, Y), None, ARM, "trial 651: no finite standard error"),
        (Y, None, np.eye(N)[3], "trial 1: one subject alone determines a coefficient"),
    ],
)
def test_refused(y: np.ndarray, x: np.ndarray | None, arm: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ancova_many(y, x, arm)
