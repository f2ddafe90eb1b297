"""What is measured: circulating cells; the drug's concentration is predicted."""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("circ", "1/nL", Residual(additive="circ_additive", proportional="circ_proportional")),
    Output("cp", "umol/L"),
)


def observe(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any]:
    """Circulating cells circ (1/nL, which is 10^9/L) and the drug's concentration cp (umol/L)."""
    return y.circulating, y.central / p.V1
