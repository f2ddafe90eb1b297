"""NONMEM's own answers to 29 dosing designs (3,837 records) and to covariates that change over time.

Data: nmtests (Baron, K. T. and others, Metrum Research Group), see SOURCES.md beside them: input records and the concentrations
that NONMEM gave. One compartment with a depot, CL 1.1 L/h, V 20 L, KA 1.5 1/h; concentrations are in ug/L of doses in mg.
Tolerance: 1e-4 of the reference, or of 1 ug/L where that is more; the references have five significant digits.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.domains.pharmacology.linear_pk import LinearPK
from gemello.model import registry
from gemello.model.contract import Covariate
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

TOLERANCE = 1e-4
VALUES = {"CL": 1.1, "V": 20.0, "KA": 1.5}
BIND = {"ALAG2": "LAGT", "F2": "BIOAV", "D2": "DUR2"}  # for doses into the central compartment alone, as in the control stream
METHODS = ("closed", "expm", "tsit5")


class Design(NamedTuple):
    """Subjects, NONMEM's concentrations (records,) in the order of the records, and the design each belongs to."""

    subjects: list[Subject]
    reference: NDArray[np.float64]
    number: NDArray[np.int64]


def read(folder: Path, data: str, results: str, *covariates: str) -> Design:
    with (folder / data).open(newline="") as f:
        rows = list(csv.DictReader(f))
    with (folder / results).open(newline="") as f:
        reference = np.array([float(r["CP"]) for r in csv.DictReader(f)])
    return Design(
        [subject(i, rows, covariates) for i in dict.fromkeys(r["ID"] for r in rows)],
        reference,
        np.array([int(r["ID"]) for r in rows]),
    )


def subject(number: str, rows: list[dict[str, str]], covariates: tuple[str, ...]) -> Subject:
    own = [r for r in rows if r["ID"] == number]
    column = lambda c: [float(r[c]) for r in own]  # noqa: E731
    names = {
        "evid": "evid",
        "port": "cmt",
        "amount": "amt",
        "rate": "rate",
        "interval": "ii",
        "additional": "addl",
        "steady_state": "ss",
    }
    columns = {c: column(c) for c in ("LAGT", "BIOAV", "DUR2", *covariates)}
    return Subject(number, Schedule.of(column("time"), columns=columns, **{k: column(c) for k, c in names.items()}))


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "pharmacology" / "nmtests"


@pytest.fixture(scope="module")
def designs(folder: Path) -> Design:
    return read(folder, "dosing_data_1001.csv", "dosing_results_1001-nm.csv")


def concentrations(design: Design, model: Any, **options: Any) -> NDArray[np.float64]:
    """(records,) in ug/L."""
    out = simulate(model, design.subjects, VALUES, **options).check().outputs["cp"]
    return 1000.0 * np.concatenate([v[: len(s.schedule)] for v, s in zip(out, design.subjects, strict=True)])


def error(got: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(got - reference) / np.maximum(np.abs(reference), 1.0))


@pytest.mark.parametrize("method", METHODS)
def test_dosing_designs(designs: Design, method: str) -> None:
    got = concentrations(designs, registry.get("pk1_oral"), bind=BIND, method=method, rtol=1e-8, atol=1e-8)
    assert len(got) == len(designs.reference) == 3837
    worst = error(got, designs.reference)
    assert {
        int(i): float(worst[designs.number == i].max()) for i in range(1, 30) if not worst[designs.number == i].max() < TOLERANCE
    } == {}


