"""Tests of real data skip where the data are absent, unless it is CI that lost them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TEST = "def test_reads(shared_data):\n    assert (shared_data / 'here').exists()\n"


@pytest.mark.parametrize(
    ("data", "ci", "outcome"),
    [
        (True, "", "1 passed"),
        (False, "", "1 skipped"),
        (False, "false", "1 skipped"),
        (False, "true", "1 error"),
        (True, "true", "1 passed"),
    ],
)
def test_absent_data_skip_but_fail_in_ci(tmp_path: Path, data: bool, ci: str, outcome: str) -> None:
    (tmp_path / "clone" / "tests").mkdir(parents=True)
    (tmp_path / "clone" / "tests" / "conftest.py").write_bytes((Path(__file__).parent / "conftest.py").read_bytes())
    (tmp_path / "clone" / "tests" / "test_it.py").write_text(TEST)
    if data:
        (tmp_path / "shared" / "data").mkdir(parents=True)
        (tmp_path / "shared" / "data" / "here").touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GEMELLO_DATA", "PYTEST_ADDOPTS")} | {"CI": ci}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "tests"]
    run = subprocess.run(command, cwd=tmp_path / "clone", env=environment, capture_output=True, text=True, check=False)
    assert outcome in run.stdout.splitlines()[-1], run.stdout + run.stderr
    if not data:
        assert "GEMELLO_DATA" in run.stdout
