"""NONMEM's events that no published table covers, against answers worked out by hand for one compartment.

RATE −1 (modelled rate) and −2 (modelled duration), alone, with a lag and a bioavailability, repeated, at a steady state and
into a depot; EVID 2 (a covariate changes and nothing is given); EVID 3 (reset) and 4 (reset and dose), which take away what is
there, what still runs and what is still to come.

With k = CL/V an infusion at rate r over T into the central compartment gives the amount r/k (1 − exp(−k min(t, T)))
exp(−k (t − T)+), t since its start; everything else follows by superposition. Tolerances: 1e-10 of the largest value by closed
form and matrix exponential, 1e-7 by Tsit5 at a relative tolerance of 1e-10. All subjects of a group are solved in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from gemello.model import registry
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

Amount = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # time (h) -> central amount (mg)

CL, V, KA = 1.3, 17.0, 0.9
K = CL / V
AT = np.array([0.2, 0.9, 1.7, 2.6, 3.4, 4.9, 6.3, 8.8, 12.4, 17.5, 26.0, 31.0])  # h; off every change below
METHODS = {"closed": 1e-10, "expm": 1e-10, "tsit5": 1e-7}


# ---- answers -----------------------------------------------------------------------------------------------------------
def infusion(t: ArrayLike, rate: float, length: float, k: float = K) -> NDArray[np.float64]:
    """Amount from an infusion that starts at 0; 0 before."""
    t = np.asarray(t, float)
    return np.asarray(rate / k * -np.expm1(-k * np.clip(t, 0.0, length)) * np.exp(-k * np.maximum(t - length, 0.0)))


def bolus(t: ArrayLike, amount: float, k: float = K) -> NDArray[np.float64]:
    """Amount from a bolus at 0; 0 before."""
    t = np.asarray(t, float)
    return np.where(t >= 0, amount * np.exp(-k * np.maximum(t, 0.0)), 0.0)


def absorbed_infusion(t: ArrayLike, rate: float, length: float) -> NDArray[np.float64]:
    """Central amount from an infusion into the depot that starts at 0: what starts, less what stops at `length`."""

    def on(s: NDArray[np.float64]) -> NDArray[np.float64]:
        s = np.maximum(s, 0.0)
        return rate * (-np.expm1(-K * s) / K - (np.exp(-K * s) - np.exp(-KA * s)) / (KA - K))

    t = np.asarray(t, float)
    return on(t) - on(t - length)


class Case(NamedTuple):
    """A schedule, parameters of the port, the amount that it must give, and from when on the two are compared."""

    schedule: Schedule
    values: dict[str, float]
    amount: Amount
    since: float = -1.0
    volume: Amount = lambda t: np.full_like(t, V)


# ---- RATE -1 and -2 ----------------------------------------------------------------------------------------------------
MODELLED = {  # 60 mg: RATE, parameters, rate that results, its duration
    "rate": (-1.0, {"R1": 20.0}, 20.0, 3.0),
    "rate, which F shortens": (-1.0, {"R1": 20.0, "F1": 0.7}, 20.0, 2.1),
    "duration": (-2.0, {"D1": 4.0}, 15.0, 4.0),
    "duration, which F weakens": (-2.0, {"D1": 4.0, "F1": 0.7}, 10.5, 4.0),
}


def modelled_cases() -> dict[str, Case]:
    """Each alone, after a lag, repeated so that doses overlap, and at a steady state with and without overlap.

    A steady state is as if given for ever before: the sum over the doses of the last 1800 h (exp(−k 1800) < 1e-59).
    """
    out = {}
    for name, (code, values, rate, length) in MODELLED.items():
        shape = lambda t, r=rate, n=length: infusion(t - 0.5, r, n)  # noqa: E731
        once = Schedule().dose(0.5, 60.0, rate=code).observe(AT)
        out[name] = Case(once, values, shape)
        out[f"{name}, after a lag"] = Case(once, {**values, "ALAG1": 0.55}, lambda t, f=shape: f(t - 0.55))
        again = Schedule().dose(0.5, 60.0, rate=code, every=1.5, times=4).observe(AT)
        out[f"{name}, repeated"] = Case(again, values, lambda t, f=shape: sum(f(t - 1.5 * j) for j in range(4)))
        for interval in (4.5, 1.5):
            steady = Schedule().dose(0.5, 60.0, rate=code, every=interval, steady_state=1).observe(AT)
            total = lambda t, f=shape, i=interval: sum(f(t + i * j) for j in range(int(1800 / i)))  # noqa: E731
            out[f"{name}, steady state every {interval} h"] = Case(steady, values, total, since=0.5)
    inside = Schedule().dose(0.5, 60.0, rate=-2).observe(AT).merge(Schedule.of([2.0, 3.0, 20.0], evid=2))
    out["an other event within, which changes nothing"] = Case(inside, {"D1": 4.0}, lambda t: infusion(t - 0.5, 15.0, 4.0))
    for code in (-1.0, -2.0):
        s = _busy().dose(7.0, 60.0, rate=code, reset=True).observe(AT)
        after = lambda t: np.where(t < 7.0, _busy_amount(t), infusion(t - 7.0, 12.0, 5.0))  # noqa: E731
        out[f"reset and dose, RATE {code:g}"] = Case(s, {"R1": 12.0, "D1": 5.0}, after)
    return out


def depot_cases() -> dict[str, Case]:
    """Into the depot: zero-order release and first-order absorption in a row."""
    return {
        name: Case(
            Schedule().dose(0.5, 60.0, rate=code).observe(AT),
            {"KA": KA, **values},
            lambda t, r=rate, n=length: absorbed_infusion(t - 0.5, r, n),
        )
        for name, (code, values, rate, length) in MODELLED.items()
    }


# ---- EVID 2 ------------------------------------------------------------------------------------------------------------
def changing_cases() -> dict[str, Case]:
    """Parameters from data columns. The value of a record holds since the one before, so a change at t is set by a record at t
    that still carries the old value: `Schedule.change` makes that record, an EVID 2."""
    plain = {"CL": CL, "V": V, "R1": 20.0, "D1": 4.0}
    clearance = Schedule().dose(0.5, 60.0).observe(AT).covariates(**plain).change(5.0, CL=3.9).change(15.0, CL=0.4)
    spent = lambda t: (CL * np.clip(t - 0.5, 0, 4.5) + 3.9 * np.clip(t - 5.0, 0, 10.0) + 0.4 * np.maximum(t - 15.0, 0)) / V  # noqa: E731
    meanwhile = Schedule().dose(1.0, 60.0, duration=8.0).dose(2.0, 20.0, every=10.0, times=3).observe(AT)
    meanwhile = meanwhile.covariates(**plain).change(5.0, CL=3.9)
    there = float(infusion(4.0, 7.5, 8.0) + bolus(3.0, 20.0))

    def continued(t: NDArray[np.float64]) -> NDArray[np.float64]:
        k = 3.9 / V
        late = bolus(t - 5.0, there, k) + infusion(t - 5.0, 7.5, 4.0, k) + bolus(t - 12.0, 20.0, k) + bolus(t - 22.0, 20.0, k)
        return np.where(t <= 5.0, infusion(t - 1.0, 7.5, 8.0) + bolus(t - 2.0, 20.0), late)

    volume = Schedule().dose(0.5, 60.0).observe(AT).covariates(**plain).change(5.0, V=34.0)
    lost = lambda t: CL / V * np.clip(t - 0.5, 0, 4.5) + CL / 34.0 * np.maximum(t - 5.0, 0)  # noqa: E731
    own = {"CL": [CL] * 3, "V": [V] * 3, "R1": [20.0, 5.0, 12.0], "D1": [9.0, 2.5, 7.0]}
    differ = Schedule.of([0.5, 6.0, 9.0], own, evid=1, amount=60.0, rate=[-1.0, -2.0, -1.0]).observe(AT)
    three = lambda t: infusion(t - 0.5, 20.0, 3.0) + infusion(t - 6.0, 24.0, 2.5) + infusion(t - 9.0, 12.0, 5.0)  # noqa: E731
    return {
        "clearance": Case(clearance, {}, lambda t: np.where(t < 0.5, 0.0, 60.0 * np.exp(-spent(t)))),
        "clearance, during an infusion and between additional doses": Case(meanwhile, {}, continued),
        "volume, at which the concentration jumps": Case(
            volume, {}, lambda t: np.where(t < 0.5, 0.0, 60.0 * np.exp(-lost(t))), volume=lambda t: np.where(t <= 5.0, V, 34.0)
        ),
        "modelled rate and duration of each dose by its own record": Case(differ, {}, three),
    }


# ---- EVID 3 and 4 ------------------------------------------------------------------------------------------------------
def _busy() -> Schedule:
    """An infusion until 9 h and additional doses until 23 h."""
    return Schedule().dose(1.0, 40.0, duration=8.0).dose(2.0, 10.0, every=3.0, times=8)


def _busy_amount(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return infusion(t - 1.0, 5.0, 8.0) + sum(bolus(t - 2.0 - 3.0 * j, 10.0) for j in range(8))


def _held_back() -> Schedule:
    """The same and a dose just before the reset at 4 h; the dose at 7 h is the first of a new life."""
    return _busy().dose(3.9, 30.0).reset(4.0).dose(7.0, 25.0).observe(AT)


def _until_reset(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(t < 4.0, _busy_amount(t) + bolus(t - 3.9, 30.0), bolus(t - 7.0, 25.0))


def reset_cases() -> dict[str, Case]:
    """No parameter moves an event here. Rows of one time: what stands before the reset sees what is there."""
    order = Schedule.of([0.0, 2.0, 2.0, 2.0, 5.0], evid=[1, 0, 3, 0, 0], amount=[60.0, 0, 0, 0, 0])
    renewed = _busy().dose(7.0, 60.0, reset=True).observe(AT)
    infused = _busy().dose(7.0, 60.0, rate=12.0, reset=True).observe(AT)
    repeated = Schedule().dose(0.5, 60.0).dose(3.0, 20.0, every=4.0, times=3, reset=True).observe(AT)
    three = lambda t: sum(bolus(t - 3.0 - 4.0 * j, 20.0) for j in range(3))  # noqa: E731
    return {
        "reset": Case(_held_back(), {}, _until_reset),
        "reset between records of one time": Case(order, {}, lambda t: np.where(np.arange(len(t)) < 2, bolus(t, 60.0), 0.0)),
        "reset and dose": Case(renewed, {}, lambda t: np.where(t < 7.0, _busy_amount(t), bolus(t - 7.0, 60.0))),
        "reset and infusion": Case(infused, {}, lambda t: np.where(t < 7.0, _busy_amount(t), infusion(t - 7.0, 12.0, 5.0))),
        "reset and dose, repeated": Case(repeated, {}, lambda t: np.where(t < 3.0, bolus(t - 0.5, 60.0), three(t))),
    }


def lagged_reset_cases() -> dict[str, Case]:
    """With a lag of 0.55 h the dose at 3.9 h has not arrived by the reset at 4 h, and never does."""
    late = lambda t: np.where(t < 4.0, _busy_amount(t - 0.55), bolus(t - 7.55, 25.0))  # noqa: E731
    return {"reset, doses lagged": Case(_held_back(), {"ALAG1": 0.55}, late)}


GROUPS: dict[str, tuple[str, Callable[[], dict[str, Case]]]] = {
    "modelled": ("pk1_iv", lambda: modelled_cases() | lagged_reset_cases()),
    "depot": ("pk1_oral", depot_cases),
    "changing": ("pk1_iv", changing_cases),
    "reset": ("pk1_iv", reset_cases),
}


@cache
def concentrations(group: str, method: str) -> dict[str, NDArray[np.float64]]:
    """mg/L at every record of every case of the group."""
    model, make = GROUPS[group]
    cases = make()
    subjects = [Subject(name, c.schedule) for name, c in cases.items()]
    names = {n for c in cases.values() for n in c.values}
    default = {"F1": 1.0, "R1": 20.0, "D1": 4.0}  # of subjects whose case does not say
    values: dict[str, Any] = {n: np.array([c.values.get(n, default.get(n, 0.0)) for c in cases.values()]) for n in names}
    bind = {n: n for n in ("CL", "V", "R1", "D1")} if group == "changing" else {}
    values |= {} if bind else {"CL": CL, "V": V}
    out = simulate(registry.get(model), subjects, values, bind=bind, method=method, rtol=1e-10, atol=1e-12, outputs=["cp"])
    return {s.id: row[: len(s.schedule)] for s, row in zip(subjects, out.check().outputs["cp"], strict=True)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("group", "name"), [(g, n) for g, (_, make) in GROUPS.items() for n in make()])
def test_event(group: str, name: str, method: str) -> None:
    case = GROUPS[group][1]()[name]
    t = case.schedule.time
    compared = t >= case.since
    got = concentrations(group, method)[name][compared]
    want = (case.amount(t) / case.volume(t))[compared]
    # the record of a dose or a reset reads the state after it, as its amount is written here
    assert len(want) > 3
    assert np.abs(got - want).max() <= METHODS[method] * np.abs(want).max()


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_a_reset_brings_back_the_baseline_of_a_turnover(method: str) -> None:
    """A response that the drug has moved is at its value without drug after a reset, and stays there."""
    model = registry.get("gemello.domains.pharmacology.indirect_response.model:indirect_1")
    s = Schedule().dose(0.0, 100.0, port=2).reset(6.0).observe([3.0, 5.9, 6.5, 12.0, 40.0])
    got = simulate(model, s, method=method).check().outputs["response"][0][s.evid == 0]
    assert (got[:2] < 0.7 * 30.0).all()  # KIN/KOUT is 30
    np.testing.assert_allclose(got[2:], 30.0, rtol=1e-9)
