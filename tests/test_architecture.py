"""The house stands as drawn: import contracts, what an import may do, dependencies, and sizes of files and functions."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS: dict[str, str] = {c["id"]: c["name"] for c in PROJECT["tool"]["importlinter"]["contracts"]}

# One violation of each contract that breaks no other: files to add, with their text.
PLANTED = [
    ("layers", {"base/planted.py": "import gemello.twin\n"}),
    ("layers", {"model/planted.py": "def f():\n    from gemello.report import planted\n", "report/planted.py": ""}),
    ("layers", {"attic/__init__.py": ""}),  # a new floor must say where it stands
    ("domains-by-name", {"trial/planted.py": "from gemello.domains import pharmacology\n"}),
    (
        "domains-by-name",
        {"cli/planted.py": "import gemello.couplings.planted\n", "couplings/planted.py": "import gemello.domains.pharmacology\n"},
    ),
    ("domains-apart", {"domains/planted/__init__.py": "import gemello.domains.pharmacology\n"}),
    ("engine-pure", {"engine/planted.py": "import sqlite3\n"}),
    ("engine-pure", {"engine/planted.py": "def f():\n    import polars as pl\n"}),
    ("engine-pure", {"engine/planted.py": "from gemello.base import units\n"}),  # brings pint in
    ("base-without-jax", {"base/planted.py": "import jax.numpy as jnp\n"}),
]


def broken_contracts(src: Path) -> set[str]:
    """Identifiers of the contracts that the tree under `src` breaks."""
    code = "import sys, importlinter.cli as c; sys.exit(c.lint_imports(config_filename=sys.argv[1], no_cache=True, no_logo=True))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(src)!r})\n{code}", str(ROOT / "pyproject.toml")]
    run = subprocess.run(command, cwd=src, capture_output=True, text=True, check=False, env={"COLUMNS": "400", "PYTHONUTF8": "1"})
    states = {i: re.findall(rf"^{re.escape(n)} (KEPT|BROKEN)\b", run.stdout, re.MULTILINE) for i, n in CONTRACTS.items()}
    assert all(len(s) == 1 for s in states.values()), f"contracts were not all checked:\n{run.stdout}{run.stderr}"
    broken = {i for i, s in states.items() if s == ["BROKEN"]}
    assert bool(broken) == bool(run.returncode), run.stdout
    return broken


def test_the_tree_keeps_every_contract() -> None:
    assert broken_contracts(SRC) == set()


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract for contract, _ in PLANTED} == set(CONTRACTS)


@pytest.mark.parametrize(("contract", "files"), PLANTED)
def test_a_planted_violation_breaks_exactly_its_contract(contract: str, files: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(SRC / "gemello", tmp_path / "gemello", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        path = tmp_path / "gemello" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert broken_contracts(tmp_path) == {contract}


# ---- what an import may do ------------------------------------------------------------------------------------------------


def python(code: str) -> str:
    """What `code` prints in a new interpreter that sees this tree."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SRC)!r})\n{code}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


HEAVY = {"jax", "jaxlib", "polars", "plotly", "pint", "scipy", "pandas", "pydantic"}
LOADED = f"\nprint(*sorted({HEAVY!r} & set(sys.modules)))"


def test_import_loads_nothing_heavy() -> None:
    assert python("import gemello" + LOADED) == ""


def test_base_and_the_contract_load_no_jax() -> None:
    modules = [m for m in modules_below("gemello.base") if m != "gemello.base"] + ["gemello.model.contract", "gemello.model.card"]
    assert "jax" not in python(f"import {', '.join(modules)}" + LOADED).split()


def test_help_loads_nothing_heavy() -> None:
    main = "from gemello.cli.main import main\ntry:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code"
    printed = python(f"sys.argv = ['gemello', '--help']\n{main}{LOADED}").splitlines()
    assert "gemello" in "\n".join(printed)
    assert set(printed[-1].split()) & HEAVY == set(), printed[-1]


