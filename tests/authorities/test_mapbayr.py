"""NONMEM's etas, their covariances and objective contributions for the 8 subjects of mapbayr's first example.

CL 4 L/h, V 70 L, KA 1 1/h, variances 0.2, proportional error of variance 0.05 (SOURCES.md beside the data).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemello.formats import nonmem
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import modes
from gemello.inference.likelihood import problem
from gemello.model import registry
from gemello.model.population import PopulationParameters


@pytest.mark.parametrize("method", ["closed", "tsit5"])
def test_etas_and_objectives(shared_data: Path, method: str) -> None:
    """By the closed form: etas within 1e-6 (NONMEM's digits), objectives 1e-3; by the ODE at rtol 1e-8, etas within 1e-4."""
    folder = shared_data / "pharmacology" / "mapbayr"
    model = registry.get("pk1_oral")
    subjects = nonmem.read(folder / "data_to_fit001.csv", model).subjects
    phi = np.loadtxt(folder / "nonmem_run001_phi.csv", delimiter=",", skiprows=1)  # SUBJECT_NO, ID, 3 ETA, 6 ETC by rows, OBJ
    values = {"CL": 4.0, "V": 70.0, "KA": 1.0, "cp_proportional": 0.05**0.5, "cp_additive": 0.0}
    parameters = PopulationParameters.of(model, values, 0.2 * np.eye(3))
    m = modes(problem(model, subjects, method=method, rtol=1e-8, atol=1e-10), population_of(parameters))
    assert [s.id for s in subjects] == [f"{i:g}" for i in phi[:, 1]]
    np.testing.assert_allclose(m.eta, phi[:, 2:5], atol=2e-6 if method == "closed" else 1e-4)
    np.testing.assert_allclose(m.laplace, phi[:, -1], atol=1e-3)
    assert m.laplace[0] == pytest.approx(27.9678, abs=1e-3)
    np.testing.assert_allclose(m.covariance[:, [0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]], phi[:, 5:11], rtol=2e-3, atol=1e-6)
