"""ΔAPD90 of human trabeculae: the published ranking from the files, and a cell against its published prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemello.domains.heart.authorities import exvivo
from gemello.domains.heart.cells.ten_tusscher import model as ten_tusscher

#: RMSE (ms) over the 29 rows, by hand from the files
PUBLISHED = {
    "Grandi_Mann_endo": 49.098, "TT06_Mann": 64.931, "TT06_Endo": 65.947, "ORd_Krogh": 65.974, "Grandi_2010_endo": 71.152,
    "ORd_Mann": 72.418, "TT04": 78.924, "Tomek_2020_Endo": 102.533, "ORd_CiPA": 123.182, "Bartolucci_2020": 149.293,
    "ORd_2011_Endo": 165.558,
}  # fmt: skip


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "heart"


def test_published_models_rank_as_their_files_say(folder: Path) -> None:
    order = exvivo.ranking(folder)
    assert [n for n, _ in order] == list(PUBLISHED)
    assert dict(order) == pytest.approx(PUBLISHED, abs=1e-3)


def test_rows_pair_with_predictions(folder: Path) -> None:
    """Without block of calcium, more block of IKr is longer in every model but TT04, whose file holds no change."""
    data = exvivo.tissue(folder)
    dofetilide = [i for i, d in enumerate(data.drug) if d == "Dofetilide"]
    assert len(data.drug) == 29
    assert len(set(data.drug)) == 9
    assert np.all(np.diff(data.delta[dofetilide]) > 0)
    for name, predicted in exvivo.published(folder).items():
        assert predicted.shape == data.delta.shape
        assert np.all(np.diff(predicted[dofetilide]) > 0) or name == "TT04"


def test_place_counts_the_better_ones() -> None:
    others = [("a", 10.0), ("b", 20.0)]
    assert [exvivo.rank(e, others) for e in (5.0, 15.0, 25.0)] == [1, 2, 3]


def test_ten_tusscher_repeats_its_published_prediction(folder: Path) -> None:
    """Seven rows, up to 97 % of IKr and 76 % of ICaL blocked; each within 4 ms, their rms within AGREES."""
    data, rows = exvivo.tissue(folder), [2, 5, 9, 13, 19, 22, 28]
    ours = exvivo.predictions(ten_tusscher.endo, data.ikr[rows], data.ical[rows])
    assert ours == pytest.approx(exvivo.published(folder)["TT06_Endo"][rows], abs=4.0)
    assert exvivo.rmse(ours, exvivo.published(folder)["TT06_Endo"][rows]) < exvivo.AGREES
