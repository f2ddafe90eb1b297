"""The demo: `run` says at once that it has started, then does `theophylline/demonstration.py` and writes its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

NAME = "gemello-demo-report.html"


def run(
    output: Path | None = None, seed: int = 20, progress: Callable[[str], None] | None = None, *, patient: str = "12"
) -> tuple[Path, tuple[str, ...]]:
    """Fit 12 real patients, forecast one of them from the others, recommend a dose, write the report.

    Returns the report's path and the result in a few lines.

    output: default gemello-demo-report.html in the working folder. progress(text) is called at each step, the first time before
    anything slow is imported. patient: whose twin to show, "1" to "12". Raises DataError where the report cannot be written.
    """
    say = progress or (lambda _: None)
    say("Starting JAX")
    from gemello.domains.pharmacology.theophylline import demonstration  # noqa: PLC0415  (seconds: after the first word)

    found = demonstration.compute(seed, say, patient=patient)
    path = demonstration.write(found, Path(NAME) if output is None else Path(output), say)
    return path, demonstration.summary(found)
