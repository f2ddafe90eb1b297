"""The cell of O'Hara et al. 2011 with the hERG channel of Li et al., Circ Arrhythm Electrophysiol 10:e004628, 2017 (Figure 1 and
supplement), and the conductances of Dutta et al., Front Physiol 8:616, 2017 (Table 1).

The channel: closed C1, C2 and inactivated-closed IC1, IC2 lead to open O and inactivated-open IO. Drug binds to O and IO, and the
bound channel may close around it (Cbound), which traps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from gemello.domains.heart.cells.cell import Rates
from gemello.domains.heart.cells.membrane import Pair, efold, sigmoid
from gemello.domains.heart.cells.ohara_rudy import equations as ohara_rudy
from gemello.domains.heart.cells.ohara_rudy.currents import Part, Voltage

CHANNEL = ("IC1", "IC2", "C1", "C2", "O", "IO", "IObound", "Obound", "Cbound")
STATES: Mapping[str, str] = {**ohara_rudy.STATES, **dict.fromkeys(CHANNEL, "1")}
_FORWARD = frozenset((
    ("IC1", "IC2"), ("C1", "C2"), ("C2", "O"), ("IC2", "IO"), ("C1", "IC1"), ("C2", "IC2"), ("O", "IO"),
    ("O", "Obound"), ("IO", "IObound"), ("Obound", "Cbound"), ("IObound", "Cbound"),
))  # fmt: skip
STEPS = ("1", "2", "3", "4", "11", "21", "31", "41", "51", "52", "53", "61", "62", "63")
DERIVED: Mapping[str, str] = {**ohara_rudy.DERIVED, **{f"k{s}": "1/ms" for s in STEPS}, "kon": "1/ms"}
RAW = ohara_rudy.RAW | {f"{x}{s}" for x in "Aq" for s in STEPS} | {"Temp", "D", "Kmax", "n", "halfmax"}


def derived(theta: Any) -> dict[str, Any]:
    """`DERIVED`: as in 2011, the rate constants at 0 mV and `Temp` (degC; measured at 20), and the rate of binding at D nM."""
    warmer = (theta.Temp - 20.0) * 0.1
    constants = {f"k{s}": getattr(theta, f"A{s}") * getattr(theta, f"q{s}") ** warmer for s in STEPS}
    return {**ohara_rudy.derived(theta), **constants, "kon": theta.Kmax * theta.Ku * bound_share(theta.D, theta.n, theta.halfmax)}


def bound_share(concentration: Any, hill: Any, halfmax: Any) -> Any:
    """D^n/(D^n + halfmax), halfmax = EC50^n (Li 2017); 0 without drug, also in its derivatives."""
    present = concentration > 0.0
    power = jnp.exp(hill * jnp.log(jnp.where(present, concentration, 1.0)))
    return jnp.where(present, power / (power + halfmax), 0.0)


def small_exp(x: Any) -> Any:
    """exp(x) for |x| < 0.02 to 1e-15, by its series: four of the rates hardly depend on the potential (the table bounds B)."""
    return 1.0 + x * (1.0 + x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720))))))


def rapid_rectifier(y: Any, p: Any, u: Voltage) -> Part:
    """IKr with the nine states of the channel: their derivatives, minus the sum of the rates out of each, and the whole matrix.

    Rates reach 250/ms and the states hold one another, so that the diagonal alone does not do for a step: hence the matrix.
    """
    at = channel_rates(p, u.v)
    states = channel({n: getattr(y, n) for n in CHANNEL}, at)
    conductance = p.GKr * p.ko_kr * y.O
    return Part(conductance * (u.v - u.EK), conductance, states, (matrix(at),))


def channel_rates(p: Any, v: Any) -> dict[tuple[str, str], Any]:
    """Rates (1/ms) of the transitions from one state to another at the potential v (mV)."""
    nearly = {s: getattr(p, f"k{s}") * small_exp(getattr(p, f"B{s}") * v) for s in ("1", "11", "31", "52")}
    full = {s: getattr(p, f"k{s}") * jnp.exp(getattr(p, f"B{s}") * v) for s in STEPS if s not in nearly}
    a = nearly | full
    trap = p.Kt * sigmoid(efold(v, p.Vhalf, -6.789))
    return {
        ("IC1", "IC2"): a["11"], ("IC2", "IC1"): a["21"], ("C1", "C2"): a["1"], ("C2", "C1"): a["2"],
        ("C2", "O"): a["31"], ("O", "C2"): a["41"], ("IC2", "IO"): a["3"], ("IO", "IC2"): a["4"],
        ("C1", "IC1"): a["51"], ("IC1", "C1"): a["61"], ("C2", "IC2"): a["52"], ("IC2", "C2"): a["62"],
        ("O", "IO"): a["53"], ("IO", "O"): a["63"],
        ("O", "Obound"): p.kon, ("Obound", "O"): p.Ku,
        ("IO", "IObound"): p.kon, ("IObound", "IO"): p.Ku * a["53"] / a["63"],  # by detailed balance
        ("Obound", "Cbound"): p.Kt, ("Cbound", "Obound"): trap, ("IObound", "Cbound"): p.Kt, ("Cbound", "IObound"): trap,
    }  # fmt: skip


def channel(x: Mapping[str, Any], at: Mapping[tuple[str, str], Any]) -> dict[str, Pair]:
    """Derivatives and diagonal of the channel with occupancies x; what leaves one state enters another."""
    slope, out = dict.fromkeys(CHANNEL, 0.0), dict.fromkeys(CHANNEL, 0.0)
    for i, j in at:
        out[i] = out[i] - at[i, j]
        if (i, j) in _FORWARD:
            flux = at[i, j] * x[i] - at[j, i] * x[j]
            slope[i], slope[j] = slope[i] - flux, slope[j] + flux
    return {n: (slope[n], out[n]) for n in CHANNEL}


def matrix(at: Mapping[tuple[str, str], Any]) -> tuple[tuple[Any, ...], ...]:
    """M of x' = M x over `CHANNEL` (1/ms): column j holds the rates out of state j; 0.0 where there is no transition."""
    held = {n: -sum(k for (i, _), k in at.items() if i == n) for n in CHANNEL}
    return tuple(tuple(held[i] if i == j else at.get((j, i), 0.0) for j in CHANNEL) for i in CHANNEL)


def rates(y: Any, p: Any, stimulus: Any) -> Rates:
    """Derivatives, relaxation and currents at state y under a stimulus (uA/uF)."""
    return ohara_rudy.rates(y, p, stimulus, rapid_rectifier)
