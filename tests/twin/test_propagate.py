"""Many draws through many schedules are each what `simulate` gives alone."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.model.population import PopulationParameters
from gemello.model.registry import get
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate
from gemello.twin.propagate import propagate

PLANS = [
    Schedule().dose(0.0, 100.0).observe([1.0, 5.0, 30.0]).dose(24.0, 50.0, duration=2.0),
    Schedule().dose(0.0, 80.0, every=8.0, times=4).observe([2.0, 7.0, 20.0, 33.0, 40.0]),
    Schedule().dose(3.0, 10.0).observe(12.0),
]


@pytest.mark.parametrize(("name", "tolerance"), [("pk1_oral", 1e-10), ("mm1_iv", 1e-4), ("pheno", 1e-10)])
def test_draws_agree_with_simulate(name: str, tolerance: float) -> None:
    """Closed form: to rounding. Adaptive: within 100 times the solver's relative tolerance. pheno: covariates that change."""
    model = get(name)
    parameters = PopulationParameters.of(model)
    plans = PLANS
    if name == "pheno":
        plans = [p.covariates(WGT=1.5, APGR=6.0).change(10.0, WGT=2.5) for p in PLANS]
    subjects = [Subject(str(k), p) for k, p in enumerate(plans)]
    etas = 0.3 * np.random.default_rng(1).standard_normal((3, 37, len(parameters.eta_names)))
    names = [o.name for o in model.outputs]
    found = propagate(model, parameters, subjects, etas, names)
    assert not found.failed.any()
    for k, s in enumerate(subjects):
        alone = simulate(model, [s] * 37, parameters.theta, etas=etas[k]).check()
        for n in names:
            got, want = found.outputs[n][k, :, : len(s.schedule)], alone.outputs[n]
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * np.abs(want).max())


def test_the_same_draws_in_all_subjects() -> None:
    model = get("pk1_iv")
    parameters = PopulationParameters.of(model)
    subjects = [Subject("1", PLANS[0]), Subject("2", PLANS[0])]
    etas = np.random.default_rng(2).standard_normal((10, 2))
    found = propagate(model, parameters, subjects, etas, ["auc"])
    np.testing.assert_array_equal(found.outputs["auc"][0], found.outputs["auc"][1])
    assert found.outputs["auc"].shape == (2, 10, len(PLANS[0]))
