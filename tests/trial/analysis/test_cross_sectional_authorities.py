"""Every value of the reference files of the cross-sectional analyses, at its tolerance; and that the rows can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemello.trial.authorities import cross_sectional


def _numbers(tree: Any) -> int:
    if isinstance(tree, dict):
        return sum(_numbers(v) for v in tree.values())
    return int(isinstance(tree, int | float))


def test_every_reference_value(shared_data: Path) -> None:
    found = list(cross_sectional.checks(shared_data / "trial"))
    failed = [c for c in found if not c["passed"]]
    assert not failed, failed[:5]
    assert len({c["check"] for c in found}) > 400
    everything = json.loads((shared_data / "trial/reference/covariate_adjustment.json").read_text())
    wanted = sum(_numbers(v) for k, v in everything.items() if k != "versions")
    ours = [c for c in found if c["check"].startswith(("ACTG175", "prognostic", "anorexia", "indomethacin", "beeca"))]
    assert len(ours) >= wanted  # one row at least for every number of the file


def test_a_wrong_value_fails_its_row(shared_data: Path) -> None:
    folder = shared_data / "trial"
    reference = json.loads((folder / "reference/covariate_adjustment.json").read_text())["anorexia_ANCOVA"]
    reference["CBT"]["se_HC3"] *= 1 + 1e-5
    rows = list(cross_sectional._relative(cross_sectional._anorexia(folder, reference), "changed"))
    assert [c["check"] for c in rows if not c["passed"]] == ["anorexia, CBT: se_HC3"]


@pytest.mark.parametrize(("text", "limit"), [("0.366007", 0.5e-6), ("2.776e-05", 0.5e-8), ("4.1911", 0.5e-4), ("0.4324", 0.5e-4)])
def test_printed_digits(text: str, limit: float) -> None:
    assert cross_sectional._half_digit(text) == pytest.approx(limit, rel=0.01)


def test_monte_carlo_error_of_a_variance_ratio() -> None:
    """The stated error is that seen over 200 replicates; a ratio outside 25 % of it has probability below 1e-6."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        u = rng.standard_normal(2000)
        found.append(cross_sectional.variance_ratio(0.8 * u + 0.3 * rng.standard_normal(2000), u))
    ratio, error = np.array(found).T
    assert ratio.mean() == pytest.approx(0.73, abs=0.01)
    assert np.std(ratio) / error.mean() == pytest.approx(1, abs=0.25)
