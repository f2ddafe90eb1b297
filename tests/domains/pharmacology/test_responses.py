"""Pharmacodynamic and mechanistic models: declarations, limits and courses known by hand, and SciPy on equations written anew.

What each check compares and allows: `gemello.domains.pharmacology.authorities.responses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gemello.base.reference import Check
from gemello.domains.pharmacology.authorities import responses
from gemello.domains.pharmacology.authorities.responses_courses import COURSES, errors
from gemello.domains.pharmacology.responses import MODELS
from gemello.domains.pharmacology.target_binding.equations import free
from gemello.engine.lanes import precision
from gemello.model import registry
from gemello.model.schedule import Schedule
from gemello.model.simulate import simulate

PARTS = (
    responses.effect_site, responses.indirect, responses.cells, responses.tumours, responses.virus, responses.binding,
)  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_name_is_the_models_own_and_its_tables_are_whole(name: str) -> None:
    m = registry.get(MODELS[name])
    assert (m.name, m.version) == (name, "1.0")
    observed = [o for o in m.outputs if o.residual]
    assert observed
    assert all(r.source.strip() and r.description.strip() for r in m.parameters)
    assert np.linalg.eigvalsh(np.array(m.parameters.omega())).min() > 0


@pytest.mark.parametrize("part", PARTS, ids=lambda p: p.__name__)
def test_what_is_known_by_hand(part: Callable[[], Iterator[Check]]) -> None:
    found = list(part())
    assert found
    assert [c for c in found if not c["passed"]] == []


@pytest.mark.parametrize("name", COURSES)
def test_whole_courses_by_scipy(name: str) -> None:
    """All states under doses and infusions; every model but warfarin_pk, whose equations are those of pk1_oral, has a course."""
    assert set(COURSES) == set(MODELS) - {"warfarin_pk"}
    ((_, error),) = errors((name,))
    assert error < 1e-5


def test_free_drug_keeps_its_digits_where_the_target_is_in_excess() -> None:
    """C² − (Ctot − Rtot − KSS) C − KSS Ctot = 0 to rounding, where the usual form of the root has lost every digit."""
    total, target, kss = np.array([1e-12, 1e-6, 1.0, 50.0, 1e4]), np.array([1e4, 1e3, 1.0, 2.0, 0.0]), 1e-3
    with precision():
        c = np.asarray(free(total, target, kss))
    bound = target * c / (kss + c)
    np.testing.assert_allclose(c + bound, total, rtol=1e-11)
    assert (c > 0).all()


def test_a_patient_without_infection_stays_without_under_treatment() -> None:
    """R0 below 1: no virus to begin with, and viral load reads the floor of the logarithm, not a number out of nothing."""
    m = registry.get(MODELS["hiv_dynamics"])
    plan = Schedule().signal(0.0, 1.0, port=1).observe([10.0, 100.0])
    got = simulate(m, plan, {"K": 1e-9}).check().outputs
    assert (got["rna"] == 0).all()
    np.testing.assert_allclose(got["log10_rna"], -30.0)
    np.testing.assert_allclose(got["cd4"], 1000.0, rtol=1e-9)


def test_the_lag_of_warfarin_delays_concentration_and_effect() -> None:
    """Nothing happens for ALAG1 = 3 h; then the course is that of no lag, 3 h later."""
    m = registry.get(MODELS["warfarin_pkpd"])
    plan = Schedule().dose(0.0, 100.0).covariates(WT=70.0)
    t = np.array([2.0, 8.0, 30.0, 100.0])
    late = simulate(m, plan.observe(t + 3.0), {"ALAG1": 3.0}, rtol=1e-9).check().outputs
    soon = simulate(m, plan.observe(t), {"ALAG1": 0.0}, rtol=1e-9).check().outputs
    for name in ("cp", "pca"):
        np.testing.assert_allclose(late[name][0, 1:], soon[name][0, 1:], rtol=1e-6)
    before = simulate(m, plan.observe([1.0, 2.9]), {"ALAG1": 3.0}).check().outputs
    assert (before["cp"] == 0).all()
    np.testing.assert_allclose(before["pca"], m.parameters["E0"].value, rtol=1e-12)


@pytest.mark.parametrize("part", [responses.warfarin, responses.xenografts], ids=lambda p: p.__name__)
def test_fits_to_real_data(part: Callable[[Path], Iterator[Check]], shared_data: Path) -> None:
    found = list(part(shared_data / "pharmacology"))
    assert found
    assert [c for c in found if not c["passed"]] == []
