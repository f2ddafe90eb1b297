"""Models and domains by name: lazily, from entry points, files and modules; unknown names are told what comes near."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from gemello.base.errors import ModelError
from gemello.model import registry
from gemello.model.contract import Model

FILE = """
from gemello.model.contract import Model, Output
from gemello.model.parameters import Parameter, ParameterTable

class Decay(Model):
    name, version, time_unit = "decay", "1", "h"
    states, outputs = {"a": "mg"}, (Output("a", "mg"),)
    parameters = ParameterTable((Parameter("k", 1.0, "1/h"),))
    def derivative(self, t, y, p, u): return self.state_type(-p.k * y.a)
    def observe(self, t, y, p, u): return (y.a,)

decay = Decay()
number = 3
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registered", {})
    yield
    registry.packages.cache_clear()
    registry._domain_models.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_names_are_listed_without_importing_a_model() -> None:
    code = (
        "import sys; from gemello.model import registry; assert 'pk1_oral' in registry.models();"
        "print(registry.domains(), 'jax' in sys.modules, any(m.endswith('.model') and 'domains' in m for m in sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert run.stdout.strip() == "['heart', 'pharmacology', 'progression', 'trial'] False False"


def test_every_name_gives_the_model_of_that_name() -> None:
    for name in registry.models():
        model = registry.get(name)
        assert isinstance(model, Model)
        assert model.name == name


def test_a_file_is_run_once_and_anew_after_a_change(file: Path) -> None:
    first = registry.get(f"{file}:decay")
    assert first.name == "decay"
    assert registry.get(f"{file}:decay") is first
    file.write_text(FILE.replace('"decay", "1"', '"decay", "2"') + "\n")
    assert registry.get(f"{file}:decay").version == "2"


def test_a_registered_model_is_found_and_listed(file: Path) -> None:
    model = registry.get(f"{file}:decay")
    registry.register("decay", model)
    registry.register("decay", model)  # the same again is no clash
    registry.register("later", f"{file}:decay")
    assert registry.get("decay") is model is registry.get("later")
    assert {"decay", "later"} <= set(registry.models())
    for name, target in (("decay", "a:b"), ("pk1_oral", model), ("a:b", model), ("", model), ("x", "nothing")):
        with pytest.raises(ModelError, match=r"is registered already|cannot be registered"):
            registry.register(name, target)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pk1_orl", "no model 'pk1_orl'; did you mean pk1_oral"),
        ("zzz", r"no model 'zzz'; the models are .*pk1_iv.* \(a file of your own: path/file.toml or path/file.py:attribute\)"),
        ("{file}:decy", "has no 'decy'; did you mean decay"),
        ("{file}:number", "number is a int, not a model; give an instance"),
        ("{file}:Decay", "Decay is a ABCMeta, not a model; give an instance"),
        ("{file}x:decay", "no file .*mine.pyx'; give the path of a Python file"),
        ("no.such.module:m", "no.such.module could not be imported: ModuleNotFoundError"),
    ],
)
def test_unknown_names_say_what_comes_near(file: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as e:
        registry.get(name.format(file=file))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["1 +", "import no_such_package", "raise RuntimeError('no\\nway')", "import sys; sys.exit(3)"])
def test_a_file_that_cannot_be_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ModelError, match=r"bad\.py could not be imported: ") as e:
        registry.get(f"{tmp_path}/bad.py:m")
    assert "\n" not in str(e.value)


def test_domains_and_their_parts() -> None:
    assert "pk1_oral" in registry.domain("pharmacology", "registry").MODELS
    with pytest.raises(ModelError, match="no domain 'pharma'; did you mean pharmacology"):
        registry.domain("pharma")
    with pytest.raises(ModelError, match=r"domain 'pharmacology' has no kitchen .*; it has .*registry"):
        registry.domain("pharmacology", "kitchen")


def test_a_domain_from_outside_comes_in_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    for name, models in (("ours", f"{{'decay': {str(file) + ':decay'!r}, 'pk1_oral': 'x:y'}}"), ("broken", "1 / 0")):
        (tmp_path / f"gemello_{name}").mkdir()
        (tmp_path / f"gemello_{name}" / "__init__.py").touch()
        (tmp_path / f"gemello_{name}" / "registry.py").write_text(f"MODELS = {models}")
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint(n, f"gemello_{n}", registry.GROUP) for n in ("ours", "broken", "gone")]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry.packages.cache_clear()
    registry._domain_models.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert registry.get("decay").name == "decay"
    said = sorted(str(w.message) for w in caught)
    assert said[0].startswith("domain 'broken' cannot be used: ZeroDivisionError")
    assert said[1].startswith(
        "domain 'gone' cannot be used: ModelError: domain 'gone': gemello_gone.registry needs the package gemello_gone"
    )
    assert said[2].startswith("domain 'ours': the model name 'pk1_oral' is taken; ask for 'x:y'")
