"""Where the reference data for `validate` and the tests lie: outside the package, never copied into it."""

from __future__ import annotations

import os
from pathlib import Path


def reference_data(area: str) -> Path | None:
    """Folder of reference data for one area, or None where there is none on this machine.

    GEMELLO_DATA names the folder that holds the areas; without it, `shared/data` is looked for beside this file's parents
    and beside the working folder's.
    """
    chosen = os.environ.get("GEMELLO_DATA")
    here = (*Path(__file__).resolve().parents, Path.cwd(), *Path.cwd().parents)
    roots = [Path(chosen)] if chosen else [p / "shared" / "data" for p in here]
    return next((r / area for r in roots if (r / area).is_dir()), None)
