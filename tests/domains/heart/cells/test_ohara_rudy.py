"""O'Hara-Rudy 2011 and its CiPA version against the CellML files (Myokit, plain Python) and against the FDA's own output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gemello.base.reference import rows
from gemello.domains.heart.cells.cipa import equations as channel
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.cells.membrane import bernoulli, gate, ghk, ghk_slope, nernst
from gemello.domains.heart.cells.ohara_rudy.model import endo, epi, mid

if os.environ.get("CI", "").lower() in ("", "0", "false"):
    pytest.importorskip("myokit")  # in CI it must be there

pytestmark = pytest.mark.usefixtures("x64")
FILES = {"ohara_rudy_2011_endo": endo, "ohara_rudy_2011_epi": epi, "ohara_rudy_cipa_v1_2017": cipa}
SOTALOL = {
    "Kmax": 96190.0,
    "Ku": 0.02225,
    "n": 0.7513,
    "halfmax": 385600000.0,
    "Vhalf": -51.5,
    "D": 37606.4,
    "Kt": 3.5e-5,
}  # sotalol
DIAGONAL_ESTIMATED = {"v", "nai", "nass", "ki", "kss", "cai", "cass", "cansr", "cajsr", "CaMKt"}


def individual(model: Any, **changes: Any) -> Any:
    values = {q.name: changes.get(q.name, q.value) for q in model.parameters}
    return model.typical(model.theta_type(*(jnp.asarray(values[n], float) for n in model.theta_type._fields)), None)


def plausible(model: Any, number: int, seed: int = 1) -> Any:
    """The initial state, then states over the ranges that a beat visits; one array (number + 1,) for each name."""
    start, rng = model.initial(individual(model))._asdict(), np.random.default_rng(seed)
    ranges = {"v": (-95.0, 50.0), "nai": (5.0, 12.0), "nass": (5.0, 12.0), "ki": (130.0, 150.0), "kss": (130.0, 150.0)}
    ranges |= {"cansr": (0.8, 3.0), "cajsr": (0.3, 3.0), "CaMKt": (0.0, 0.2), "Jrelnp": (0.0, 2.0), "Jrelp": (0.0, 2.0)}

    def drawn(name: str) -> np.ndarray:
        if name in ("cai", "cass"):
            return np.asarray(10.0 ** rng.uniform(-4.3, -2.0, number))
        return rng.uniform(*ranges.get(name, (0.0, 1.0)), number)

    return model.state_type(*(jnp.concatenate([jnp.atleast_1d(v), drawn(n)]) for n, v in start.items()))


@pytest.fixture(scope="module", params=FILES)
def pair(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Any, Any, dict[str, float]]:
    """Our cell, Myokit's without stimulus, and what is changed in both (a drug on hERG in the CiPA cell)."""
    from myokit.formats.cellml import CellMLImporter

    file = shared_data / "heart" / "cellmodels" / "chaste_cellml" / f"{request.param}.cellml"
    reference = CellMLImporter().model(str(file))
    reference.get("membrane.i_Stim_Amplitude").set_rhs(0)
    model = FILES[request.param]
    changes = SOTALOL if model is cipa else {}
    for name, value in changes.items():
        reference.get(f"IKr.{name}").set_rhs(value)
    return model, reference, changes


def plain(values: Any, lanes: int) -> dict[str, np.ndarray]:
    return {n: np.broadcast_to(np.asarray(v), lanes) for n, v in values._asdict().items()}


