"""Arms are named as the protocol has them, whatever the order of their names: an arm's estimate stands under its own label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gemello.trial import protocol
from gemello.trial.analyse import analyse

PROTOCOL = """\
schema: gemello-trial-analysis/1
data: {file: t.csv, subject: id}
arms: {column: arm, control: Placebo, active: [Low, High]}
endpoint: {kind: continuous, outcome: y}
analysis: {covariates: [x]}
sensitivity: [mar, HC0]
"""


def test_filled_outcomes_keep_their_arm(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    n = 180
    arm = np.array(["Placebo", "Low", "High"])[np.arange(n) % 3]
    x = random.normal(size=n)
    y = x + random.normal(size=n) - 2.0 * (arm == "Low") - 8.0 * (arm == "High")
    y[:12] = np.nan
    pl.DataFrame({"id": np.arange(n), "arm": arm, "x": x, "y": y}).fill_nan(None).write_csv(tmp_path / "t.csv")
    (tmp_path / "p.yaml").write_text(PROTOCOL)
    found = analyse(protocol.read(tmp_path / "p.yaml"))
    primary = {r.estimate.label: r.estimate.estimate for r in found.primary}
    assert primary["Low against Placebo"] == pytest.approx(-2, abs=0.6)
    assert primary["High against Placebo"] == pytest.approx(-8, abs=0.6)
    for s in found.sensitivity:
        assert s.estimate is not None, s.words
        assert s.estimate.estimate == pytest.approx(primary[s.estimate.label], abs=0.4), s.name