def test_each_design_alone_as_among_the_others(designs: Design) -> None:
    """Lanes of one block have different events; they do not meet."""
    model = registry.get("pk1_oral")
    together = concentrations(designs, model, bind=BIND)
    alone = [concentrations(Design([s], designs.reference, designs.number), model, bind=BIND) for s in designs.subjects[::7]]
    picked = np.concatenate([together[designs.number == int(s.id)] for s in designs.subjects[::7]])
    np.testing.assert_allclose(np.concatenate(alone), picked, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_covariates_that_change_over_time(folder: Path, method: str) -> None:
    """CL follows weight, which holds since the record before; additional doses between records included."""
    design = read(folder, "time-varying_data_2001.csv", "time-varying_results_2001-nm.csv", "WT")
    plain = registry.get("pk1_oral")
    assert isinstance(plain, LinearPK)
    allometric = LinearPK(
        "pk1_oral by weight", plain._constants, plain.parameters, plain.card, plain.outputs, oral=True,
        covariates=(Covariate("WT", "kg", 40.0, 120.0, 70.0),),
        typical=lambda theta, cov: {"CL": theta.CL * (cov.WT / 70.0) ** 0.75},
    )  # fmt: skip
    got = concentrations(design, allometric, method=method, rtol=1e-8, atol=1e-8)
    assert error(got, design.reference).max() < TOLERANCE
    constant = concentrations(design, plain, method=method, rtol=1e-8, atol=1e-8)
    assert error(constant, design.reference).max() > 0.02  # the design can tell


def test_modelled_rate_by_the_closed_form_of_an_infusion() -> None:
    """RATE -1: rate R1 into the central compartment, so amount/R1 long: C = R/CL (1 - exp(-k min(t, T))) exp(-k (t - T)+)."""
    times = np.array([0.5, 2.0, 3.9, 4.1, 9.0])
    s = Schedule.of([0.0, *times], evid=[1] + [0] * 5, amount=[100.0] + [0.0] * 5, rate=[-1.0] + [0.0] * 5, port=1)
    got = simulate(registry.get("pk1_iv"), s, {"CL": 1.1, "V": 20.0, "R1": 25.0, "F1": 1.0}).outputs["cp"][0, 1:]
    k, end = 1.1 / 20.0, 4.0
    want = 25.0 / 1.1 * (1 - np.exp(-k * np.minimum(times, end))) * np.exp(-k * np.maximum(times - end, 0.0))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_bioavailability_shortens_an_infusion_of_given_or_modelled_rate_and_weakens_one_of_modelled_duration() -> None:
    """NONMEM keeps a rate that is given or modelled (R1), and a duration that is modelled (D1); F scales the amount."""
    times = np.array([0.5, 1.5, 2.5, 3.5, 6.0])
    for rate, values, length in ((25.0, {}, 2.0), (-1.0, {"R1": 25.0}, 2.0), (-2.0, {"D1": 4.0}, 4.0)):
        s = Schedule.of([0.0, *times], evid=[1] + [0] * 5, amount=[100.0] + [0.0] * 5, rate=[rate] + [0.0] * 5, port=1)
        got = simulate(registry.get("pk1_iv"), s, {"CL": 1.1, "V": 20.0, "F1": 0.5, **values}).outputs["cp"][0, 1:]
        k, speed = 1.1 / 20.0, 50.0 / length
        want = speed / 1.1 * (1 - np.exp(-k * np.minimum(times, length))) * np.exp(-k * np.maximum(times - length, 0.0))
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_other_events_change_nothing_but_are_read_out() -> None:
    plain = Schedule.of([0.0, 3.0, 7.0], evid=[1, 0, 0], amount=[100.0, 0.0, 0.0])
    other = Schedule.of([0.0, 2.0, 3.0, 5.0, 7.0], evid=[1, 2, 0, 2, 0], amount=[100.0, 0.0, 0.0, 0.0, 0.0])
    model = registry.get("pk1_oral")
    a, b = (simulate(model, s, VALUES).outputs["cp"][0] for s in (plain, other))
    np.testing.assert_allclose(b[[0, 2, 4]], a, rtol=1e-13)
    assert a[1] < b[1]  # absorption has its peak before 3 h: at 2 h more is there


def test_a_steady_state_with_a_lag_beyond_its_interval_is_refused() -> None:
    s = Schedule.of([0.0, 3.0], evid=[1, 0], port=2, amount=[100.0, 0.0], steady_state=[1, 0], interval=[6.0, 0.0])
    with pytest.raises(UnsupportedError, match=r"subject 1.*column SS: lag ALAG2 = 7 is longer than .* II = 6; shorten"):
        simulate(registry.get("pk1_oral"), s, {**VALUES, "ALAG2": 7.0})


@pytest.mark.parametrize(("rate", "word"), [(-1, "rate, which pk1_iv has not set"), (-2, "duration, which pk1_iv has not set")])
def test_a_modelled_infusion_without_its_parameter_is_refused(rate: int, word: str) -> None:
    s = Schedule.of([0.0, 3.0], evid=[1, 0], amount=[100.0, 0.0], rate=[rate, 0])
    with pytest.raises(DataError, match=word):
        simulate(registry.get("pk1_iv"), s, {"CL": 1.1, "V": 20.0})