def evaluated(reference: Any, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All quantities of a Myokit model by name, derivatives as "dot(name)", its equations in its order on many states at once."""
    from myokit.formats.python import NumPyExpressionWriter

    writer, known, lanes = NumPyExpressionWriter(), {"numpy": np}, next(iter(states.values())).size
    name = lambda lhs: ("D_" if lhs.is_derivative() else "") + lhs.var().qname().replace(".", "__")  # noqa: E731
    writer.set_lhs_function(name)
    known |= {q.qname().replace(".", "__"): states[q.name()] for q in reference.states()}
    out: dict[str, np.ndarray] = {}
    for equation in (e for component in reference.solvable_order().values() for e in component):
        value = np.broadcast_to(np.asarray(eval(writer.ex(equation.rhs), known)), lanes)  # the file is our reference
        known[name(equation.lhs)] = value
        own = equation.lhs.var().name()
        out[f"dot({own})" if equation.lhs.is_derivative() else own] = value
    return out


def test_derivatives_and_currents_agree(pair: Any) -> None:
    """Derivatives: relative 1e-9, or 1e-12 of the largest term where terms cancel. Currents: relative 1e-9, and INaCa and INaK,
    differences of large rates, within 1e-9 uA/uF too."""
    model, reference, changes = pair
    y = plausible(model, 30)
    rates = model.rates(0.0, y, individual(model, **changes), 0.0)
    at, got, relaxation, currents = (plain(v, 31) for v in (y, *rates[:3]))
    wanted = evaluated(reference, at)
    assert {q.name() for q in reference.states()} == set(model.states)
    largest = np.max([np.abs(i) for i in currents.values()], axis=0)
    for name, value in got.items():
        term = largest if name in ("v", "nai", "ki") else 300.0 if name in channel.CHANNEL else np.abs(relaxation[name])
        reference_value = wanted[f"dot({name})"]
        assert np.all(np.abs(value - reference_value) <= 1e-9 * np.abs(reference_value) + 1e-12 * term), name
    for name, value in currents.items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-9, atol=1e-9 if name.startswith("INa") else 0.0, err_msg=name)


def test_evaluator_is_myokits(pair: Any) -> None:
    """The quick evaluation above is Myokit's own at the initial state (relative 1e-10)."""
    model, reference, _ = pair
    at = plain(plausible(model, 0), 1)
    names = [q.name() for q in reference.states()]
    own = reference.evaluate_derivatives(state=[float(at[n][0]) for n in names])
    quick = evaluated(reference, at)
    assert [quick[f"dot({n})"][0] for n in names] == pytest.approx(own, rel=1e-10, abs=1e-18)


def test_initial_states_are_the_published(shared_data: Path) -> None:
    """CiPA: the FDA's file at 2,000 ms, without its last entry D, a parameter here; 2011: the start of the CellML file."""
    text = (shared_data / "heart" / "cipa" / "model" / "newordherg_states_CL2000.txt").read_text().split()
    wanted = {n: float(v) for n, v in zip(text[::2], text[1::2], strict=True)}
    got = {n: float(v) for n, v in cipa.initial(individual(cipa))._asdict().items()}
    assert wanted.pop("D") == 0.0
    assert got == wanted
    from myokit.formats.cellml import CellMLImporter

    file = shared_data / "heart" / "cellmodels" / "chaste_cellml" / "ohara_rudy_2011_endo.cellml"
    start = {q.name(): q.initial_value(as_float=True) for q in CellMLImporter().model(str(file)).states()}
    for model in (endo, epi, mid):
        assert {n: float(v) for n, v in model.initial(individual(model))._asdict().items()} == start


def test_channel_parameters_are_the_published(shared_data: Path) -> None:
    """The FDA's file; conductances are base over factor (SOURCES.md), to the digits that the factors have."""
    text = (shared_data / "heart" / "cipa" / "model" / "newordherg_pars.txt").read_text().split()
    theirs = {("Temp" if n == "T" else n): float(v) for n, v in zip(text[::2], text[1::2], strict=True)}
    shared = [n for n in theirs if n in cipa.parameters]
    assert len(shared) == 14 * 3 + 8  # A, B and q of 14 rates; Kmax, Ku, n, halfmax, Kt, Vhalf, Temp, ko
    assert {n: cipa.parameters[n].value for n in shared} == {n: theirs[n] for n in shared}
    scales = {"GNa": 1.0, "Gto": 1.0, "GKr": 1.114 / 1.1, "GNaL": 2.661, "GKs": 1.870, "GK1": 1.698, "PCa": 1.007}
    for q in endo.parameters:
        assert cipa.parameters[q.name].value == pytest.approx(q.value * scales.get(q.name, 1.0), rel=1e-12), q.name


def beat(model: Any, start: dict[str, float], **changes: float) -> tuple[np.ndarray, float]:
    """Potential on the 1 ms grid of one beat of 2,000 ms from `start`, and qNet in C/F, by LSODA (rtol 1e-7)."""
    p, state = individual(model, **changes), model.state_type

    def slope(x: Any, stimulus: Any, p: Any) -> Any:
        r = model.rates(0.0, state(*x[:-1]), p, stimulus)
        return jnp.stack([*r.derivative, sum(getattr(r.currents, n) for n in model.net)])

    f, jacobian = _SLOPES.setdefault(model.name, (jax.jit(slope), jax.jit(jax.jacfwd(slope))))
    x, grid, out = np.array([*(start[n] for n in model.states), 0.0]), np.arange(1.0, 2001.0), []
    for span, stimulus, at in (((0.0, 0.5), -80.0, [0.5]), ((0.5, 2000.0), 0.0, grid)):
        solved = solve_ivp(
            lambda t, x, s=stimulus: np.asarray(f(x, s, p)), span, x, "LSODA", at,
            jac=lambda t, x, s=stimulus: np.asarray(jacobian(x, s, p)), rtol=1e-7, atol=1e-9,
        )  # fmt: skip
        x, out = solved.y[:, -1], solved.y[0]
    return np.concatenate([[start["v"]], out]), float(x[-1]) / 1000.0


_SLOPES: dict[str, Any] = {}


def apd90(v: np.ndarray) -> int:
    """FDA's convention on the 1 ms grid (SOURCES.md)."""
    peak = int(v.argmax())
    limit = v[: peak + 1].min() + 0.1 * (v.max() - v[: peak + 1].min())
    return peak + int(np.argmax(v[peak:] <= limit)) - int(np.argmax(np.diff(v)))


def test_a_beat_is_the_fdas(shared_data: Path) -> None:
    """One beat from the FDA's states at the beat it reports: qNet within 5e-7 C/F, APD90 to the ms, the peak within 0.001 mV."""
    folder = shared_data / "heart" / "cipa"
    start = {n: float(v) for n, v in cipa.initial(individual(cipa))._asdict().items()}
    v, qnet = beat(cipa, start)
    assert qnet == pytest.approx(0.069672, abs=5e-7)
    assert apd90(v) == 290
    hill = rows(folder / "hill_manual_28" / "sotalol_IC50_optimal_lab2020.csv")[0]
    binding = next(r for r in rows(folder / "herg_dynamic_28_lab2020.csv") if r["drug"] == "sotalol")
    states, reported = rows(folder / "fixed_sotalol_states_max_dv.csv"), rows(folder / "fixed_sotalol_metrics.csv")
    for k in (0, 2, 5):
        at = {n: float(s) for n, s in states[k].items()}
        drug = {n: float(binding[n]) for n in ("Kmax", "Ku", "n", "halfmax", "Vhalf")} | {"D": at["D"]}
        for name, current in (("GNa", "INa"), ("GNaL", "INaL"), ("PCa", "ICaL")):
            block = 1.0 + (at["D"] / float(hill[f"{current}_IC50"])) ** float(hill[f"{current}_h"])
            drug[name] = cipa.parameters[name].value / block
        v, qnet = beat(cipa, at, **drug)
        assert qnet == pytest.approx(float(reported[k]["qNet"]) / 1000.0, abs=5e-7), k
        assert apd90(v) == float(reported[k]["APD90"])
        assert v.max() == pytest.approx(float(reported[k]["vmax"]), abs=1e-3)


@pytest.mark.parametrize("model", [endo, mid, cipa], ids=lambda m: m.name)
def test_relaxation_is_the_diagonal(model: Any) -> None:
    """Gates, release and channel move linearly in themselves, so a difference over 0.5 is the diagonal of the Jacobian (relative
    1e-10, or 1e-12/ms); every other rate is never positive. One lane for each state and each name that is moved."""
    states, names = 13, [n for n in model.states if n not in DIAGONAL_ESTIMATED]
    lanes = (len(names) + 1) * states
    wide = model.state_type(*(jnp.tile(v, len(names) + 1) for v in plausible(model, states - 1, seed=3)))
    moved = {n: getattr(wide, n).at[(i + 1) * states : (i + 2) * states].add(0.5) for i, n in enumerate(names)}
    got = model.rates(0.0, wide._replace(**moved), individual(model, **(SOTALOL if model is cipa else {})), 0.0)
    slope, rate = plain(got.derivative, lanes), plain(got.relaxation, lanes)
    assert all(np.all(r <= 0.0) for r in rate.values())
    for i, name in enumerate(names):
        diagonal = (slope[name][(i + 1) * states : (i + 2) * states] - slope[name][:states]) / 0.5
        np.testing.assert_allclose(rate[name][:states], diagonal, rtol=1e-10, atol=1e-12, err_msg=name)


def test_stiff_estimates_are_near_the_diagonal() -> None:
    """At the published state, where nothing grows: v, cass, cajsr, nass and kss within 10 % of the diagonal."""
    p = individual(cipa)
    y = cipa.initial(p)
    rates = cipa.rates(0.0, y, p, 0.0).relaxation
    for name in ("v", "cass", "cajsr", "nass", "kss"):
        one = lambda x, name=name: getattr(cipa.rates(0.0, y._replace(**{name: x}), p, 0.0).derivative, name)  # noqa: E731
        assert float(getattr(rates, name)) == pytest.approx(float(jax.grad(one)(getattr(y, name))), rel=0.1), name


def test_channel_matrix_is_its_derivative_and_keeps_channels() -> None:
    """M x is the derivative of the nine states (1e-12 of the largest rate); each column sums to 0."""
    y, p = plausible(cipa, 12, seed=4), individual(cipa, **SOTALOL)
    got = cipa.rates(0.0, y, p, 0.0)
    assert cipa.coupled == (channel.CHANNEL,)
    (rows_,) = got.coupled
    m = np.array([[np.broadcast_to(v, 13) for v in row] for row in rows_])
    x = np.array([getattr(y, n) for n in channel.CHANNEL])
    np.testing.assert_allclose(np.einsum("ijk,jk->ik", m, x), [getattr(got.derivative, n) for n in channel.CHANNEL], atol=3e-10)
    np.testing.assert_allclose(m.sum(axis=0), 0.0, atol=3e-10)


def test_stimulus_is_carried_by_potassium() -> None:
    p = individual(cipa)
    y = cipa.initial(p)
    rest, pulse = (cipa.rates(0.0, y, p, s).derivative._asdict() for s in (0.0, -80.0))
    assert {n for n in rest if float(rest[n]) != float(pulse[n])} == {"v", "ki"}
    assert float(pulse["v"] - rest["v"]) == pytest.approx(80.0, rel=1e-12)


def test_mid_differs_as_published() -> None:
    """Text S1: factors of the mid-myocardial cell; epi and endo answer to their CellML files."""
    wanted = {"Gto": 4.0, "PCa": 2.5, "GKr": 0.8, "GK1": 1.3, "Gncx": 1.4, "Pnak": 0.7, "Jrel": 1.7}
    for q in mid.parameters:
        assert q.value == pytest.approx(endo.parameters[q.name].value * wanted.get(q.name, 1.0), rel=1e-12), q.name


def test_no_drug_has_no_effect_and_a_finite_gradient() -> None:
    """D = 0: no binding, and the derivative of the share by D, n and halfmax is a number; D = EC50: half."""
    share = jax.grad(channel.bound_share, argnums=(0, 1, 2))
    assert float(channel.bound_share(0.0, 0.75, 3e8)) == 0.0
    assert all(np.isfinite(g) for g in share(0.0, 0.75, 3e8))
    assert float(channel.bound_share(200.0, 0.75, 200.0**0.75)) == pytest.approx(0.5, rel=1e-12)


def test_series_of_the_channel_holds_within_the_tables_bounds() -> None:
    """At 150 mV and the largest slope that the table allows, 1e-14; every other rate takes a whole exponential."""
    for s in ("1", "11", "31", "52"):
        row = cipa.parameters[f"B{s}"]
        for x in (row.lower * 150.0, row.upper * 150.0):
            assert float(channel.small_exp(x)) == pytest.approx(np.exp(x), rel=1e-14)


def test_membrane_helpers() -> None:
    """Against expm1 and closed forms, at and around 0 mV: 3e-15 in float64, 1e-5 in float32."""
    x = np.concatenate([np.linspace(-8.0, 8.0, 401), [0.0, 1e-9, -1e-9, 1e-5, -1e-5, 0.05, -0.05, 0.0499999]])
    wanted = np.where(x == 0.0, 1.0, x / np.where(x == 0.0, 1.0, np.expm1(x)))
    np.testing.assert_allclose(bernoulli(jnp.asarray(x), jnp.exp(x)), wanted, rtol=1e-14)
    single = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(bernoulli(single, jnp.exp(single)), wanted, rtol=1e-5)
    flux = lambda x: ghk(x, jnp.exp(x), 10.0, 140.0)  # noqa: E731
    slopes = jax.vmap(jax.grad(flux))(jnp.asarray(x))
    assert float(flux(0.0)) == pytest.approx(10.0 - 140.0, rel=1e-14)
    assert np.max(np.abs(slopes - ghk_slope(jnp.exp(x), 10.0, 140.0))) < 0.1 * 140.0 + 0.1 * 10.0
    assert float(flux(nernst(1.0, 140.0, 10.0))) == pytest.approx(0.0, abs=1e-12)
    assert [float(v) for v in gate(0.8, 4.0, 0.2)] == pytest.approx([0.15, -0.25])
