"""The disease course as equations of a model: disease time runs at the person's pace, outcomes are logistic curves of it."""

from __future__ import annotations

from typing import Any

from jax.scipy.special import expit


def start(begin: Any, effects: Any) -> Any:
    """Disease time at baseline: the person's start and what baseline values add to it."""
    return begin + effects


def outcome(s: Any, low: Any, high: Any, speed: Any, place: Any, shift: Any) -> Any:
    """low + (high − low) / (1 + exp(−(v (s − d) + w)))."""
    return low + (high - low) * expit(speed * (s - place) + shift)
