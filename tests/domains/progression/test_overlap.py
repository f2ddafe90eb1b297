"""Participants who trained the generator are found, and strangers are not taken for them."""

from __future__ import annotations

import numpy as np

from gemello.domains.progression.overlap import marks, overlap
from gemello.model.generator import History, Variable

VARIABLES = (Variable("age", role="baseline"), Variable("sex", "binary", "baseline"), Variable("cd4"))


def persons(n: int, seed: int, discrete: bool = False) -> History:
    random = np.random.default_rng(seed)
    age = random.integers(30, 40, n).astype(float) if discrete else random.normal(50, 10, n)
    cd4 = random.integers(3, 6, n) * 100.0 if discrete else random.normal(350, 80, n)
    base = {"age": age, "sex": random.integers(0, 2, n).astype(float)}
    return History(VARIABLES, tuple(f"{seed}-{i}" for i in range(n)), base, np.arange(n), np.zeros(n), {"cd4": cd4})


def test_persons_learnt_from_are_found() -> None:
    history = persons(200, 1)
    shared = history.take(np.arange(50))
    found = overlap(marks(history), shared)
    assert (found.agree, found.of) == (50, 50)
    assert "50 of 50 participants" in found.reason


def test_a_tenth_of_a_trial_is_found() -> None:
    history, others = persons(200, 1), persons(180, 2)
    known = marks(history)
    mixed = marks(others) + known[:20]
    assert sum(m in known for m in mixed) == 20
    assert overlap(known, history.take(np.arange(20))).reason


def test_strangers_are_not_taken_for_them() -> None:
    assert overlap(marks(persons(300, 3)), persons(300, 4)).agree == 0


def test_agreement_by_chance_among_few_values_is_allowed_for() -> None:
    """60 possible persons, 100 in either: almost everybody agrees with somebody. Of 50 pairs none is refused (p 1e-4 each)."""
    reasons = [overlap(marks(persons(100, 2 * k, True)), persons(100, 2 * k + 1, True)).reason for k in range(50)]
    assert not any(reasons)


def test_a_missing_value_is_no_value() -> None:
    a = persons(5, 7)
    age = a.baseline["age"].copy()
    age[0] = np.nan
    b = History(VARIABLES, a.persons, {**a.baseline, "age": age}, a.person, a.time, a.values)
    assert marks(a)[0] != marks(b)[0]
    assert marks(a)[1:] == marks(b)[1:]
