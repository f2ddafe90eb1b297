"""The pharmacology models: declarations that hold together, equations against each other and against published numbers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import minimize

from gemello.base.units import check_unit
from gemello.domains.pharmacology.registry import PHARMACOKINETIC as MODELS
from gemello.model.contract import Model

LINEAR = [n for n in MODELS if not n.startswith(("mm1", "mm2", "tmdd"))]


@pytest.fixture(autouse=True, scope="module")
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def load(name: str) -> Model:
    module, attribute = MODELS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def individual(m: Model, spread: float = 0.0, **cov: float) -> Any:
    """Typical parameters, off by up to `spread` on the log scale, at the reference covariates or these."""
    rng = np.random.default_rng(1)
    theta = m.theta_type(*(m.parameters[n].value * np.exp(spread * rng.uniform(-1, 1)) for n in m.parameters.theta_names))
    at = {c.name: c.reference for c in m.covariates} | cov
    return m.typical(theta, m.covariate_type(**at))


def amounts(m: Model) -> tuple[Any, Any]:
    """A state and rates into the ports."""
    rng = np.random.default_rng(2)
    y = m.state_type(*rng.uniform(1, 100, len(m.states)))
    fed = {q.state for q in m.ports}
    return y, m.state_type(*(rng.uniform(1, 20) if s in fed else 0.0 for s in m.states))


def integrate(m: Model, p: Any, y: Any, r: Any, times: Any) -> np.ndarray:
    f = jax.jit(lambda t, s: jnp.stack(m.derivative(t, m.state_type(*s), p, m.signal_type())) + jnp.asarray(r))
    out = solve_ivp(
        lambda t, s: np.asarray(f(t, s)), (0, times[-1]), np.array(y), method="LSODA", t_eval=times, rtol=1e-10, atol=1e-12
    )
    assert out.success
    return out.y


@pytest.mark.parametrize("name", MODELS)
def test_declarations(name: str) -> None:
    m = load(name)
    assert (m.name, m.version.split(".")[0], m.card.title != "") == (name, "1", True)
    for unit in (m.time_unit, *m.states.values(), *(o.unit for o in m.outputs), *m.individual_units().values()):
        check_unit(unit, name)
    p = individual(m)
    assert p._fields == tuple(m.individual_units())
    for q in m.ports:
        assert q.state in m.states
        assert m.states[q.state] == q.unit
        assert {q.bioavailability, q.lag, q.duration, q.rate} <= set(p._fields)
        assert (getattr(p, q.bioavailability), getattr(p, q.lag), getattr(p, q.duration), getattr(p, q.rate)) == (1, 0, 0, 0)
    assert set(m.parameters.eta_names) <= set(p._fields)
    residuals = {r for o in m.outputs if o.residual for r in (o.residual.additive, o.residual.proportional) if r}
    assert residuals == set(m.parameters.residual_names)
    assert np.linalg.eigvalsh(m.parameters.omega()).min() > 0
    y, _ = amounts(m)
    assert len(m.observe(0.0, y, p, ())) == len(m.outputs)
    assert type(m.derivative(0.0, y, p, ())) is type(y)
    assert type(m.initial(p)) is m.state_type
    for row in m.parameters:
        assert row.source
        assert row.description


@pytest.mark.parametrize("name", LINEAR)
def test_closed_form_matrix_and_derivative_agree(name: str) -> None:
    m = load(name)
    p = individual(m, 0.3)
    y, r = amounts(m)
    a = np.array(m.matrix(p), float)
    np.testing.assert_allclose(a @ np.array(y), np.array(m.derivative(0.0, y, p, ())), rtol=1e-12, atol=1e-12)
    step, n = m.propagator(p), len(y)
    for dt in (0.01, 1.0, 30.0):
        wide = np.zeros((n + 1, n + 1))
        wide[:n, :n], wide[:n, n] = a, r
        want = (expm(wide * dt) @ np.append(np.array(y), 1.0))[:n]
        np.testing.assert_allclose(np.array(step(dt, y, r)), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_balance(name: str) -> None:
    """d(stored)/dt = what the ports bring - outflow, as an identity of the equations."""
    m = load(name)
    p = individual(m, 0.3)
    y, _ = amounts(m)
    rate = jax.jvp(lambda *s: m.balance(0.0, m.state_type(*s), p, ()).stored, tuple(y), tuple(m.derivative(0.0, y, p, ())))[1]
    np.testing.assert_allclose(rate, -m.balance(0.0, y, p, ()).outflow, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in MODELS if "auc" in load(n).states])
def test_auc_is_the_area_under_cp(name: str) -> None:
    m = load(name)
    p = individual(m, 0.3)
    y, _ = amounts(m)
    cp, auc = (m.output_index(o) for o in ("cp", "auc"))
    slope = m.derivative(0.0, y, p, ())
    np.testing.assert_allclose(m.observe(0.0, y, p, ())[cp], slope.auc, rtol=1e-14)
    assert m.observe(0.0, y, p, ())[auc] == y.auc


def test_michaelis_menten_by_its_implicit_solution() -> None:
    """Bolus: KM ln(C0/C) + C0 - C = VM t/V (Gibaldi & Perrier 1982, ch. 7)."""
    m = load("mm1_iv")
    p = individual(m, 0.3)
    times = np.array([0.0, 2.0, 10.0, 30.0])
    c = integrate(m, p, m.state_type(1000.0, 0.0), m.state_type(0.0, 0.0), times)[0] / p.V
    np.testing.assert_allclose(p.KM * np.log(c[0] / c) + c[0] - c, p.VM * times / p.V, rtol=1e-8, atol=1e-8)


def test_target_mediated_starts_at_rest_and_clears_linearly_at_high_dose() -> None:
    m = load("tmdd")
    p = individual(m)
    rest = m.initial(p)
    np.testing.assert_allclose(np.array(m.derivative(0.0, rest, p, ())), 0.0, atol=1e-12)
    assert float(m.observe(0.0, rest, p, ())[1]) == pytest.approx(2.0)
    huge = integrate(m, p, rest._replace(drug=3e7), m.state_type(0.0, 0.0, 0.0), np.array([0.0, 4.0]))
    assert huge[0, 1] / 3e7 == pytest.approx(np.exp(-p.KEL * 4.0), rel=1e-5)


def test_target_mediated_at_steady_state_under_infusion() -> None:
    """All of the target is synthesised, degraded or internalised: ksyn V = kdeg R + kint P, and input = kel A + kint P."""
    m = load("tmdd")
    p = individual(m, 0.3)
    end = integrate(m, p, m.initial(p), m.state_type(5.0, 0.0, 0.0), np.array([0.0, 2000.0]))[:, 1]
    assert p.KDEG * end[1] + p.KINT * end[2] == pytest.approx(p.KSYN * p.V, rel=1e-6)
    assert p.KEL * end[0] + p.KINT * end[2] == pytest.approx(5.0, rel=1e-6)


def vancomycin_map(levels: list[tuple[float, float]], doses: list[tuple[float, float, float]], **cov: float) -> Any:
    """Individual parameters at the mode of the posterior: Nelder-Mead on the textbook objective."""
    m = load("vancomycin_goti2018")
    typical, sd = individual(m, **cov), (3.4, 0.227)
    omega = np.array([0.147, 0.510, 0.282])

    def individuals(eta: np.ndarray) -> Any:
        return typical._replace(CL=typical.CL * np.exp(eta[0]), V1=typical.V1 * np.exp(eta[1]), V2=typical.V2 * np.exp(eta[2]))

    @jax.jit
    def predictions(p: Any) -> Any:
        step = m.propagator(p)
        return jnp.stack([m.observe(0.0, superpose(m, step, doses, t), p, ())[0] for t, _ in levels])

    def objective(eta: np.ndarray) -> float:
        f = np.asarray(predictions(individuals(eta)))
        w = sd[0] + sd[1] * f
        return float(np.sum(((np.array([c for _, c in levels]) - f) / w) ** 2 + 2 * np.log(w)) + np.sum(eta**2 / omega))

    found = minimize(objective, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000})
    assert found.success
    return individuals(found.x)


def superpose(m: Model, step: Any, doses: list[tuple[float, float, float]], t: float) -> Any:
    """State at t after infusions (start, amount, duration): a linear system adds them up."""
    nothing = m.state_type(*(0.0 for _ in m.states))
    total = nothing
    for start, amount, duration in doses:
        if t > start:
            y = step(min(t - start, duration), nothing, nothing._replace(central=amount / duration))
            y = step(max(t - start - duration, 0.0), y, nothing)
            total = m.state_type(*(a + b for a, b in zip(total, y, strict=True)))
    return total


def test_vancomycin_reproduces_published_map_estimates() -> None:
    """posologyr's vignette, patient 02: CL 1.721, Vc 59.78, Vp 41.56."""
    p = vancomycin_map([(12.0, 14.8), (37.5, 22.5)], [(0.0, 1900.0, 1.0), (22.2, 1750.0, 1.0)], CLCREAT=34.0, WT=62.0)
    np.testing.assert_allclose([p.CL, p.V1, p.V2], [1.721, 59.78, 41.56], rtol=1e-3)


