"""Pacing and steady states: against SciPy's LSODA, against 1,000 beats, and against themselves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gemello.base.errors import ModelError
from gemello.domains.heart import pacing
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.cells.ten_tusscher.model import epi
from gemello.domains.heart.cells.torord.model import mid
from gemello.domains.heart.pacing import pace
from gemello.domains.heart.steady import steady
from gemello.engine.lanes import precision

#: Dofetilide as the laboratory of 2020 measured it (FDA): slow to unbind. Cmax 2 nM.
DOFETILIDE = {"Kmax": 35.1, "Ku": 1.816e-5, "n": 1.08, "halfmax": 216.6, "Vhalf": -1.0}


def _tight(cell: Any, period: float) -> tuple[np.ndarray, np.ndarray]:
    """One beat of the published cell by LSODA at 1e-8: time (ms) and potential (mV) on a grid of 1 ms."""
    with precision():
        theta = cell.theta_type(*(jnp.asarray(cell.parameters[n].value) for n in cell.theta_type._fields))
        p = cell.typical(theta, cell.covariate_type())
        y = np.array([float(v) for v in cell.initial(p)])

        @jax.jit
        def f(y: Any, s: Any) -> Any:
            return jnp.stack([jnp.asarray(v) for v in cell.rates(0.0, cell.state_type(*y), p, s).derivative])

        amplitude, duration = cell.stimulus
        first = solve_ivp(lambda t, y: np.asarray(f(y, amplitude)), (0, duration), y, method="LSODA", rtol=1e-8, atol=1e-11)
        grid = np.arange(np.ceil(duration), period + 1)
        rest = solve_ivp(lambda t, y: np.asarray(f(y, 0.0)), (duration, period), first.y[:, -1], method="LSODA", rtol=1e-8,
                         atol=1e-11, t_eval=grid, max_step=5.0)  # fmt: skip
    return grid, rest.y[cell.state_type._fields.index(cell.voltage)]


def test_a_beat_is_that_of_lsoda() -> None:
    """0.5 mV anywhere after the upstroke (2 ms) at the default tolerance, 0.1 mV at 1e-4."""
    grid, reference = _tight(epi, 600.0)
    for tolerance, allowed in ((1e-3, 0.5), (1e-4, 0.1)):
        trace = pace(epi, cycle_length=600.0, trace=1.0, tolerance=tolerance).trace
        assert trace is not None
        ours = np.interp(grid, trace.time, trace.voltage[0])
        late = grid >= 3.0
        assert np.abs(ours - reference)[late].max() < allowed


def test_steady_is_a_thousand_beats() -> None:
    """The CiPA cell at CL 2000: 1e-5 C/F without a drug; with one that has not bound in full after 1,000 beats 5e-5, half of what
    FDA's figures are held to. APD90 0.1 ms."""
    drug = {n: np.full(2, v) for n, v in DOFETILIDE.items()} | {"D": np.array([0.0, 2.0])}
    fast = steady(cipa, drug, cycle_length=2000.0)
    slow = pace(cipa, drug, cycle_length=2000.0, beats=1000)
    assert np.all(np.abs(fast.biomarkers["qnet"] - slow.biomarkers["qnet"]) < [1e-5, 5e-5])
    assert np.abs(fast.biomarkers["apd90"] - slow.biomarkers["apd90"]).max() < 0.1
    bound = lambda r: r.state.IObound + r.state.Obound + r.state.Cbound  # noqa: E731
    assert bound(fast)[1] == pytest.approx(bound(slow)[1], rel=2e-3)


def test_steady_is_reached_by_a_cell_with_other_conductances() -> None:
    """ten Tusscher with half of IKr and twice the ICaL, against 1,500 beats: 0.1 ms and 0.02 mM of sodium."""
    scaled = {"GKr": (1.0, 0.5), "GCaL": (1.0, 1.3)}
    values = {n: [epi.parameters[n].value * x for x in by] for n, by in scaled.items()}
    fast, slow = steady(epi, values), pace(epi, values, beats=1500)
    assert np.abs(fast.biomarkers["apd90"] - slow.biomarkers["apd90"]).max() < 0.1
    assert np.abs(fast.state.Nai - slow.state.Nai).max() < 0.02


def test_a_lane_is_the_same_alone_and_among_others() -> None:
    many = np.linspace(0.5, 2.0, 70) * epi.parameters["GKr"].value
    together = pace(epi, {"GKr": many}, beats=2)
    alone = pace(epi, {"GKr": many[41:42]}, beats=2)
    for name in ("apd90", "peak", "cat_amplitude"):
        assert together.biomarkers[name][41] == pytest.approx(alone.biomarkers[name][0], rel=1e-10)
    again = pace(epi, {"GKr": many}, beats=2)
    assert all(np.array_equal(a, b) for a, b in zip(together.state, again.state, strict=True))


