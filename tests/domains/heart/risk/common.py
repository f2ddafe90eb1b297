"""A cell that answers at once, for tests of what is made of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gemello.domains.heart.drugs.drug import Binding, Block, Drug, Effects

CONTROL = 0.0697  # C/F


def paced(model: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """qNet falls with occupancy of dynamic hERG and rises with block of INaL and ICaL; APD90 is 290 ms and more."""
    n = len(next(iter(parameters.values())))
    share = lambda name: np.asarray(parameters.get(name, np.full(n, model.parameters[name].value))) / model.parameters[name].value  # noqa: E731
    d, power, half = (np.asarray(parameters.get(k, np.full(n, v))) for k, v in (("D", 0.0), ("n", 1.0), ("halfmax", 1.0)))
    occupied = d**power / (d**power + half)
    qnet = CONTROL - 0.04 * occupied + 0.02 * (1 - share("GNaL")) + 0.01 * (1 - share("PCa"))
    apd90 = 290.0 + 300.0 * occupied
    return {
        "bound": occupied, "qnet": qnet, "apd50": 0.8 * apd90, "apd90": apd90, "ead": qnet < 0.034, "repolarised": qnet > 0.0305,
        "failed": np.zeros(n, bool),
    }  # fmt: skip


def traced(model: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same with square action potentials of those durations."""
    out = paced(model, parameters)
    time = np.arange(1.0, 2001.0)
    return out | {"time": time, "voltage": np.where(time < out["apd90"][:, None], 20.0, -88.0)}


def drug(name: str = "made-up", ec50: float = 1000.0, spread: float = 0.2, samples: int = 500, vintage: str = "lab2020") -> Drug:
    """Cmax 100 nM; hERG EC50 (nM) with lognormal samples; block of INaL and ICaL; none of INa."""
    random = np.random.default_rng(5)
    point = Effects({"INaL": Block(1e5, 1.0), "ICaL": Block(2e5, 1.0)}, Binding(100.0, 0.01, 1.0, ec50, -50.0))
    if not samples:
        return Drug(name, 100.0, point, None, None, vintage)
    draw = lambda v: v * np.exp(spread * random.standard_normal(samples))  # noqa: E731
    same = lambda v: np.full(samples, v)  # noqa: E731
    drawn = Effects(
        {"INaL": Block(draw(1e5), same(1.0)), "ICaL": Block(draw(2e5), same(1.0))},
        Binding(same(100.0), same(0.01), same(1.0), draw(ec50), same(-50.0)),
    )
    return Drug(name, 100.0, point, drawn, None, vintage)
