"""Assimilation: what the twin believes, how it stays readable, and what it refuses. Authorities: posologyr for vancomycin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.inference.gaussian import OMEGA, exact, line, observed

from gemello.base.errors import DataError, ModelError
from gemello.inference.ensemble import moments
from gemello.model.population import PopulationParameters
from gemello.model.registry import get
from gemello.model.schedule import Schedule, Subject
from gemello.twin.data import assimilate_many
from gemello.twin.record import Record
from gemello.twin.twin import Twin, assimilate_subjects, new_twins

TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.4, -0.3])


def test_vancomycin_patient_02() -> None:
    """posologyr's MAP estimates with Goti 2018: CL 1.72 L/h, Vc 59.8 L, Vp 41.6 L, each to 1 %."""
    twin = Twin.new(get("vancomycin_goti2018"), covariates={"CLCREAT": 34.0, "WT": 62.0, "DIAL": 0.0}, id="02")
    data = Schedule().dose(0.0, 1900.0, duration=1.0).observe(12.0, 14.8).dose(22.2, 1750.0, duration=1.0).observe(37.5, 22.5)
    got = twin.assimilate(data, seed=1).posterior
    for name, value in {"CL": 1.72, "V1": 59.8, "V2": 41.6}.items():
        assert got.individual_mode[name] == pytest.approx(value, rel=0.01)
    assert got.doubt is None
    table = got.table()
    assert table["parameter"].to_list() == ["CL", "V1", "V2"]
    assert table["unit"].to_list() == ["L/h", "L", "L"]
    assert ((table["low"] < table["median"]) & (table["median"] < table["high"])).all()


def test_a_new_twin_believes_its_population() -> None:
    twin = Twin.new(line, covariates={"WT": 70.0}, draws=2048)
    p = twin.posterior
    assert (p.observations, p.ess, p.doubt) == (0, 2048.0, None)
    np.testing.assert_allclose(np.cov(p.draws.T), OMEGA, atol=0.01)
    assert p.typical == {"a": 2.0, "b": -0.5}


def test_in_parts_or_at_once_is_the_same() -> None:
    """The exact posterior, whatever the order in which data came; each step stays readable."""
    mean, covariance, _ = exact(TIMES, VALUES)
    start = Twin.new(line, covariates={"WT": 70.0})
    base = start.assimilate(Schedule.of(0.0, evid=2))
    once = base.assimilate(Schedule().observe(TIMES, VALUES), seed=4)
    steps = base
    for i in (2, 0, 1):  # the last one first
        steps = steps.assimilate(Schedule().observe(TIMES[i], VALUES[i]), seed=4)
    for twin in (once, steps):
        np.testing.assert_allclose(twin.posterior.mode, mean, atol=1e-8)
        np.testing.assert_allclose(twin.posterior.covariance, covariance, rtol=1e-7)
        got, _ = moments(twin.posterior.draws[None], twin.posterior.weights[None])
        assert np.all(np.abs(got[0] - mean) < 4 * np.sqrt(np.diagonal(covariance) / twin.posterior.ess))
    assert [p.observations for p in (*steps.history, steps.posterior)] == [0, 0, 1, 2, 3]
    assert start.posterior.observations == 0
    assert len(start.record) == 0
    early = exact(TIMES[2:], VALUES[2:])[0]
    np.testing.assert_allclose(steps.history[2].mode, early, atol=1e-8)


def test_evidence_is_the_product_of_its_parts() -> None:
    """ln p(y1, y2) minus ln p(y1) from two assimilations against the closed form; Monte Carlo error at 4,000 draws."""
    base = Twin.new(line, covariates={"WT": 70.0}).assimilate(Schedule.of(0.0, evid=2))
    one = base.assimilate(Schedule().observe(TIMES[:1], VALUES[:1]), draws=4000)
    two = one.assimilate(Schedule().observe(TIMES[1:], VALUES[1:]), draws=4000)
    difference = two.posterior.log_evidence - one.posterior.log_evidence
    assert difference == pytest.approx(exact(TIMES, VALUES)[2] - exact(TIMES[:1], VALUES[:1])[2], abs=0.05)


