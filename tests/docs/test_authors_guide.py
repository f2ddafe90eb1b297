"""The author's guide is run as it stands: files are written, blocks executed in order in an empty folder, lines counted."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "authors-guide.md"
MOST_LINES = 60


class Fence(NamedTuple):
    language: str
    file: str
    text: str


def fences() -> list[Fence]:
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Fence(*f) for f in found]


def test_it_runs(tmp_path: Path) -> None:
    steps = []
    for block in fences():
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            steps.append(block.text)
    (tmp_path / "steps.py").write_text("\n".join(steps), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import runpy; runpy.run_path('steps.py')",
    ]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONUTF8": "1", "GEMELLO_CACHE": "off"}
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("passed  ") > 20
    assert "FAILED" not in run.stdout
    assert {"CL", "V", "RIN", "conc_proportional"} <= {line.split(":")[0] for line in run.stdout.splitlines() if "truth" in line}


def test_it_stays_short() -> None:
    code = [line for b in fences() if b.language == "python" for line in b.text.splitlines() if line.strip()]
    assert len(code) < MOST_LINES, f"{len(code)} lines of code"


def test_names_in_the_text_exist() -> None:
    """What the guide imports is there, and what it calls a field of the contract is one."""
    from gemello.model.contract import Model, Port

    for name in ("states", "outputs", "ports", "covariates", "individuals", "typical", "propagator", "balance"):
        assert name in vars(Model) or name in Model.__annotations__, name
    for name in ("bioavailability", "lag", "duration", "rate"):
        assert name in Port.__dataclass_fields__, name
    for b in fences():
        if b.language == "python":
            ast.parse(b.text)
