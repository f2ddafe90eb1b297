"""Trial analyses timed beside named peers, in one run: `gemello benchmark trial`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import numpy as np

from gemello.base.random import generator
from gemello.trial import benchmark_mmrm
from gemello.trial.analysis.many import ancova_many

TRIALS, SUBJECTS, PEER_TRIALS, ROUNDS = 10_000, 200, 500, 5
Case = dict[str, Any]


def cases() -> Iterator[Case]:
    """Every timing: medians of alternating runs. A peer that is not installed leaves its number empty and says so."""
    yield simulated_trials()
    yield from benchmark_mmrm.cases()


def simulated_trials() -> Case:
    """ANCOVA with HC3 of many simulated trials; the peer does a sample of the same trials, one after another."""
    random = generator(1, "benchmark of trials")
    score = random.standard_normal((TRIALS, SUBJECTS))
    y = 0.6 * score + 0.8 * random.standard_normal((TRIALS, SUBJECTS))
    arm = np.tile([0.0, 1.0], SUBJECTS // 2)
    x = score[..., None]
    ours: Callable[[], Any] = lambda: ancova_many(y, x, arm)  # noqa: E731
    ours()
    name = f"{TRIALS:,} simulated trials of {SUBJECTS}, ANCOVA with HC3"
    try:
        import statsmodels.api as sm  # type: ignore[import-untyped, import-not-found]  # noqa: PLC0415
    except ImportError:
        return _row(name, TRIALS / _seconds(ours), None, "statsmodels is not installed", "")
    designs = np.stack(
        [np.ones_like(score[:PEER_TRIALS]), np.broadcast_to(arm, score[:PEER_TRIALS].shape), score[:PEER_TRIALS]], 2
    )

    def peer() -> list[float]:
        return [sm.OLS(y[i], designs[i]).fit(cov_type="HC3").bse[1] for i in range(PEER_TRIALS)]

    found = ours()
    apart = float(np.max(np.abs(found.se[:PEER_TRIALS] / np.array(peer()) - 1)))
    if apart > 1e-8:
        raise AssertionError(f"standard errors differ by {apart:.1e}: not the same work")
    times = [(_seconds(ours), _seconds(peer)) for _ in range(ROUNDS)]
    a, b = (float(np.median(t)) for t in zip(*times, strict=True))
    return _row(name, TRIALS / a, PEER_TRIALS / b, "statsmodels OLS in a loop", metadata.version("statsmodels"))


def _seconds(f: Callable[[], Any]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def _row(name: str, ours: float, peer: float | None, words: str, version: str) -> Case:
    return {
        "case": name, "ours": ours, "peer": peer, "peer_version": f"{words} {version}".strip(), "unit": "trials/s",
        "ratio": None if peer is None else ours / peer, "bar": 50.0,
    }  # fmt: skip
