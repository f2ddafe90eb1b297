"""FDA's durations on the 1 ms grid, from action potentials whose crossings are known."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.domains.heart.risk.solver import grid_duration


def test_the_first_point_at_or_below_the_level_counts_from_the_left_of_the_steepest_interval() -> None:
    """Rest −88 mV, peak 32 mV at 2 ms, then −0.5 mV/ms: 90 % is −76 mV, reached 216 ms after the peak; 50 % is −28 mV, 120 ms.
    The steepest interval begins at 1 ms."""
    t = np.arange(0.0, 500.0)
    v = np.where(t < 2, [-88.0, -60.0, *np.zeros(498)], np.maximum(32.0 - 0.5 * (t - 2), -88.0))
    assert grid_duration(v[None], 0.9)[0] == 2 + 216 - 1
    assert grid_duration(v[None], 0.5)[0] == 2 + 120 - 1
    v[2 + 216] += 1e-9  # just above the level: the next point counts
    assert grid_duration(v[None], 0.9)[0] == 2 + 217 - 1


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_what_does_not_repolarise_has_no_duration(share: float) -> None:
    v = np.concatenate([[-88.0, 30.0], np.full(300, 10.0)])
    assert np.isnan(grid_duration(v[None], share)).all()