def test_tolerance_and_precision_cost_what_is_said() -> None:
    """APD90 of the default tolerance within 0.1 ms of a tight run, single precision within 0.2 ms."""
    values = {"GKr": np.linspace(0.6, 1.6, 8) * epi.parameters["GKr"].value}
    tight = pace(epi, values, beats=2, tolerance=2e-5).biomarkers["apd90"]
    assert np.abs(pace(epi, values, beats=2).biomarkers["apd90"] - tight).max() < 0.1
    assert np.abs(pace(epi, values, beats=2, dtype="float32").biomarkers["apd90"] - tight).max() < 0.2


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ({"GXX": 1.0}, {}, "GXX"),
        ({"GKr": -1.0}, {}, "GKr = -1"),
        ({"GKr": np.nan}, {}, "GKr = nan"),
        ({"GKr": [0.1, 0.2], "GKs": [0.1, 0.2, 0.3]}, {}, "one number of cells"),
        ({}, {"cycle_length": 10.0}, "cycle length"),
        ({}, {"cycle_length": float("nan")}, "cycle length"),
        ({}, {"beats": 0}, "beats"),
        ({}, {"tolerance": 0.0}, "tolerance"),
        ({}, {"dtype": "float16"}, "float16"),
    ],
)
def test_impossible_input_is_refused(values: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        pace(epi, values, **options)


def test_a_cell_that_cannot_go_on_is_marked_and_the_others_go_on() -> None:
    state = [np.array([float(v[0])] * 2) for v in pace(epi, beats=1).state]
    state[0][1] = np.nan
    both = pace(epi, state=tuple(state))
    assert both.failed.tolist() == [False, True]
    assert np.isfinite(both.biomarkers["apd90"][0])
    assert np.isnan(both.biomarkers["apd90"][1])


def test_afterdepolarisations_of_every_other_beat_are_seen_whichever_beat_is_the_last() -> None:
    """The mid cell with a fifth of IKr, at 1 Hz: an early afterdepolarisation every other beat, seen one beat at a time too."""
    few = {"GKr": mid.parameters["GKr"].value * np.array([1.0, 0.2])}
    at = pace(mid, few, beats=36)
    alone = []
    for _ in range(2):
        at = pace(mid, few, beats=1, state=at.state)
        alone.append(at.biomarkers["ead"])
    assert np.array(alone).sum(0).tolist() == [0.0, 1.0]
    for beats in (39, 40):
        assert pace(mid, few, beats=beats).biomarkers["ead"].tolist() == [0.0, 1.0]


def test_a_beat_that_starts_on_the_plateau_has_no_duration() -> None:
    """Stimulated 200 ms after the last one, the cell is above −40 mV: it did not repolarise, whatever level it falls to later."""
    found = pace(epi, cycle_length=np.array([200.0, 1000.0]), beats=2).biomarkers
    assert found["rest"][0] > -40.0 > found["rest"][1]
    assert list(found["repolarised"]) == [0.0, 1.0]
    assert list(np.isnan(found["apd90"])) == [True, False]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beats": 0}, "whole number of at least 1"),
        ({"beats": 1.5}, "whole number of at least 1"),
        ({"beats": float("nan")}, "whole number of at least 1"),
        ({"parameters": {"GNa": "x"}}, "GNa is 'x'"),
        ({"parameters": {"GNa": []}}, "GNa is"),
        ({"parameters": {"GNa": np.ones((2, 2))}}, "GNa is"),
        ({"parameters": {"GNa": np.inf}}, "GNa = inf"),
        ({"parameters": {"GNa": [75.0, 75.0]}, "cycle_length": [500.0, 600.0, 700.0]}, "2 and 3 cells"),
        ({"cycle_length": []}, "cycle length is"),
        ({"cycle_length": float("nan")}, "cycle length .*nan.*at least 50 ms"),
        ({"tolerance": float("nan")}, "tolerance nan"),
    ],
)
def test_impossible_arguments_are_refused(options: dict[str, Any], told: str) -> None:
    for way in (pace, steady):
        with pytest.raises(ModelError, match=told):
            way(cipa, **options)


@pytest.mark.parametrize(
    "options", [{"trace": -1.0}, {"trace": float("nan")}, {"trace": 1e-9}, {"block": 0}, {"state": (1.0, 2.0)}, {"state": "abc"}]
)
def test_impossible_traces_blocks_and_states_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="ohara_rudy_cipa: "):
        pace(cipa, **options)


def test_rest_needs_a_change_above_0() -> None:
    for options in ({"close": float("nan")}, {"close": 0.0}, {"most": -1}):
        with pytest.raises(ModelError, match="at rest by"):
            steady(cipa, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cells", "block", "devices"), [(1024, 64, 2), (512, 64, 4), (192, 64, 2), (8, 8, 2)])
def test_lanes_that_only_fill_up_are_shared_among_devices(
    monkeypatch: pytest.MonkeyPatch, cells: int, block: int, devices: int
) -> None:
    """Devices take their blocks in one piece: however many of the first lanes are real, no device has two real blocks more than
    another, wherever blocks can be shared out evenly."""
    monkeypatch.setattr(jax, "devices", lambda: [None] * devices)
    order = pacing._dealt(cells, block)
    assert sorted(order) == list(range(cells))
    blocks = cells // block
    if blocks % devices == 0:
        for real in range(0, cells + 1, block):
            each = (order < real).reshape(devices, -1).sum(axis=1)
            assert each.max() - each.min() <= block


def test_cells_come_back_in_their_order_from_several_blocks() -> None:
    factor = np.linspace(0.8, 1.2, 40)
    gkr = {"GKr": epi.parameters["GKr"].value * factor}
    found = pace(epi, gkr, block=8).biomarkers["apd90"]
    assert np.all(np.diff(found) < 0)  # more of IKr, an earlier end