def test_importing_all_of_gemello_changes_no_global_setting() -> None:
    code = (
        "import importlib, os, warnings, jax, numpy\n"
        "def settings():\n"
        "    return dict(jax.config.values), list(warnings.filters), numpy.geterr(), numpy.get_printoptions(), dict(os.environ)\n"
        "{before}\n"
        f"for m in {modules_below('gemello')!r}: importlib.import_module(m)\n"
        "print([a == b for a, b in zip(before, settings())], jax._src.xla_bridge.backends_are_initialized())"
    )
    others = "import " + ", ".join(sorted(outside_modules(top_level_only=True)))  # what they set is theirs
    assert python(code.replace("{before}", others + "\nbefore = settings()")) == "[True, True, True, True, True] False"


def modules_below(package: str) -> list[str]:
    """Dotted names of a package and all its modules."""
    folder = SRC.joinpath(*package.split("."))
    names = [".".join(p.relative_to(SRC).with_suffix("").parts) for p in sorted(folder.rglob("*.py"))]
    return [n.removesuffix(".__init__") for n in names if not n.endswith("__main__")]


# ---- dependencies ---------------------------------------------------------------------------------------------------------


def imports(tree: ast.AST, top_level_only: bool) -> Iterator[str]:
    """Modules that absolute imports name; what a function or a TYPE_CHECKING block imports is not at top level."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif top_level_only and (
            isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            continue
        else:
            yield from imports(node, top_level_only)


def outside_modules(top_level_only: bool) -> set[str]:
    """Modules of other packages that the tree imports."""
    trees = [ast.parse(p.read_text(encoding="utf-8")) for p in SRC.rglob("*.py")]
    own = {*sys.stdlib_module_names, "gemello"}
    return {n for t in trees for n in imports(t, top_level_only) if n.split(".")[0] not in own}


def third_party(top_level_only: bool) -> set[str]:
    """Packages from outside that the tree imports."""
    return {n.split(".")[0] for n in outside_modules(top_level_only)}


def declared(requirements: list[str]) -> set[str]:
    """Names to import of what pyproject.toml asks for."""
    names = {re.split(r"[^A-Za-z0-9_-]", r)[0].lower().replace("-", "_") for r in requirements}
    return {{"libroadrunner": "roadrunner", "chi_drm": "chi", "pyyaml": "yaml"}.get(n, n) for n in names}


def test_a_plain_installation_has_all_that_modules_import() -> None:
    assert third_party(top_level_only=True) - declared(PROJECT["project"]["dependencies"]) == set()


#: Peers that cannot be installed beside gemello (Finitewave wants NumPy 1) and run in an environment of their own.
APART = {"finitewave"}


def test_all_that_functions_import_is_declared_somewhere() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    known = declared(PROJECT["project"]["dependencies"] + extras["bench"] + extras["chi"])
    assert third_party(top_level_only=False) - known == APART


def test_no_dependency_is_unused() -> None:
    assert declared(PROJECT["project"]["dependencies"]) - third_party(top_level_only=False) == set()


# ---- sizes ----------------------------------------------------------------------------------------------------------------


def test_no_file_is_longer_than_500_lines() -> None:
    lengths = {str(p.relative_to(SRC)): len(p.read_text(encoding="utf-8").splitlines()) for p in SRC.rglob("*.py")}
    assert {p: n for p, n in lengths.items() if n > 500} == {}


def test_long_bodies_are_rare() -> None:
    bodies = {}
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                statements = node.body[1:] if ast.get_docstring(node) else node.body
                length = statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0  # type: ignore[operator]
                bodies[f"{path.relative_to(SRC)}:{node.lineno} {node.name}"] = length
    long = {k: n for k, n in bodies.items() if n > 50}
    assert len(long) < 0.02 * len(bodies), f"{len(long)} of {len(bodies)} bodies are longer than 50 lines: {long}"
