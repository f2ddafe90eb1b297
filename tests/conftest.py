"""What all tests share: the folder of real data, double precision, and property tests that run the same every time."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
LARGE = 3 * 2**30  # bytes

hypothesis.settings.register_profile("gemello", derandomize=True, deadline=None, database=None, max_examples=50)
hypothesis.settings.load_profile("gemello")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, `../shared/data` beside the repository or GEMELLO_DATA. Without it: skip, but fail where CI is set."""
    folder = Path(os.environ.get("GEMELLO_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"needs the real data in {folder}; put them there or point GEMELLO_DATA at them"
        if os.environ.get("CI", "").lower() in ("", "0", "false"):
            pytest.skip(message)
        pytest.fail(message, pytrace=False)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _room() -> Iterator[None]:
    """After a file of tests in a large process, let go of the programs compiled so far: hundreds of them fill the memory."""
    yield
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    if "jax" in sys.modules and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit > LARGE:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for tests that call equations directly; the engine's own entry points see to it themselves."""
    import jax

    with jax.enable_x64(True):
        yield
