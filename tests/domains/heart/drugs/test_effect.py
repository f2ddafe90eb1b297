"""A drug in a cell: factors against the Hill equation by hand, dynamic hERG kept, lanes in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError, UnsupportedError
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.cells.torord.model import TorOrd
from gemello.domains.heart.drugs.drug import KT, Binding, Block, Drug, Effects
from gemello.domains.heart.drugs.effect import effect, lanes, unblocked
from gemello.domains.heart.drugs.vintage import Vintage

TORORD = TorOrd("endo")
BINDING = Binding(35.1, 1.816e-05, 1.08, 216.6, -1.0)
BOTH = Drug("both", 2.0, Effects({"INa": Block(100.0, 1.0), "IKr": Block(10.0, 2.0)}, BINDING))
STATIC = Drug("static", 2.0, Effects({"ICaL": Block(100.0, 1.5), "IKr": Block(10.0, 2.0)}, None))


def test_factors_by_hand() -> None:
    found = effect(STATIC, [0.0, 10.0, 100.0], TORORD)
    gkr, pca = (TORORD.parameters[n].value for n in ("GKr", "PCa"))
    np.testing.assert_allclose(found["GKr"], gkr * np.array([1.0, 0.5, 1 / 101]), rtol=1e-14)
    np.testing.assert_allclose(found["PCa"], pca * np.array([1.0, 1 / (1 + 0.1**1.5), 0.5]), rtol=1e-14)
    assert set(found) == {"GKr", "PCa"}


def test_no_overflow_far_from_the_ic50() -> None:
    with np.errstate(all="raise"):
        assert unblocked(Block(1e-6, 20.0), 1e9) >= 0.0
        assert unblocked(Block(1e13, 0.3), 0.0) == 1.0


def test_dynamic_herg_reaches_the_cell() -> None:
    found = effect(BOTH, [0.0, 4.0], cipa)
    assert set(found) == {"GNa", "Kmax", "Ku", "n", "halfmax", "Vhalf", "D"}  # no static block of IKr beside it
    np.testing.assert_array_equal(found["D"], [0.0, 4.0])
    np.testing.assert_array_equal(found["halfmax"], [216.6, 216.6])
    assert cipa.parameters["Kt"].value == KT


def test_dynamic_herg_is_never_dropped_silently() -> None:
    with pytest.raises(UnsupportedError, match=r'no dynamic hERG, which both binds to.*herg="static"'):
        effect(BOTH, 2.0, TORORD)
    assert effect(BOTH, 10.0, TORORD, herg="static")["GKr"] == pytest.approx(0.5 * TORORD.parameters["GKr"].value)
    only = Drug("only", 2.0, Effects({}, BINDING))
    with pytest.raises(UnsupportedError, match="give a static IC50"):
        effect(only, 2.0, TORORD)
    with pytest.raises(UnsupportedError, match="no static block"):
        effect(only, 2.0, TORORD, herg="static")
    with pytest.raises(UnsupportedError, match="no dynamic hERG parameters"):
        effect(STATIC, 2.0, cipa, herg="dynamic")
    assert "GKr" in effect(STATIC, 2.0, cipa)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_impossible_concentrations(bad: float) -> None:
    with pytest.raises(DataError, match="not a concentration"):
        effect(STATIC, [1.0, bad], TORORD)
    with pytest.raises(DataError, match="use auto, dynamic or static"):
        effect(STATIC, 1.0, TORORD, herg="none")


def test_block_multiplies_a_population() -> None:
    base = np.array([0.01, 0.02, 0.03])
    found = effect(STATIC, 10.0, TORORD, base={"GKr": base})
    np.testing.assert_allclose(found["GKr"], 0.5 * base, rtol=1e-14)
    assert found["PCa"].shape == (3,)
    with pytest.raises(DataError, match="2 and 3 lanes at once"):
        effect(STATIC, [1.0, 10.0], TORORD, base={"GKr": base})


def test_lanes_of_drugs_doses_and_samples(shared_data: Path) -> None:
    vintage = Vintage.read(shared_data / "heart", "lab2020")
    drugs, multiples = [vintage["dofetilide"], vintage["verapamil"]], (1.0, 4.0)
    row = lanes(drugs, multiples, cipa, samples=3)
    assert row.shape == (2, 2, 3)
    assert all(v.shape == (12,) for v in row.parameters.values())
    np.testing.assert_array_equal(row.concentration.reshape(row.shape)[:, :, 0], [[2.0, 8.0], [81.0, 324.0]])
    at = 1 * 6 + 1 * 3 + 2  # verapamil, 4 Cmax, third sample
    assert (row.drug[at], row.dose[at], row.sample[at]) == (1, 1, 2)
    samples = vintage["verapamil"].samples
    assert samples is not None
    one = effect(vintage["verapamil"], 324.0, cipa, effects=samples.take(2))
    for name, value in one.items():
        assert row.parameters[name][at] == value[0]
    with pytest.raises(DataError, match="2000 joint samples, 3000 asked for"):
        lanes(drugs, multiples, cipa, samples=3000)


def test_lanes_of_unlike_drugs() -> None:
    row = lanes([BOTH, STATIC], [1.0], cipa)
    np.testing.assert_array_equal(row.parameters["D"], [2.0, 0.0])
    assert row.parameters["PCa"][0] == cipa.parameters["PCa"].value
    assert row.parameters["Kmax"][1] == cipa.parameters["Kmax"].value


@pytest.mark.parametrize("concentration", ["x", None, [], [[1.0, 2.0]], 1j, [1.0, -2.0], float("inf")])
def test_what_is_no_concentration_is_refused(concentration: object) -> None:
    drug = Drug("d", 1.0, Effects({"INa": Block(1e4, 1.0)}, None))
    with pytest.raises(DataError, match="drug d"):
        effect(drug, concentration, cipa)  # type: ignore[arg-type]


def test_best_values_are_numbers_and_samples_arrays() -> None:
    one, many = Effects({"INa": Block(1e4, 1.0)}, None), Effects({"INa": Block(np.ones(3), np.ones(3))}, None)
    for point, samples in ((many, None), (one, one)):
        with pytest.raises(DataError, match="the other way round"):
            Drug("d", 1.0, point, samples)
    with pytest.raises(DataError, match="fewer than no samples"):
        lanes([Drug("d", 1.0, one, many)], [1.0], cipa, samples=-1)
