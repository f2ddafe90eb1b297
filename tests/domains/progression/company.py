"""What every generator keeps: a person's draws are the same alone and among others; impossible requests are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.model.generator import Generator, History


def draws_do_not_depend_on_company(g: Generator, seen: History, times: Any) -> None:
    """Five persons alone, and among all, in which they stand in other places."""
    at = np.asarray(times, float)
    every = g.sample(seen, at, draws=8, seed=3)
    for i in np.linspace(0, len(seen) - 1, 5).astype(int):
        alone = g.sample(seen.take(np.array([i])), at, draws=8, seed=3)
        assert alone.persons == (every.persons[i],)
        for name, values in alone.values.items():
            np.testing.assert_allclose(values[:, 0], every.values[name][:, i], rtol=1e-9, atol=1e-12, err_msg=name)
        for name, time in alone.event_time.items():
            np.testing.assert_allclose(time[:, 0], every.event_time[name][:, i], rtol=1e-9, err_msg=name)


def impossible_requests_are_refused(g: Generator, seen: History, times: Any) -> None:
    at = np.asarray(times, float)
    for draws in (0, -1, 10**9, 2.5, True):
        with pytest.raises(DataError, match="not a number of draws"):
            g.sample(seen, at, draws=draws, seed=1)  # type: ignore[arg-type]
    for nothing in ([], [np.nan], [-1.0]):
        with pytest.raises(DataError, match="time"):
            g.sample(seen, np.array(nothing, float), draws=2, seed=1)
