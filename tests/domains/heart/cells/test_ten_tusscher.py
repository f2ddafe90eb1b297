"""ten Tusscher & Panfilov 2006 against the CellML files, evaluated by Myokit in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemello.domains.heart.cells.ten_tusscher.model import LAYERS, endo, epi, mid

pytestmark = pytest.mark.usefixtures("x64")
#: names of the CellML file -> ours, where they are not the same but for upper and lower case
OURS = {"Ca_i": "Cai", "Ca_SR": "CaSR", "Ca_ss": "CaSS", "R_prime": "Rprime", "Na_i": "Nai", "K_i": "Ki"}
CURRENTS = {
    "i_Na": "INa", "i_CaL": "ICaL", "i_to": "Ito", "i_Kr": "IKr", "i_Ks": "IKs", "i_K1": "IK1", "i_NaCa": "INaCa",
    "i_NaK": "INaK", "i_p_Ca": "IpCa", "i_p_K": "IpK", "i_b_Na": "IbNa", "i_b_Ca": "IbCa",
}  # fmt: skip


@pytest.fixture(scope="module", params=["epi", "endo"])
def pair(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Any, Any, list[str]]:
    """Our cell, Myokit's of the same layer without stimulus, and our names of its states in its order."""
    myokit = pytest.importorskip("myokit")
    from myokit.formats.cellml import CellMLImporter

    layer: str = request.param
    file = shared_data / "heart" / "cellmodels" / "chaste_cellml" / f"ten_tusscher_model_2006_{layer}.cellml"
    reference = CellMLImporter().model(str(file))
    reference.get("membrane.stim_amplitude").set_rhs(0)
    names = [OURS.get(q.name(), q.name()) for q in reference.states()]
    assert myokit.__version__
    lower = {n.lower(): n for n in epi.states}
    return {"epi": epi, "endo": endo}[layer], reference, [lower[n.lower()] for n in names]


def plausible(model: Any, number: int, seed: int = 1) -> list[dict[str, float]]:
    """The initial state, then states drawn over the ranges that a beat visits."""
    p = {q.name: q.value for q in model.parameters}
    y0 = model.initial(model.individual_type(**p))._asdict()
    rng, states = np.random.default_rng(seed), [{n: float(v) for n, v in y0.items()}]
    for _ in range(number):
        y = {n: float(rng.uniform(0.0, 1.0)) for n in y0}
        y |= {"V": rng.uniform(-95.0, 55.0), "Nai": rng.uniform(5.0, 15.0), "Ki": rng.uniform(120.0, 145.0)}
        y |= {"Cai": 10 ** rng.uniform(-4.5, -2.5), "CaSR": rng.uniform(0.5, 5.0), "CaSS": 10 ** rng.uniform(-4.0, 0.0)}
        states.append({n: float(v) for n, v in y.items()})
    return states


def ours(model: Any, y: dict[str, float], stimulus: float = 0.0) -> Any:
    p = model.individual_type(**{q.name: q.value for q in model.parameters})
    return model.rates(0.0, model.state_type(**y), p, stimulus)


def test_initial_state_is_the_files(pair: Any) -> None:
    model, reference, names = pair
    y = plausible(model, 0)[0]
    assert [y[n] for n in names] == pytest.approx(reference.initial_values(as_floats=True), rel=1e-12)


def test_derivatives_agree(pair: Any) -> None:
    """Relative 1e-9 of each derivative, or of the largest term that is summed into it where terms cancel."""
    model, reference, names = pair
    for y in plausible(model, 30):
        wanted = reference.evaluate_derivatives(state=[y[n] for n in names])
        got = ours(model, y)
        scale = max(abs(float(i)) for i in got.currents)
        for name, value in zip(names, wanted, strict=True):
            floor = scale if name == "V" else 1e-3 * scale if name in ("Nai", "Ki") else 0.0
            assert float(getattr(got.derivative, name)) == pytest.approx(value, rel=1e-9, abs=1e-12 * floor + 1e-300), (
                name,
                y["V"],
            )


def test_currents_agree(pair: Any) -> None:
    model, reference, names = pair
    by_name = {v.name(): v for v in reference.variables(deep=True)}
    for y in plausible(model, 20, seed=2):
        reference.set_initial_values([y[n] for n in names])
        got = ours(model, y).currents
        for theirs, mine in CURRENTS.items():
            assert float(getattr(got, mine)) == pytest.approx(by_name[theirs].eval(), rel=1e-9), mine


@pytest.mark.parametrize("model", [epi, endo, mid], ids=lambda m: m.name)
def test_relaxation_is_the_diagonal(model: Any) -> None:
    """Gates and Rprime: the exact diagonal of the Jacobian, by central differences (1e-5); the subspace: never positive."""
    for y in plausible(model, 5, seed=3):
        got = ours(model, y)
        for name in model.states:
            slope = float(getattr(got.relaxation, name))
            assert slope <= 0.0
            if name in ("V", "Nai", "Ki", "Cai", "CaSR", "CaSS"):
                continue
            up, down = (float(getattr(ours(model, {**y, name: y[name] + e}).derivative, name)) for e in (1e-3, -1e-3))
            assert slope == pytest.approx((up - down) / 2e-3, rel=1e-5)


def test_calcium_current_is_smooth_at_15_mv() -> None:
    """Where the published form is 0/0: the three currents lie on a line within 1e-6 of the largest."""
    y = {**plausible(epi, 0)[0], "d": 0.5}
    low, middle, high = (float(ours(epi, {**y, "V": 15.0 + e}).currents.ICaL) for e in (-1e-4, 0.0, 1e-4))
    assert middle == pytest.approx(0.5 * (low + high), rel=1e-6)


def test_layers_differ_only_as_published() -> None:
    """Parameters that differ from epi are those of LAYERS, and the stimulus brings charge to V and potassium alone."""
    for layer, model in (("endo", endo), ("mid", mid)):
        changed = {q.name for q in model.parameters if q.value != epi.parameters[q.name].value}
        assert changed == set(LAYERS[layer])
    y = plausible(epi, 0)[0]
    rest, pulse = ours(epi, y).derivative, ours(epi, y, -52.0).derivative
    differ = {n for n in epi.states if float(getattr(rest, n)) != float(getattr(pulse, n))}
    assert differ == {"V", "Ki"}
    assert float(pulse.V - rest.V) == pytest.approx(52.0, rel=1e-12)
