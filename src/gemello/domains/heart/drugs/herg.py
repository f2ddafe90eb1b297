"""The hERG channel with a drug under voltage clamp: exact course of the fractional current in the Milnes protocol.

Nine states (Li 2017, Circ Arrhythm Electrophysiol 10:e004628, and its supplement): closed C1, C2, closed-inactivated IC1, IC2,
open O, inactivated IO, and with a drug bound IObound, Obound, Cbound. A drug binds to O and IO, and is trapped where the channel
closes on it. At a constant voltage the states obey a linear system, so the course is a product of matrix exponentials.

Protocol of Milnes 2010 (J Pharmacol Toxicol Methods 61:178) as in Li 2017: from −80 mV, 10 s at 0 mV, every 25 s, ten times, at
37 °C. What is measured is the current with drug over that without, at the same time of the same sweep; the driving force cancels.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError
from gemello.domains.heart.drugs.drug import KT, Binding
from gemello.engine.lanes import precision
from gemello.engine.solvers.linear import exponential

Array = NDArray[np.float64]
STATES = ("IC1", "IC2", "C1", "C2", "O", "IO", "IObound", "Obound", "Cbound")
OPEN = STATES.index("O")
LEAST = 32  # lanes of the smallest program
SLOPE = 6.789  # mV, of trapping's dependence on voltage
TEMPERATURE = 37.0  # degC

# Rates A exp(B V) q^((T − 20)/10), 1/ms with V in mV: (from, to, A, B, q), Li 2017, supplement, table of hERG parameters.
RATES = (
    ("C1", "C2", 0.0264, 4.631e-5, 4.843),
    ("C2", "C1", 4.986e-6, -0.004226, 4.23),
    ("IC2", "IO", 0.001214, 0.008516, 4.962),
    ("IO", "IC2", 1.854e-5, -0.04641, 3.769),
    ("IC1", "IC2", 0.0007868, 1.535e-8, 4.942),
    ("IC2", "IC1", 5.455e-6, -0.1688, 4.156),
    ("C2", "O", 0.005509, 7.771e-9, 4.22),
    ("O", "C2", 0.001416, -0.02877, 1.459),
    ("C1", "IC1", 0.4492, 0.008595, 5.0),
    ("C2", "IC2", 0.3181, 3.613e-8, 4.663),
    ("O", "IO", 0.149, 0.004668, 2.412),
    ("IC1", "C1", 0.01241, 0.1725, 5.568),
    ("IC2", "C2", 0.3226, -0.0006575, 5.0),
    ("IO", "O", 0.008978, -0.02215, 5.682),
)
_INACTIVATION = (("O", "IO"), ("IO", "O"))


class Milnes(NamedTuple):
    """holding, test: mV. before: time at holding ahead of the first step; pulse: at test; interval: from step to step, all ms.
    step: of the grid of times at test, ms, which divides pulse."""

    holding: float = -80.0
    test: float = 0.0
    before: float = 1000.0
    pulse: float = 10_000.0
    interval: float = 25_000.0
    sweeps: int = 10
    step: float = 100.0

    @property
    def times(self) -> Array:
        """Times of the grid since the step to the test voltage, ms: (points,), from one step on."""
        return np.asarray(self.step * np.arange(1, round(self.pulse / self.step) + 1), np.float64)


MILNES = Milnes()


def rate(origin: str, end: str, voltage: float) -> float:
    """Rate from one drug-free state to another at `voltage` (mV), 1/ms."""
    a, b, q = next(r[2:] for r in RATES if r[:2] == (origin, end))
    return float(a * np.exp(b * voltage) * q ** ((TEMPERATURE - 20.0) / 10.0))


@cache
def _free(voltage: float) -> Array:
    """System matrix (9, 9) without drug."""
    a = np.zeros((9, 9))
    for origin, end, *_ in RATES:
        _transition(a, origin, end, rate(origin, end, voltage))
    return a


@cache
def _pattern(*transitions: tuple[str, str, float]) -> Array:
    a = np.zeros((9, 9))
    for origin, end, weight in transitions:
        _transition(a, origin, end, weight)
    return a


def _transition(a: Any, origin: str, end: str, weight: float) -> None:
    i, j = STATES.index(origin), STATES.index(end)
    a[j, i] += weight
    a[i, i] -= weight


def system(voltage: float, on: Any, ku: Any, release: Any) -> Any:
    """System matrix with drug, (9, 9, lanes): on = Kmax·Ku·D^n/(D^n + halfmax), ku, and release of the trap at this voltage, all
    (lanes,) in 1/ms."""
    ratio = rate(*_INACTIVATION[0], voltage) / rate(*_INACTIVATION[1], voltage)  # detailed balance of O, IO and their bound twins
    parts = (
        (on, _pattern(("O", "Obound", 1.0), ("IO", "IObound", 1.0))),
        (ku, _pattern(("Obound", "O", 1.0), ("IObound", "IO", ratio))),
        (release, _pattern(("Cbound", "Obound", 1.0), ("Cbound", "IObound", 1.0))),
    )
    fixed = _free(voltage) + _pattern(("Obound", "Cbound", KT), ("IObound", "Cbound", KT))
    return fixed[:, :, None] + sum(p[:, :, None] * v for v, p in parts)


def rest(voltage: float) -> Array:
    """Drug-free equilibrium at `voltage`, (9,)."""
    a = _free(voltage)[:6, :6]
    x = np.linalg.lstsq(np.vstack([a, np.ones(6)]), np.append(np.zeros(6), 1.0), rcond=None)[0]
    return np.append(x, np.zeros(3))


@lru_cache(maxsize=16)
def _program(protocol: Milnes) -> Any:
    points, gap = round(protocol.pulse / protocol.step), protocol.interval - protocol.pulse
    start = rest(protocol.holding)

    def run(on: Any, ku: Any, held: Any, tested: Any) -> Any:
        holding = system(protocol.holding, on, ku, held)
        testing = system(protocol.test, on, ku, tested)
        three = jnp.stack([testing * protocol.step, holding * protocol.before, holding * gap], axis=-1)
        small, before, back = jnp.moveaxis(exponential(three), -1, 0)
        row = jnp.zeros((9, *on.shape)).at[OPEN].set(1.0)

        def forth(row: Any, _: Any) -> Any:
            row = jnp.sum(row[:, None] * small, axis=0)
            return row, row

        _, rows = jax.lax.scan(forth, row, None, length=points)  # O at each point from the state at the step
        whole = _power(small, points)
        state = jnp.sum(before * start[None, :, None], axis=1)

        def sweep(state: Any, _: Any) -> Any:
            current = jnp.sum(rows * state, axis=1)
            for matrix in (whole, back):
                state = jnp.sum(matrix * state[None], axis=1)
            return state, current

        _, currents = jax.lax.scan(sweep, state, None, length=protocol.sweeps)
        return jnp.moveaxis(currents, -1, 0)

    return jax.jit(run)


def _power(matrix: Any, n: int) -> Any:
    """matrix^n, lanes last."""
    product = lambda a, b: jnp.sum(a[:, :, None] * b[None], axis=1)  # noqa: E731
    result = None
    while n:
        if n & 1:
            result = matrix if result is None else product(matrix, result)
        n >>= 1
        matrix = product(matrix, matrix) if n else matrix
    return result


def open_probability(binding: Binding, concentration: ArrayLike, protocol: Milnes = MILNES) -> Array:
    """Open probability at the times of the grid of each sweep, (lanes, sweeps, points). Binding and concentration (nM, 0 for
    control) are (lanes,) or numbers. A drug is added at `before` ahead of the first step."""
    if protocol.step <= 0 or abs(protocol.pulse / protocol.step - round(protocol.pulse / protocol.step)) > 1e-9:
        raise DataError(
            "not a multiple of the step", column="pulse", value=protocol.pulse, remedy="choose a step that divides it"
        )
    kmax, ku, n, halfmax, vhalf, d = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, float)) for v in (*binding, concentration))
    )
    with np.errstate(divide="ignore", over="ignore"):
        bound = np.where(d > 0, 1.0 / (1.0 + halfmax * np.power(np.where(d > 0, d, 1.0), -n)), 0.0)
        release = [KT / (1.0 + np.exp(-(v - vhalf) / SLOPE)) for v in (protocol.holding, protocol.test)]
    lanes = len(d)
    full = 1 << max(lanes - 1, LEAST - 1).bit_length()  # one program for many sizes
    padded = [np.pad(v, (0, full - lanes), mode="edge") for v in (kmax * ku * bound, ku, *release)]
    with precision("float64"):
        return np.asarray(_program(protocol)(*padded))[:lanes]


def fraction(binding: Binding, concentration: ArrayLike, protocol: Milnes = MILNES) -> Array:
    """Current with drug over current without, (lanes, sweeps, points): see `open_probability`."""
    return open_probability(binding, concentration, protocol) / _control(protocol)


@lru_cache(maxsize=16)
def _control(protocol: Milnes) -> Array:
    return open_probability(Binding(1.0, 1e-3, 1.0, 1.0, -50.0), 0.0, protocol)