def test_vancomycin_reproduces_published_exposures() -> None:
    """posologyr's patient B: AUC 0-24 h 337.90 and 24-48 h 325.31 mg·h/L."""
    doses = [(0.0, 2000.0, 2.0), (24.2, 1000.0, 2.0)]
    p = vancomycin_map([(13.0, 12.0), (48.0, 9.5)], doses, CLCREAT=65.0, WT=70.0)
    m = load("vancomycin_goti2018")
    day, two = (float(superpose(m, m.propagator(p), doses, t).auc) for t in (24.0, 48.0))
    np.testing.assert_allclose([day, two - day], [337.90, 325.31], rtol=1e-3)


def test_vancomycin_covariates() -> None:
    m = load("vancomycin_goti2018")
    p = individual(m, CLCREAT=65.0, WT=70.0, DIAL=0.0)
    assert float(p.CL) == pytest.approx(4.5 * (65 / 120) ** 0.8)
    assert float(p.V1) == pytest.approx(58.4)
    dialysed = individual(m, CLCREAT=65.0, WT=35.0, DIAL=1.0)
    assert float(dialysed.CL / p.CL) == pytest.approx(0.7)
    assert float(dialysed.V1 / p.V1) == pytest.approx(0.25)
    assert m.parameters.omega() == [[0.147, 0, 0], [0, 0.510, 0], [0, 0, 0.282]]


def test_theophylline_first_order_form_is_the_users_guide_equation() -> None:
    m = load("theoph_fo")
    p = individual(m, WT=79.6)
    dose, t = 4.02 * 79.6, 3.5
    y = m.propagator(p)(t, m.state_type(dose, 0.0, 0.0), m.state_type(0.0, 0.0, 0.0))
    want = dose * p.KA * p.KE / (p.CL * (p.KA - p.KE)) * (np.exp(-p.KE * t) - np.exp(-p.KA * t))
    assert float(m.observe(t, y, p, ())[0]) == pytest.approx(want, rel=1e-13)


def test_phenobarbital_apgar_score_changes_the_volume() -> None:
    m = load("pheno")
    low, high = individual(m, WGT=1.5, APGR=4.0), individual(m, WGT=1.5, APGR=5.0)
    assert float(low.V / high.V) == pytest.approx(1.158920)
    assert (float(high.CL), float(high.V)) == pytest.approx((1.5 * 4.69555e-3, 1.5 * 0.984258))
