"""Calibration, sexes, a drug, files: the logic, by a cell that answers at once; one small run of a real cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.domains.heart.populations.cells import measured, pacer

from gemello.base.errors import DataError
from gemello.domains.heart.cells.ten_tusscher.model import endo as tt
from gemello.domains.heart.cells.torord.model import endo, epi
from gemello.domains.heart.drugs.drug import Block, Drug, Effects
from gemello.domains.heart.populations import calibrate, response, sexes, weights
from gemello.domains.heart.populations import measured as measured_module
from gemello.domains.heart.populations.measured import MARKERS
from gemello.domains.heart.populations.population import Population, weighted_mean

BLOCKER = Drug("blocker", 10.0, Effects({"IKr": Block(30.0, 1.0)}, None))


@pytest.fixture(scope="module")
def pooled() -> Population:
    return calibrate.calibrate(endo, measured(), cells=2000, seed=5, weighted=MARKERS, pacer=pacer)


def test_sample_fills_the_range_evenly_and_repeats() -> None:
    one, other = (calibrate.sample(endo, 64, seed, low=0.5, high=2.0) for seed in (1, 2))
    assert set(one) == {endo.conductances[c] for c in calibrate.CURRENTS}
    for name, v in one.items():
        place = np.log2(v / endo.parameters[name].value)  # -1 to 1
        assert np.array_equal(np.sort(np.floor((place + 1) * 32)), np.arange(64))  # one in each of 64 strata
    assert np.array_equal(one["GKr"], calibrate.sample(endo, 64, 1)["GKr"])
    assert not np.array_equal(one["GKr"], other["GKr"])
    assert "GNaL" not in calibrate.sample(tt, 2, 1)  # a model without that current


@pytest.mark.parametrize(("cells", "low", "high"), [(0, 0.5, 2.0), (4, 0.0, 2.0), (4, 2.0, 2.0), (4, 0.5, np.inf)])
def test_impossible_samples_are_refused(cells: int, low: float, high: float) -> None:
    with pytest.raises(DataError):
        calibrate.sample(endo, cells, 0, low=low, high=high)


def test_accepted_lie_in_range_and_follow_the_data(pooled: Population) -> None:
    data = measured()
    assert 0.05 < pooled.acceptance < 1
    assert pooled.weights.sum() == pytest.approx(1.0)
    for m in MARKERS:
        assert pooled.markers[m].min() >= data.markers[m].min()
        assert pooled.markers[m].max() <= data.markers[m].max()
        distance, limit = weights.kolmogorov(pooled.markers[m], pooled.weights, data.markers[m])
        assert distance < 0.12 < limit
    assert pooled.markers["apd90_from_peak"] == pytest.approx(pooled.markers["apd90"] - 10.0)
    mean, error = pooled.mean("apd90_from_peak")
    assert mean == pytest.approx(data.markers["apd90_from_peak"].mean(), abs=3.0)
    assert error == pytest.approx(30 / pooled.effective**0.5, rel=0.3)


def test_by_default_apd90_alone_is_weighted(pooled: Population) -> None:
    data = measured()
    p = calibrate.calibrate(endo, data, cells=2000, seed=5, pacer=pacer)
    assert p.effective > pooled.effective
    assert weights.kolmogorov(p.markers["apd90_from_peak"], p.weights, data.markers["apd90_from_peak"])[0] < 0.12


def test_nothing_accepted_is_said() -> None:
    with pytest.raises(DataError, match="none of 3 cells"):
        calibrate.calibrate(tt, measured(), cells=3, seed=0, low=0.001, high=0.002, pacer=pacer)


def test_women_have_less_outward_current_and_last_longer(pooled: Population) -> None:
    women, men = (sexes.of_sex(pooled, endo, s, pacer=pacer) for s in sexes.SEXES)
    assert women.parameters["GKr"] / men.parameters["GKr"] == pytest.approx(np.full(pooled.cells, 0.79))
    assert women.parameters["GKr"] * men.parameters["GKr"] == pytest.approx(pooled.parameters["GKr"] ** 2)
    assert women.parameters["GpCa"] / men.parameters["GpCa"] == pytest.approx(np.full(pooled.cells, 1.6))
    assert np.log(women.markers["apd90"] / men.markers["apd90"]) == pytest.approx(np.full(pooled.cells, -0.3 * np.log(0.79)))
    assert women.mean("apd90")[0] > men.mean("apd90")[0]
    assert sexes.ratios(epi)["GKr"] == pytest.approx(0.875 / 1.09)
    with pytest.raises(DataError, match="has a sex already"):
        sexes.of_sex(women, endo, "male", pacer=pacer)
    with pytest.raises(DataError, match="another cell"):
        sexes.of_sex(pooled, epi, "male", pacer=pacer)


def test_abnormality_rises_with_dose(pooled: Population) -> None:
    found = response.respond(pooled, BLOCKER, endo, multiples=(3.0, 27.0, 3e3), pacer=pacer)
    control, half, most, all_of_it = found.doses
    assert (control.share, control.abnormal, control.change) == (0.0, 0, 0.0)
    assert control.share_low == 0.0 < control.share_high < 0.05
    left = pooled.parameters["GKr"] / endo.parameters["GKr"].value  # a tenth of IKr is where it turns abnormal
    assert most.abnormal == int(np.sum(left * 0.1 < 0.1))
    assert most.share == pytest.approx(float(pooled.weights @ (left < 1.0)))
    assert most.share_low < most.share < most.share_high
    assert half.concentration == 30.0
    apd = pooled.markers["apd90"]  # half of IKr left
    assert half.change == pytest.approx(weighted_mean(apd * (2**0.3 - 1), pooled.weights)[0])
    assert half.change_low < half.change < half.change_high
    assert all_of_it.share == pytest.approx(1.0)
    assert np.isnan(all_of_it.change)
    with pytest.raises(DataError, match="impossible doses"):
        response.respond(pooled, BLOCKER, endo, multiples=(0.0,), pacer=pacer)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_files_give_it_back(pooled: Population, tmp_path: Path, kind: str) -> None:
    again = Population.load(pooled.save(tmp_path / f"p.{kind}"))
    assert again.provenance == pooled.provenance
    assert (again.sampled, again.sex, again.model) == (2000, "pooled", "torord_endo")
    assert np.array_equal(again.weights, pooled.weights)
    for mine, theirs in ((pooled.parameters, again.parameters), (pooled.markers, again.markers), (pooled.state, again.state)):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[n], theirs[n]) for n in mine)


def test_other_files_are_refused(pooled: Population, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown kind of file"):
        pooled.save(tmp_path / "p.xlsx")
    with pytest.raises(DataError, match="no such file"):
        Population.load(tmp_path / "none.csv")
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    (tmp_path / "p.csv.json").write_text("{}")
    with pytest.raises(DataError, match="not a population"):
        Population.load(tmp_path / "p.csv")


def test_the_58_are_read(shared_data: Path) -> None:
    data = measured_module.read(shared_data / "heart")
    assert data.traces == 58
    assert np.median(data.markers["apd90_from_peak"]) == pytest.approx(267.0, abs=0.1)
    assert data.quantiles["median"][np.argmin(np.abs(data.time))] > measured_module.UPSTROKE
    with pytest.raises(DataError, match="no measured"):
        measured_module.read(shared_data / "none")


def test_a_real_cell(shared_data: Path) -> None:
    """Eight candidates of ten Tusscher 2006 near the published cell: accepted by peak or not as their markers say."""
    from gemello.domains.heart.pacing import pace

    def quick(model, values, *, state=None, **options):  # type: ignore[no-untyped-def]
        return pace(model, values, cycle_length=1000.0, beats=5, state=state)

    found = calibrate.calibrate(tt, measured_module.read(shared_data / "heart"), cells=8, seed=3, low=0.6, high=1.1, pacer=quick)
    assert 1 <= found.cells <= 8
    assert found.markers["peak"].max() <= 39.374
    assert np.all(np.abs(found.markers["apd90"] - found.markers["apd90_from_peak"]) < 40.0)