def test_same_seed_same_bits_and_provenance() -> None:
    data = observed(TIMES, VALUES).schedule
    a, b, c = (Twin.new(line, id="9").assimilate(data, seed=s).posterior for s in (1, 1, 2))
    np.testing.assert_array_equal(a.draws, b.draws)
    np.testing.assert_array_equal(a.weights, b.weights)
    assert not np.array_equal(a.draws, c.draws)
    assert a.provenance.identity() == b.provenance.identity()
    assert a.provenance.model == "line"
    assert a.provenance.seed == 1
    other = Twin.new(line, id="9").assimilate(observed(TIMES, VALUES + 0.1).schedule, seed=1).posterior
    assert other.provenance.data_hash != a.provenance.data_hash
    moved = PopulationParameters.of(line, {"a": 2.5})
    assert (
        Twin.new(line, moved, id="9").assimilate(data, seed=1).posterior.provenance.parameter_hash != a.provenance.parameter_hash
    )


def test_many_are_as_one() -> None:
    """Up to rounding; a subject without data among them keeps its prior, one without records its posterior."""
    subjects = [observed(TIMES, VALUES, "a"), observed(TIMES, VALUES + 1.0, "b")]
    twins = assimilate_subjects(line, None, subjects, draws=500, seed=3)
    for s, t in zip(subjects, twins, strict=True):
        alone = Twin.new(line, id=s.id).assimilate(s.schedule, draws=500, seed=3)
        np.testing.assert_allclose(t.posterior.draws, alone.posterior.draws, atol=1e-8)
    fresh = new_twins(line, None, ["a", "c"])
    some = assimilate_many(fresh, [subjects[0].schedule, ()])
    assert some[0].posterior.observations == 3
    assert some[1] is fresh[1]


def test_a_record_may_come_whole() -> None:
    record = Record("1").add(observed(TIMES[:2], VALUES[:2]).schedule).add(Schedule().observe(TIMES[2], VALUES[2]))
    twin = Twin.new(line).assimilate(record)
    np.testing.assert_allclose(twin.posterior.mode, exact(TIMES, VALUES)[0], atol=1e-8)
    assert len(twin.record.pieces) == 2


def test_bad_input_is_named() -> None:
    with pytest.raises(ModelError, match="no covariate 'AGE'; it has WT"):
        Twin.new(line, covariates={"AGE": 3.0})
    with pytest.raises(DataError, match=r"WT, value '0.5'"):
        Twin.new(line, covariates={"WT": 0.5})
    with pytest.raises(DataError, match=r"WT.*line needs this covariate"):
        Twin.new(line).assimilate(Schedule().observe(1.0, 2.0))
    with pytest.raises(DataError, match=r"give it to Twin.new"):
        Twin.new(line).posterior.table()
    with pytest.raises(DataError, match="DVID"):
        Twin.new(line, covariates={"WT": 70.0}).assimilate(Schedule().observe(1.0, 2.0, output=1))
    one, other = Twin.new(line, id="1"), Twin.new(line, PopulationParameters.of(line, {"a": 3.0}), id="2")
    with pytest.raises(DataError, match="another model or population"):
        assimilate_many([one, other], [Schedule(), Schedule()])
    with pytest.raises(ModelError, match="theta names a; give a, b"):
        Twin.new(line, replace(PopulationParameters.of(line), theta={"a": 2.0}))


def test_outside_says_what_and_the_range() -> None:
    twin = Twin.new(line, covariates={"WT": 130.0})
    assert twin.outside() == ("WT 130 kg is outside [40, 120]",)
    assert Twin.new(line, covariates={"WT": 70.0}).outside() == ()
    grown = Twin.new(line).assimilate(Subject("1", Schedule().observe(1.0, 2.0).covariates(WT=30.0)).schedule)
    assert grown.outside() == ("WT 30 kg is outside [40, 120]",)
