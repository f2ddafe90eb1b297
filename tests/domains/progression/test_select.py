"""Scores of persons held out, and the choice among generators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.progression import scoring, select
from gemello.domains.progression.authorities import forecasts
from gemello.model.generator import Generator, History, Trajectories, Variable

Array = NDArray[np.float64]


class Normal(Generator):
    """Forecasts a normal distribution about `shift` with SD `spread`, whatever the history."""

    kind: ClassVar[str] = "normal"
    version: ClassVar[str] = "1"
    variables: tuple[Variable, ...] = ()
    time_unit = "day"

    def __init__(self, shift: float = 0.0, spread: float = 1.0) -> None:
        self.shift, self.spread = shift, spread

    @classmethod
    def train(cls, history: History, *, seed: int, **options: Any) -> Self:
        return cls(**options)

    def sample(self, seen: History, times: Array, *, draws: int, seed: int) -> Trajectories:
        y = self.shift + self.spread * generator(seed, "test").standard_normal((draws, len(seen), len(times)))
        return Trajectories(seen.persons, times, {"y": y})

    def expected(self, seen: History, times: Array) -> Mapping[str, Array]:
        return {"y": np.full((len(seen), len(times)), self.shift)}

    def check(self, seen: History) -> Mapping[str, str]:
        return {}

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls()


def noise(n: int = 400) -> History:
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.standard_normal(n), rng.standard_normal(n)])
    group = (rng.random(n) < 0.5).astype(float)
    variables = (Variable("group", "binary", "baseline"), Variable("y"))
    return History(
        variables,
        tuple(map(str, range(n))),
        {"group": group},
        np.repeat(np.arange(n), 2),
        np.tile([0.0, 1.0], n),
        {"y": values.ravel()},
    )


def test_scores_of_a_known_forecast() -> None:
    """A right normal forecast: CRPS 1/sqrt(pi) = 0.5642 within 4 errors (0.08), coverage 90 within 4 errors (0.06), flat PIT."""
    report = scoring.held_out(lambda h, s: Normal(), noise(), folds=4, seed=1)
    s = report.variables["y"]
    assert s.crps == pytest.approx(1 / np.sqrt(np.pi), abs=0.08)
    assert s.coverage == pytest.approx(0.9, abs=0.06)
    assert max(abs(p - 0.1) for p in s.pit) < 0.06
    assert s.n == s.persons == 400
    assert s.locf == pytest.approx(np.sqrt(2), abs=0.3)
    assert set(s.subgroups) == {"group = 0", "group = 1"}


def test_bias_and_overconfidence_are_seen() -> None:
    right, shifted, narrow = (
        scoring.held_out(lambda h, s, g=g: g, noise(), folds=4, seed=1) for g in (Normal(), Normal(0.5), Normal(0.0, 0.3))
    )
    assert shifted.variables["y"].bias == pytest.approx(0.5 + right.variables["y"].bias)
    assert narrow.variables["y"].coverage < 0.5
    assert right.crps < shifted.crps
    assert right.energy < narrow.energy


def test_area_under_the_curve_by_hand() -> None:
    assert scoring.auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == pytest.approx(0.75)
    assert np.isnan(scoring.auc(np.ones(3), np.ones(3, bool)))


def test_the_energy_score_of_one_value_is_the_crps() -> None:
    x = np.random.default_rng(1).standard_normal((4000, 1))
    assert scoring.energy_score(x, np.array([0.3])) == pytest.approx(0.2623, abs=0.03)  # normal CRPS at 0.3 by its closed form


def test_a_later_generator_must_win_clearly() -> None:
    h = noise()
    same = scoring.held_out(lambda h, s: Normal(), h, folds=4, seed=1)
    worse = scoring.held_out(lambda h, s: Normal(1.0), h, folds=4, seed=1)
    assert select._choose({"mixed": same, "neural": same})[0] == "mixed"
    assert select._choose({"mixed": worse, "neural": same})[0] == "neural"
    assert select._choose({"mixed": same, "neural": worse})[0] == "mixed"


def test_small_histories_get_the_simple_generator() -> None:
    found = select.train(noise(24), seed=1)
    assert found.kind == "mixed"
    assert {"latent_time", "neural"} & set(found.left_out) == {"latent_time", "neural"} & set(select.kinds())
    assert select.from_dict(found.generator.to_dict()).kind == "mixed"


def test_the_choice_is_by_score_and_comes_with_a_report() -> None:
    found = select.train(noise(60), seed=1, tried=("mixed", "latent_time"))
    assert found.kind == "mixed"  # nothing to learn from time: the course cannot be clearly better
    assert set(found.reports) | set(found.left_out) == {"mixed", "latent_time"}
    assert found.report is not None
    assert "y" in found.report.as_dict()["variables"]


def test_unknown_kinds_and_too_few_persons() -> None:
    with pytest.raises(DataError, match="no such generator"):
        select.get("magic")
    with pytest.raises(DataError, match="fewer folds"):
        scoring.held_out(lambda h, s: Normal(), noise(6), folds=5)


def test_floors_and_forecasts_of_the_task(shared_data: Path) -> None:
    """Every row of the reference file, and the generator against the linear floor (no tuning sees a held-out person)."""
    for row in forecasts.checks(shared_data / "trial"):
        assert row["passed"], row
