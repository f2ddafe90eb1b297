"""Every check of external controls passes, and the rows can fail."""

from __future__ import annotations

from pathlib import Path

from gemello.trial.authorities import external


def test_every_authority(shared_data: Path) -> None:
    found = list(external.checks(shared_data / "trial"))
    assert not [c for c in found if not c["passed"]]
    assert len(found) > 25
