"""A small model whose ports, outputs and covariates differ in unit, and a way to write a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemello.model.contract import Covariate, Model, Output, Port, Residual
from gemello.model.parameters import Parameter, ParameterTable


class Two(Model):
    """Drug (mg) and glucose-like signal; outputs in mg/L and percent."""

    name, version, time_unit = "two", "1", "h"
    states = {"depot": "mg", "central": "mg"}  # noqa: RUF012  (declared once, never changed)
    outputs = (Output("cp", "mg/L", Residual("add")), Output("effect", "percent", Residual("add")))
    ports = (
        Port("depot", "mg", state="depot", lag="LAG"),
        Port("central", "mg", state="central"),
        Port("clamp", "mmol/L", kind="signal"),
    )
    covariates = (
        Covariate("WT", "kg", 40, 120, 70, possible=(0.3, 700)),
        Covariate("SEX", "1", 0, 1, 0, categorical=(0, 1)),
    )
    parameters = ParameterTable(
        (
            Parameter("CL", 1.0, "L/h", distribution="lognormal", variance=0.09),
            Parameter("V", 20.0, "L"),
            Parameter("KA", 1.5, "1/h"),
            Parameter("LAG", 0.0, "h", upper=10.0),
            Parameter("add", 0.5, "mg/L", kind="residual"),
        )
    )

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(-p.KA * y.depot, p.KA * y.depot - p.CL / p.V * y.central)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return y.central / p.V, 0.0 * y.central


class Bare(Two):
    """The same without covariates."""

    name = "bare"
    covariates = ()


@pytest.fixture(scope="session")
def two() -> Model:
    return Two()


@pytest.fixture(scope="session")
def bare() -> Model:
    return Bare()


@pytest.fixture
def csv(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write a file and give its path; lines may be separated by `/`."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "d.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.replace("/", "\n").encode())
        return path

    return write
