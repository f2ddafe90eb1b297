"""QTcF from concentration. Individual: baseline, course over the day, and the drug's effect at plasma or at an effect site.

Linear effect and its prerequisites: Garnett et al., J Pharmacokinet Pharmacodyn 45:383-397, 2018. Emax and the effect site:
Sheiner et al., Clin Pharmacol Ther 25:358-371, 1979, eq. 1-6. Cosine over 24 h: Piotrovsky, AAPS J 7:E609-E624, 2005, eq. 3.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gemello.model.contract import State


def circadian(t: Any, p: Any) -> Any:
    """What the time of day adds to QTcF, ms: one cosine, as its two components."""
    angle = 2.0 * jnp.pi * t / p.DAY
    return p.COS24 * jnp.cos(angle) + p.SIN24 * jnp.sin(angle)


def linear(c: Any, p: Any) -> Any:
    """ΔΔQTcF at the concentration c, ms: SLOPE c."""
    return p.SLOPE * c


def emax(c: Any, p: Any) -> Any:
    """ΔΔQTcF at the concentration c, ms: EMAX c/(EC50 + c)."""
    return p.EMAX * c / (p.EC50 + c)


def site_rate(y: State, p: Any, u: Any) -> Any:
    """Rate of the effect-site concentration: dCe/dt = KE0 (C − Ce)."""
    return p.KE0 * (u.conc - y.site)


def site_after(dt: Any, y: State, p: Any, u: Any) -> Any:
    """Effect-site concentration after dt at a constant plasma concentration; exact."""
    return u.conc + (y.site - u.conc) * jnp.exp(-p.KE0 * dt)


def measurement_sd(f: Any, additive: Any, growth: Any, onset: Any) -> Any:
    """Standard deviation of a measured QTcF, ms: `additive`, and `growth` for every ms by which it lies above `onset`.

    A long QT is measured worse than a normal one, since the end of a flat or notched T wave is hard to find.
    """
    return jnp.sqrt(additive**2 + (growth * jnp.maximum(f - onset, 0.0)) ** 2)
