"""The speed of training, against the limits asked for: `gemello benchmark progression`.

`ours` in seconds of wall time on this machine; `ratio` the limit over ours, `bar` 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gemello.base.reference import reference_data
from gemello.domains.progression import select
from gemello.domains.progression.authorities import courses, forecasts

Case = dict[str, Any]
LIMIT = 180.0  # seconds: training on the controls of ACTG175


def cases() -> Iterator[Case]:
    """Every case, one at a time; without reference data a row says so."""
    folder = reference_data("trial")
    if folder is None:
        yield _row("training: not run, no reference data (set GEMELLO_DATA)", None, None)
        return
    controls = forecasts.actg175(folder)
    words = f"ACTG175 controls ({len(controls)} persons, {os.cpu_count()} cores)"
    for kind in select.kinds():
        seconds = _timed(partial(select.get(kind).train, controls, seed=1))
        yield _row(f"training the generator {kind} on {words}", seconds, LIMIT)
    yield _row(f"choosing among all by five folds and training, {words}", _timed(lambda: select.train(controls, seed=1)), LIMIT)
    history = courses.alzheimer(folder)
    seconds = _timed(lambda: select.get("latent_time").train(history, seed=1))
    yield _row(f"training the disease course on {len(history)} persons, {len(history.time)} visits, 7 scores", seconds, LIMIT)


def _timed(f: Callable[[], Any]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def _row(case: str, seconds: float | None, limit: float | None) -> Case:
    ratio = None if seconds is None or limit is None else limit / seconds
    return {
        "case": case, "ours": seconds, "peer": limit, "peer_version": "limit asked for", "unit": "s", "ratio": ratio,
        "bar": None if limit is None else 1.0,
    }  # fmt: skip
