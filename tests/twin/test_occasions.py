"""Twins of a model whose clearance changes from occasion to occasion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gemello.base.errors import DataError, UnsupportedError
from gemello.domains.pharmacology.one_compartment.model import iv
from gemello.model.contract import Model
from gemello.model.parameters import ParameterTable
from gemello.model.schedule import Schedule
from gemello.twin.propagate import propagate
from gemello.twin.twin import Twin


class _Changing(type(iv)):  # type: ignore[misc]
    """pk1_iv with variability of CL between occasions."""


def changing(variance: float) -> Model:
    out = object.__new__(_Changing)
    out.__dict__.update(iv.__dict__)
    for derived in ("theta_type", "individual_type"):
        out.__dict__.pop(derived, None)
    rows = tuple(replace(r, occasion_variance=variance) if r.name == "CL" else r for r in iv.parameters)
    out.parameters = ParameterTable(rows, dict(iv.parameters.covariances))
    out.name = "pk1_iv_changing"
    return out


MODEL = changing(0.25)
BOLUSES = Schedule().dose(0.0, 100.0, every=24.0, times=3)
SEEN = BOLUSES.observe([1.0, 12.0], [4.6, 1.0]).covariates(OCC=1.0)


def course(occ: float) -> Schedule:
    s = Schedule().observe(np.array([49.0, 60.0]))
    return replace(s, columns={"OCC": np.full(2, occ)})


def spread_at_60(twin: Twin, occ: float) -> float:
    return float(np.std(np.log(twin.forecast(course(occ), outputs="cp", seed=1)["cp"].prediction.draws[:, -1])))


def test_a_new_occasion_is_less_certain_than_the_one_that_was_seen() -> None:
    twin = Twin.new(MODEL, id="7", draws=1000).assimilate(SEEN, draws=1000, seed=1)
    assert twin.posterior.draws.shape[1] == len(MODEL.parameters.eta_names) + 1
    assert spread_at_60(twin, 2.0) > 1.3 * spread_at_60(twin, 1.0)


def test_before_any_data_both_variances_count() -> None:
    """At the same bolus ln C falls by CL/V t: with V fixed by hand its spread is that of CL, whose variances add up."""
    draws = np.random.default_rng(1).standard_normal((20_000, len(MODEL.parameters.eta_names))) * 0.0
    names = list(MODEL.parameters.eta_names)
    draws[:, names.index("CL")] = 0.3 * np.random.default_rng(2).standard_normal(20_000)
    twin = Twin.new(MODEL, id="7")
    from gemello.model.schedule import Subject

    who = [Subject("7", Schedule().dose(0.0, 100.0).observe([0.0, 5.0]))]
    cp = propagate(MODEL, twin.parameters, who, draws, ["cp"]).outputs["cp"][0]
    keep = np.flatnonzero(who[0].schedule.evid == 0)
    fall = np.log(cp[:, 1]) - np.log(cp[:, keep[-1]])  # after the dose, and 5 h later
    assert np.std(np.log(fall)) == pytest.approx(np.sqrt(0.09 + 0.25), rel=0.03)  # 20,000 draws: standard error 0.5 %


def test_data_that_do_not_count_occasions_are_asked_about() -> None:
    with pytest.raises(DataError, match="OCC"):
        Twin.new(MODEL, id="7").assimilate(BOLUSES.observe([1.0], [4.0]))


def test_drift_beside_occasions_is_refused() -> None:
    from gemello.twin.data import assimilate_many

    with pytest.raises(UnsupportedError, match="do not drift"):
        assimilate_many([Twin.new(MODEL, id="7")], [SEEN], drift=0.01)
