"""Fits of dynamic hERG: known parameters, FDA's recordings, bootstrap, recordings that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.heart.authorities.drugs import recovery
from gemello.domains.heart.drugs import milnes
from gemello.domains.heart.drugs.drug import Binding
from gemello.domains.heart.drugs.vintage import Vintage

TRUTH = Binding(50.0, 0.005, 0.95, 1e5, -90.0)


def blank(doses: list[float], cells: int = 1) -> milnes.Recording:
    """Five sweeps of five points at each dose, in several cells."""
    shape = (len(doses), cells, 5, 5)
    dose, cell, sweep, point = (v.reshape(-1) for v in np.indices(shape))
    return milnes.Recording("made", np.array(doses)[dose], 1 + sweep, 2000.0 * (1 + point), np.ones(dose.size), cell)


def measured(cells: int, spread: float, seed: int) -> milnes.Recording:
    empty = blank([1e3, 1e4, 1e5], cells)
    noise = spread * generator(seed, "cells").standard_normal((3, cells))
    each = noise[np.searchsorted(empty.levels, empty.concentration), empty.cell]
    return replace(empty, fraction=empty.predict(TRUTH)[0] + each)


def test_known_parameters_are_found() -> None:
    for row in recovery():
        assert row["passed"], row


def test_a_recording_of_fda(shared_data: Path) -> None:
    """Ranolazine: their parameters leave an error of 0.011 of the current; ours leave less, and differ little from theirs."""
    heart = shared_data / "heart"
    fda = Vintage.read(heart, "lab2020", samples=False)["ranolazine"].point.binding
    assert fda is not None
    recording = milnes.reference(heart / "cipa" / "milnes_mean_28drugs_200ms.csv", "ranolazine")
    assert (len(recording.time), recording.protocol.step, recording.sweep.max()) == (4 * 495, 100.0, 10)
    assert recording.time.min() == 100.0
    assert recording.time.max() < 10_000.0
    assert recording.rmse(fda) < 0.012
    found = milnes.fit(recording)
    assert found.rmse <= recording.rmse(fda)
    assert found.point.n == pytest.approx(fda.n, abs=0.02)
    assert found.point.kmax / found.point.halfmax == pytest.approx(fda.kmax / fda.halfmax, rel=0.1)
    with pytest.raises(DataError, match="no such drug"):
        milnes.reference(heart / "cipa" / "milnes_mean_28drugs_200ms.csv", "aspirin")


def test_bootstrap_of_cells_covers_the_truth() -> None:
    """Six cells that differ by 0.03: the mean block at 10 uM is the truth to 2.6 standard errors (false alarm 1 in 100)."""
    recording = measured(6, 0.03, 1)
    fitted = milnes.fit(recording, seed=2)
    found = fitted.bootstrap(12)
    assert found.draws is not None
    assert "bootstrap of cells" in found.notes
    at = recording.concentration == 1e4
    curves = recording.predict(found.draws)[:, at].mean(axis=1)
    truth = recording.predict(TRUTH)[0, at].mean()
    assert abs(curves.mean() - truth) < 2.6 * max(curves.std(), 0.03 / np.sqrt(6))
    assert 0.2 * 0.03 / np.sqrt(6) < curves.std() < 3 * 0.03 / np.sqrt(6)
    again = fitted.bootstrap(2).draws
    assert again is not None
    np.testing.assert_array_equal(found.draws.kmax[:2], again.kmax)


def test_cells_are_averaged() -> None:
    recording = measured(3, 0.05, 4)
    mean = recording.averaged()
    assert len(mean.time) == len(recording.time) // 3
    i = 17
    same = (
        (recording.concentration == mean.concentration[i]) & (recording.sweep == mean.sweep[i]) & (recording.time == mean.time[i])
    )
    assert mean.fraction[i] == pytest.approx(recording.fraction[same].mean(), abs=1e-15)
    assert mean.averaged() is mean


def test_bootstrap_of_residuals_says_so() -> None:
    found = milnes.fit(measured(1, 0.02, 3), seed=1).bootstrap(5)
    assert any("cells differ more" in n for n in found.notes)
    assert found.draws is not None
    assert found.draws.ku.std() > 0


def test_what_to_distrust_is_said() -> None:
    empty = blank([10.0, 100.0])
    weak = replace(empty, fraction=empty.predict(TRUTH)[0])
    notes = " ".join(milnes.fit(weak).notes)
    assert "% block: parameters are extrapolated" in notes
    assert "only the ratio" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concentration": np.full(50, -1.0)}, "concentration, value '-1.0'"),
        ({"sweep": np.zeros(50, np.int64)}, "sweep"),
        ({"time": np.full(50, 20_000.0)}, "time"),
        ({"time": np.full(50, np.nan)}, "time"),
        ({"fraction": np.full(50, 90.0)}, "fraction"),
        ({"fraction": np.ones(3)}, "unequal length"),
    ],
)
def test_impossible_recordings(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(blank([10.0, 100.0]), **change)


def test_recordings_that_cannot_be_fitted() -> None:
    with pytest.raises(DataError, match="at 1 concentrations"):
        milnes.fit(blank([10.0]))
    with pytest.raises(DataError, match="grid of 10 ms"):
        milnes.fit(replace(blank([10.0, 100.0]), time=np.full(50, 123.0)))
