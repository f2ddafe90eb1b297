"""What must be refused: parameters and covariates that cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gemello.base.errors import DataError, GemelloError, ModelError
from gemello.model.checks.common import BrokenError, demand
from gemello.model.checks.probe import Probe
from gemello.model.schedule import Schedule
from gemello.model.simulate import prepare


def refuses_bad_parameters(x: Probe) -> str:
    wrong: list[tuple[str, float]] = [("no_such_parameter", 1.0)]
    for r in x.model.parameters:
        wrong += [(r.name, math.nan), (r.name, math.inf)]
        wrong += [(r.name, b + d) for b, d in ((r.lower, -1.0), (r.upper, 1.0)) if math.isfinite(b)]
    for name, value in wrong:
        _refused(partial(prepare, x.model, x.schedule, values={name: value}), ModelError, f"{name} = {value:g}")
    return f"{len(wrong)} of {len(wrong)} refused"


def refuses_bad_covariates(x: Probe) -> str:
    wrong: list[tuple[Schedule, str]] = []
    for c in x.model.covariates:
        demand(np.isfinite(c.possible).any() or c.categorical, f"covariate {c.name}: no value is impossible; give `possible`")
        bad = [math.nan, *(b + d for b, d in zip(c.possible, (-1.0, 1.0), strict=True) if math.isfinite(b))]
        bad += [c.categorical[0] + 0.5] if c.categorical else []
        wrong += [(x.schedule.covariates(**{c.name: v}), f"{c.name} = {v:g}") for v in bad]
        without = {k: v for k, v in x.schedule.columns.items() if k != c.name}
        wrong += [(replace(x.schedule, columns=without), f"a schedule without {c.name}")]
    for schedule, words in wrong:
        _refused(partial(prepare, x.model, schedule), DataError, words)
    return f"{len(wrong)} of {len(wrong)} refused" if wrong else "does not apply: no covariates"


def _refused(call: Callable[[], Any], kind: type[GemelloError], words: str) -> None:
    try:
        call()
    except kind:
        return
    raise BrokenError(f"{words} is accepted; it should raise {kind.__name__}")
