"""Runs the command line in this process, and a model file of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gemello.cli.main import main

MODEL = """
import jax.numpy as jnp
from gemello.model.contract import Model, Output, Port, Residual
from gemello.model.parameters import Parameter, ParameterTable

class Decay(Model):
    name, version, time_unit = "decay", "1", "h"
    states, ports = {"a": "mg"}, (Port("a", "mg", state="a"),)
    outputs = (Output("cp", "mg/L", Residual("add")),)
    parameters = ParameterTable((
        Parameter("k", 0.5, "1/h", distribution="lognormal", variance=0.09), Parameter("V", 10.0, "L"),
        Parameter("add", 0.1, "mg/L", kind="residual"),
    ))
    def derivative(self, t, y, p, u): return self.state_type(-p.k * y.a)
    def matrix(self, p): return ((-p.k,),)
    def observe(self, t, y, p, u): return (y.a / p.V,)

class Lost(Decay):
    name = "lost"
    def matrix(self, p): return ((-p.k * jnp.nan,),)

class Broken(Decay):
    name = "broken"
    def observe(self, t, y, p, u): raise KeyError("in the\\nmodel")

decay, lost, broken = Decay(), Lost(), Broken()
"""

DATA = "ID,TIME,EVID,AMT,DV,KI\n1,0,1,100,.,0.5\n1,1,0,0,6,0.5\n2,0,1,50,.,0.1\n2,2,0,0,.,0.1\n"


class Result(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """The last word on standard error, which must be one line and no traceback."""
        assert "Traceback" not in self.err + self.out
        return self.err.splitlines()[-1]


@pytest.fixture
def gemello(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run `gemello` with these arguments."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as e:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Result(int(e.value.code or 0), out, err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with model.py and data.csv."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "data.csv").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    return tmp_path
