"""`gemello demo trial`: a page that stands alone, the same numbers with the same seed, and a trial that is as it says."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from gemello.trial import demo


def test_demo(tmp_path: Path) -> None:
    told: list[str] = []
    path, lines = demo.run(tmp_path / "demo.html", seed=20, progress=told.append)
    page = path.read_text(encoding="utf-8")
    for words in ("Prognostic score", "Mean course by arm", "held out", "rescue medication", "its scope excludes them"):
        assert words in page
    assert any(line.startswith("score + covariates: ") for line in lines)
    assert not any("refused" in line for line in lines)
    assert len(told) > 4


def test_the_simulated_trial() -> None:
    table = demo.trial(20)
    assert table.equals(demo.trial(20))
    assert not table.equals(demo.trial(21))
    arms = table.unique("id").group_by("arm").len()
    assert abs(arms["len"][0] - arms["len"][1]) <= 8  # blocks of four, and a few lost before the first visit
    assert table.group_by("id", "visit").len()["len"].max() == 1


def test_the_effect_is_what_it_says() -> None:
    """Mean over 40 simulated trials of the plain difference at week 52 (SE about 0.16): false alarm below 1e-4."""
    found = []
    for seed in range(40):
        last = demo.trial(seed).filter(pl.col("visit") == "week 52")
        mean = dict(last.group_by("arm").agg(pl.col("severity").mean()).iter_rows())
        found.append(mean["drug"] - mean["placebo"])
    assert sum(found) / 40 == pytest.approx(demo.EFFECT, abs=4 * 0.16)
