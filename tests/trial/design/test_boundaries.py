"""Group-sequential boundaries: rpact's values, and laws that hold for every design."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from gemello.base.errors import DataError, UnsupportedError
from gemello.base.random import generator
from gemello.base.reference import reference_data
from gemello.trial.authorities import design as authority
from gemello.trial.design import recursion
from gemello.trial.design.boundaries import GroupSequential, group_sequential
from gemello.trial.design.spending import spending


def test_every_reference_value() -> None:
    folder = reference_data("trial")
    if folder is None:
        pytest.skip("no reference data of trials: set GEMELLO_DATA")
    found = list(authority.checks(folder))
    assert len(found) == 357
    assert [c for c in found if not c["passed"]] == []


def test_published_tables() -> None:
    """Jennison & Turnbull 1999, tables 2.1 and 2.3 (two-sided 0.05): constants of Pocock and O'Brien–Fleming; printed digits."""
    for k, pocock, obrien in ((2, 2.178, 1.977), (5, 2.413, 2.040), (10, 2.555, 2.087)):
        assert group_sequential(k, "P", alpha=0.05, sides=2).upper[-1] == pytest.approx(pocock, abs=6e-4)
        assert group_sequential(k, "OF", alpha=0.05, sides=2).upper[-1] == pytest.approx(obrien, abs=6e-4)


def test_two_stages_against_a_double_integral() -> None:
    """P(Z1 in (−0.3, 2.2), Z2 > 2.1) at drift 2, fractions 0.4 and 1: SciPy's adaptive quadrature of the conditional normal."""
    t, drift = 0.4, 2.0

    def inner(z: float) -> float:
        tail = stats.norm.sf((2.1 - z * np.sqrt(t) - drift * (1 - t)) / np.sqrt(1 - t))
        return float(stats.norm.pdf(z - drift * np.sqrt(t)) * tail)

    known = integrate.quad(inner, -0.3, 2.2, epsabs=1e-13)[0]
    lower, upper = recursion.crossing(np.array([t, 1.0]), drift, np.array([-0.3, -np.inf]), np.array([2.2, 2.1]))
    assert upper[1] == pytest.approx(known, abs=1e-12)
    assert lower[0] == pytest.approx(stats.norm.cdf(-0.3 - drift * np.sqrt(t)), abs=1e-14)


def test_crossing_against_simulation() -> None:
    """400,000 random walks of five unequal stages with futility: within 4.5 binomial errors (ten numbers: false alarm 7e-5)."""
    t = np.array([0.1, 0.15, 0.5, 0.52, 1.0])
    low, high = np.array([-1.0, -0.5, 0.0, 0.2, -np.inf]), np.array([3.0, 2.8, 2.5, 2.4, 2.0])
    low_p, high_p = recursion.crossing(t, 1.5, low, high)
    n = 400_000
    steps = generator(3, "walks").standard_normal((n, 5)) * np.sqrt(np.diff(t, prepend=0)) + 1.5 * np.diff(t, prepend=0)
    z = steps.cumsum(axis=1) / np.sqrt(t)
    on = np.ones(n, bool)
    for k in range(5):
        for p, hit in ((low_p[k], on & (z[:, k] < low[k])), (high_p[k], on & (z[:, k] > high[k]))):
            assert abs(hit.mean() - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1e-12
        on &= (z[:, k] >= low[k]) & (z[:, k] <= high[k])


@settings(max_examples=12, deadline=None)
@given(
    parts=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4), kind=st.sampled_from(["OF", "P", "asOF", "asP", "HP", "asHSD"]),
    alpha=st.sampled_from([0.02, 0.025, 0.05]), sides=st.sampled_from([1, 2]),
)  # fmt: skip
def test_the_whole_level_is_spent_and_power_is_reached(parts: list[float], kind: str, alpha: float, sides: int) -> None:
    fractions = (np.cumsum(parts) / np.sum(parts)).tolist()
    fractions[-1] = 1.0
    d = group_sequential(fractions, kind, alpha=alpha, sides=sides, parameter=-2.0)
    assert d.alpha_spent[-1] == pytest.approx(alpha, abs=1e-9)
    assert (np.diff(d.alpha_spent) > 0).all()
    assert d.power(d.drift(0.8)) == pytest.approx(0.8, abs=1e-9)
    assert d.inflation_at(0.8) >= 1 - 1e-9
    assert d.expected_fraction(d.drift(0.8)) <= 1 + 1e-12


@pytest.mark.parametrize("binding", [False, True])
@pytest.mark.parametrize("futility", ["bsOF", "bsP"])
def test_futility_spends_its_error(binding: bool, futility: str) -> None:
    """At the drift of the plan the power is 1 − beta; the level holds with the bounds obeyed (binding) or ignored (not)."""
    d = group_sequential(4, "asOF", beta=0.2, futility=futility, binding=binding)
    lower, upper = d.crossing(d.drift())
    assert upper.sum() == pytest.approx(0.8, abs=1e-9)
    assert d.lower[-1] == d.upper[-1]
    obeyed, ignored = (d.crossing(0.0, futility=f)[1].sum() for f in (True, False))
    assert (obeyed if binding else ignored) == pytest.approx(0.025, abs=1e-9)
    assert obeyed < ignored
    assert (np.diff(d.lower) > 0).all()
    spent = spending(futility[2:], 0.2)(d.fractions)
    assert np.cumsum(lower[:-1]) == pytest.approx(spent[:-1], abs=1e-9)


def test_one_stage_is_the_fixed_test() -> None:
    for kind in ("OF", "P", "asOF", "none"):
        d = group_sequential(1, kind)
        assert d.upper[0] == pytest.approx(stats.norm.isf(0.025), abs=1e-10)
        assert d.inflation == pytest.approx(1.0, abs=1e-10)


def test_families_meet() -> None:
    """Wang–Tsiatis 0 and ½ are O'Brien–Fleming and Pocock; Hwang–Shih–DeCani 0 and Kim–DeMets 1 spend in proportion."""

    def upper(kind: str, parameter: float = 0.0) -> np.ndarray:
        return group_sequential(3, kind, parameter=parameter).upper

    assert upper("WT", 0.0) == pytest.approx(upper("OF"), abs=1e-10)
    assert upper("WT", 0.5) == pytest.approx(upper("P"), abs=1e-10)
    assert upper("asHSD", 0.0) == pytest.approx(upper("asKD", 1.0), abs=1e-10)


@pytest.mark.parametrize(
    ("stages", "options", "error", "words"),
    [
        (0, {}, DataError, "no number of stages"),
        ([0.5, 0.4, 1.0], {}, DataError, "do not rise"),
        ([0.5, 0.9], {}, DataError, "do not rise"),
        ([0.5, 0.5001, 1.0], {}, DataError, "by 0.001 or more"),
        (2, {"kind": "zz"}, DataError, "unknown design"),
        (2, {"alpha": 0.7}, DataError, "no level"),
        (2, {"sides": 3}, DataError, "sides"),
        (2, {"futility": "bsOF", "sides": 2}, UnsupportedError, "one side, at half the level"),
        (2, {"kind": "WT", "parameter": 3.0}, DataError, "Wang–Tsiatis"),
        (2, {"kind": "HP", "alpha": 0.001}, DataError, "interim bounds alone spend"),
    ],
)
def test_bad_input(stages: object, options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        group_sequential(stages, **options)  # type: ignore[arg-type]


def test_power_out_of_reach_is_told() -> None:
    d: GroupSequential = group_sequential(2)
    with pytest.raises(DataError, match="no power"):
        d.drift(0.01)
