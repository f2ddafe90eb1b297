"""State, constants of nature and shared exponentials of ToR-ORd."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.membrane import bernoulli
from gemello.model.parameters import named

R, T, F = 8314.0, 310.0, 96485.0  # mJ/(mol K), K (the kinetics hold at 37 °C only), C/mol
RTF = R * T / F  # mV

GATES = (
    *("m", "h", "j", "hp", "jp", "mL", "hL", "hLp"),
    *("a", "iF", "iS", "ap", "iFp", "iSp"),
    *("d", "ff", "fs", "fcaf", "fcas", "jca", "ffp", "fcafp"),
    *("xs1", "xs2"),
)
MARKOV = ("C3", "C2", "C1", "O", "I")  # of IKr
STATES: dict[str, str] = {
    "v": "mV",
    **dict.fromkeys(("nai", "nass", "ki", "kss", "cai", "cass", "cansr", "cajsr", "cli", "clss"), "mM"),
    "CaMKt": "1",
    **dict.fromkeys((*GATES, "nca_ss", "nca_i", *MARKOV), "1"),
    **dict.fromkeys(("Jrel_np", "Jrel_p"), "mM/ms"),
}
State = named("State", tuple(STATES))


class Powers(NamedTuple):
    """exp(v/b) for the slopes b (mV) that several gates use; and what fluxes need: x = vF/RT, its exponentials, x/(e − 1)."""

    e100: Any
    e11: Any  # b = 100/9
    e20: Any
    e10: Any
    e7: Any
    e6: Any
    e5: Any
    e4: Any
    e3: Any
    x: Any
    third: Any  # exp(x/3)
    one: Any  # exp(x)
    two: Any  # exp(2 x)
    flux1: Any  # x/(exp(x) − 1)
    flux2: Any  # 2 x/(exp(2 x) − 1)


def powers(v: Any) -> Powers:
    """Shared exponentials at the potential v (mV)."""
    e100, e6, x = jnp.exp(v * 0.01), jnp.exp(v * (1.0 / 6.0)), v * (1.0 / RTF)
    e25 = (e100 * e100) * (e100 * e100)
    e20 = e25 * e100
    e10 = e20 * e20
    e5 = e10 * e10
    third = jnp.exp(x * (1.0 / 3.0))
    one = third * third * third
    flux1 = bernoulli(x, one)
    return Powers(
        e100, e25 * e20, e20, e10, jnp.exp(v * (1.0 / 7.0)), e6, e5, e5 * e20, e6 * e6,
        x, third, one, one * one, flux1, 2.0 * flux1 / (1.0 + one),
    )  # fmt: skip
