"""Which generator: the one of the best score in persons held out, the simple one where that is in doubt.

Generators are tried from the simplest on (`ORDER`). A later one is taken only if its score (mean CRPS in SD of each variable, by
person) is better than the best so far by more than one standard error of the paired difference (the rule of one standard error;
Breiman et al. 1984, section 3.4.3). With fewer persons than `LEAST` says a generator is not tried. The score that is reported
belongs to the generator taken; for one free of the choice itself, score `trained` by `scoring.held_out`: the choice is
then made anew inside of every fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from gemello.base.errors import DataError, GemelloError, ModelError
from gemello.base.random import child_seed
from gemello.domains.progression import scoring
from gemello.domains.progression.registry import GENERATORS
from gemello.domains.progression.scoring import Report
from gemello.model.generator import Generator, History

ORDER = ("mixed", "latent_time", "neural")
LEAST: Mapping[str, int] = {"mixed": 0, "latent_time": 30, "neural": 100}


@dataclass(frozen=True)
class Trained:
    """A generator, why it was taken, its report, the reports of all that were tried, and why others were not."""

    generator: Generator
    kind: str
    reason: str
    report: Report | None
    reports: Mapping[str, Report]
    left_out: Mapping[str, str]


def kinds() -> tuple[str, ...]:
    """Kinds of generators that are there."""
    return tuple(k for k in ORDER if _class(k) is not None)


def get(kind: str) -> type[Generator]:
    """The class of a kind. Raises DataError."""
    found = _class(kind)
    if found is None:
        raise DataError("no such generator", column="kind", value=kind, remedy=f"one of {', '.join(kinds())}")
    return found


def from_dict(data: Mapping[str, Any]) -> Generator:
    """The generator of a `to_dict`, of whatever kind. Raises DataError."""
    kind = data.get("kind") if isinstance(data, Mapping) else None
    return get(str(kind)).from_dict(data)


def train(
    history: History,
    *,
    seed: int,
    tried: Sequence[str] | None = None,
    folds: int = 5,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Trained:
    """Score every generator on persons held out, take one and train it on all.

    tried: kinds (default: all). folds: fewer where there are few persons. options: of each kind's training. Raises DataError
    where even the simplest cannot be trained."""
    options = options or {}
    reports: dict[str, Report] = {}
    left_out: dict[str, str] = {}
    folds = int(np.clip(len(history) // 5, 2, folds))
    for kind in tried or kinds():
        cls = get(kind)
        if tried is None and len(history) < LEAST.get(kind, 0):
            left_out[kind] = f"{len(history)} persons; tried from {LEAST[kind]} on"
            continue
        given = dict(options.get(kind, {}))
        make = lambda h, s, cls=cls, given=given: cls.train(h, seed=s, **given)  # noqa: E731
        try:
            reports[kind] = scoring.held_out(make, history, folds=folds, seed=seed)
        except (GemelloError, np.linalg.LinAlgError) as e:
            left_out[kind] = " ".join(str(e).split())
    if not reports:
        raise DataError(f"no generator could be trained: {'; '.join(f'{k}: {w}' for k, w in left_out.items())}")
    kind, reason = _choose(reports)
    generator = get(kind).train(history, seed=child_seed(seed, "whole"), **dict(options.get(kind, {})))
    return Trained(generator, kind, reason, reports[kind], reports, left_out)


def trained(history: History, seed: int) -> Generator:
    """The generator that `train` takes: what `scoring.held_out` trains, to score the choice itself."""
    return train(history, seed=seed).generator


def _choose(reports: Mapping[str, Report]) -> tuple[str, str]:
    best, *others = reports
    words = [f"{best}: {reports[best].crps:.4f}"]
    for kind in others:
        difference = np.array(reports[best].by_person) - np.array(reports[kind].by_person)
        difference = difference[np.isfinite(difference)]
        gain = float(np.mean(difference)) if len(difference) else 0.0
        error = float(np.std(difference, ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else np.inf
        covers = set(reports[kind].variables) >= set(reports[best].variables)
        words.append(f"{kind}: {reports[kind].crps:.4f} ({gain:+.4f} ± {error:.4f} against {best})")
        if covers and gain > error:
            best = kind
    return best, f"CRPS in SD, persons held out; {'; '.join(words)}; taken: {best}"


def _class(kind: str) -> type[Generator] | None:
    if kind not in GENERATORS:
        return None
    where, name = GENERATORS[kind].split(":")
    try:
        found = getattr(import_module(where), name, None)
    except ModuleNotFoundError as e:
        if e.name and where.startswith(e.name):
            return None
        raise
    if found is not None and not issubclass(found, Generator):
        raise ModelError(f"{GENERATORS[kind]} is no generator")
    return found
