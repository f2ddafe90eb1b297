"""Bootstrap and covariate search against what they stand for: fits of resampled subjects, and fits of each model by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from gemello.base.errors import DataError, UnsupportedError
from gemello.base.random import generator
from gemello.inference.bootstrap import Bootstrap, _weights, bootstrap
from gemello.inference.covariates import Stepwise, stepwise
from gemello.inference.population import fit
from gemello.inference.refit import refit
from gemello.inference.result import Fit
from gemello.model import registry
from gemello.model.effects import Effect, with_effects
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

PK = registry.get("pk1_iv")
TIMES = np.array([1.0, 6.0, 12.0, 24.0])


def people(seed: int, n: int = 40, slope: float = 0.75) -> list[Subject]:
    """n subjects of pk1_iv, CL × (WT/70)^slope, IIV 30 %, proportional error 20 %; WT, SEX and the noise covariate X."""
    r = generator(seed, "people")
    weight, sex = np.exp(np.log(70) + 0.3 * r.standard_normal(n)), (r.uniform(size=n) < 0.5).astype(float)
    other = np.exp(0.3 * r.standard_normal(n))
    plain = [Subject(str(i), Schedule().dose(0.0, 500.0).observe(TIMES)) for i in range(n)]
    etas = 0.3 * r.standard_normal((n, 2)) + np.stack([slope * np.log(weight / 70), np.zeros(n)], axis=1)
    f = simulate(PK, plain, etas=etas).outputs["cp"][:, 1:]
    y = f * (1 + 0.2 * r.standard_normal(f.shape))
    return [
        Subject(s.id, Schedule().dose(0.0, 500.0).observe(TIMES, np.abs(y[i])).covariates(WT=weight[i], SEX=sex[i], X=other[i]))
        for i, s in enumerate(plain)
    ]


@cache
def data() -> tuple[Subject, ...]:
    return tuple(people(1))


@cache
def found() -> Fit:
    return fit(PK, data()).check()


# ---- bootstrap -----------------------------------------------------------------------------------------------------
@cache
def samples() -> Bootstrap:
    return bootstrap(PK, found(), data(), 60, seed=5)


def test_a_sample_is_a_fit_of_the_drawn_subjects() -> None:
    """Sample 0 against `fit` of the subjects that it drew, under new names: 0.1 % of each estimate, 0.001 of the objective."""
    weights = _weights(np.zeros(40, int), 5)(0)
    assert weights.sum() == 40
    drawn = [Subject(f"{s.id}.{k}", s.schedule) for s, w in zip(data(), weights, strict=True) for k in range(int(w))]
    by_hand = fit(PK, drawn).check()
    b = samples()
    np.testing.assert_allclose(b.estimates[0], [by_hand.estimates[n] for n in b.names], rtol=1e-3)
    assert b.objective[0] == pytest.approx(by_hand.objective, abs=1e-3)


def test_all_subjects_once_is_the_fit_itself() -> None:
    b, f = samples(), found()
    np.testing.assert_allclose(b.fitted, [f.estimates[n] for n in b.names], rtol=1e-3)
    assert b.converged.sum() >= 59


def test_bootstrap_errors_are_those_of_the_sandwich() -> None:
    """Both estimate the same spread. 60 samples know a standard error to 9 %; 40 subjects bring the rest: within a factor 1.6."""
    b, f = samples(), found()
    for name, se in zip(b.names, b.se, strict=True):
        assert 1 / 1.6 < se / f.se[name] < 1.6, name
    low, high = b.interval()
    assert (low < b.fitted).all()
    assert (b.fitted < high).all()
    errors = b.interval_error()
    assert (np.array(errors) > 0).all()
    assert (errors[0] < 0.5 * (high - low)).all()


def test_the_same_seed_draws_the_same_samples_whatever_their_number() -> None:
    few = bootstrap(PK, found(), data(), 3, seed=5)
    np.testing.assert_array_equal(few.estimates, samples().estimates[:3])


def test_strata_keep_their_sizes() -> None:
    groups = np.array([s.schedule.columns["SEX"][0] for s in data()]).astype(int)
    draw = _weights(groups, 3)
    for i in range(20):
        w = draw(i)
        assert [w[groups == g].sum() for g in (0, 1)] == [np.sum(groups == g) for g in (0, 1)]
    assert bootstrap(PK, found(), data(), 2, seed=5, stratify="SEX").stratified == "SEX"


def test_a_parametric_bootstrap_finds_its_own_truth() -> None:
    """The mean of 25 samples is the fit within 4 standard errors and 2 % (bias of second order)."""
    b = bootstrap(PK, found(), data(), 25, seed=1, kind="parametric")
    for k in (0, 1):
        assert abs(b.bias[k]) < 4 * b.se[k] / 5 + 0.02 * b.fitted[k], b.names[k]
    assert b.converged.sum() >= 24


def test_bootstrap_refusals() -> None:
    with pytest.raises(DataError, match="not the subjects of the fit"):
        bootstrap(PK, found(), data()[:-1], 2, seed=1)
    with pytest.raises(DataError, match="no such column"):
        bootstrap(PK, found(), data(), 2, seed=1, stratify="AGE")
    with pytest.raises(UnsupportedError, match="refits are by"):
        bootstrap(PK, found(), data(), 2, seed=1, method="saem")
    with pytest.raises(DataError, match="too few for an interval"):
        replace(samples(), converged=np.arange(60) < 10).interval()
    limits = [replace(s, schedule=replace(s.schedule, censored=(s.schedule.time == 24.0).astype(int))) for s in data()]
    with pytest.raises(UnsupportedError, match="parametric bootstrap of values beyond a limit"):
        bootstrap(PK, found(), limits, 2, seed=1, kind="parametric")


# ---- covariates ----------------------------------------------------------------------------------------------------
CANDIDATES = [
    Effect("CL", "WT", "power"),
    Effect("V", "WT", "power"),
    Effect("CL", "SEX", "categorical"),
    Effect("V", "X", "linear"),
]


@cache
def search() -> Stepwise:
    return stepwise(PK, data(), CANDIDATES, units={"WT": "kg"})


def test_the_true_effect_is_found_and_estimated() -> None:
    s = search()
    assert [(e.parameter, e.covariate) for e in s.effects] == [("CL", "WT")]
    assert abs(s.final.estimates["CL_WT"] - 0.75) < 3 * s.final.se["CL_WT"]
    assert s.final.omega[0, 0] < s.base.omega[0, 0]
    assert [x.chosen for x in s.steps if x.direction == "forward" and x.number == 1].count(True) == 1


def test_objectives_of_a_search_are_those_of_fits() -> None:
    """Candidates run in one program with coefficients held; each by itself gives the same objective (0.002)."""
    s = search()
    for step in s.steps[:2]:
        own = fit(with_effects(PK, [step.effect], subjects=data(), units={"WT": "kg"}), data()).check()
        assert step.objective == pytest.approx(own.objective, abs=2e-3), step.label
        assert step.drop == pytest.approx(s.base.objective - own.objective, abs=2e-3)
        assert step.p == pytest.approx(stats.chi2.sf(s.base.objective - own.objective, 1), rel=0.01)
    assert s.final.objective == pytest.approx(min(x.objective for x in s.steps if x.number == 1), abs=2e-3)


def test_without_an_effect_tests_reject_as_often_as_stated() -> None:
    """30 data sets in which nothing depends on X, tested at 5 % for V and for CL: at most 9 of 60 are false positives (false
    alarm 1e-3), and p-values are uniform (Kolmogorov-Smirnov, 1e-3)."""
    truth = [Effect("CL", "X", "power"), Effect("V", "X", "power")]
    first = people(100, slope=0.0)
    whole = with_effects(PK, truth, subjects=first)
    p = []
    for k in range(30):
        again = people(100 + k, slope=0.0)
        subjects = [  # new values, the first set's covariates: one program for all
            Subject(s.id, replace(s.schedule, columns=f.schedule.columns)) for s, f in zip(again, first, strict=True)
        ]
        base = fit(PK, subjects).check()
        target = refit(whole, subjects, base, also=("CL_X", "V_X"))
        hessian = target.hessian(target.x0, target.etas)
        for name in ("CL_X", "V_X"):
            free = np.array([n not in ("CL_X", "V_X") or n == name for n in target.names])
            there = target.search(target.x0, target.etas, hessian, free=free)
            assert there.converged
            p.append(float(stats.chi2.sf(max(base.objective - there.objective, 0.0), 1)))
    assert sum(v < 0.05 for v in p) <= 9
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_a_pair_takes_one_form_only() -> None:
    forms = [Effect("CL", "WT", f) for f in ("power", "linear", "exponential")]
    s = stepwise(PK, data(), forms, units={"WT": "kg"})
    assert len(s.effects) == 1
    assert {x.number for x in s.steps if x.direction == "forward"} == {1}
    assert {x.effect.name for x in s.steps} == {"CL_WT_power", "CL_WT_linear", "CL_WT_exponential"}


def test_backward_takes_out_what_forward_let_in() -> None:
    """With a forward limit of 0.9 everything comes in; backward at 0.01 leaves the true effect."""
    s = stepwise(PK, data(), CANDIDATES, units={"WT": "kg"}, forward=0.9)
    assert len([x for x in s.steps if x.direction == "forward" and x.chosen]) >= 3
    assert [(e.parameter, e.covariate) for e in s.effects] == [("CL", "WT")]


def test_cautions_are_said() -> None:
    few = [*data()[:36], *(replace(s, schedule=s.schedule.covariates(SEX=2.0)) for s in data()[36:])]
    s = stepwise(
        PK,
        few,
        [Effect("CL", "SEX", "categorical"), Effect("CL", "WT", "power")],
        units={"WT": "kg"},
        backward=0.99,
        forward=0.999,
    )
    text = " ".join(s.cautions)
    assert "would pass p < 0.999 by chance" in text
    assert "only 4 subjects have SEX 2" in text


def test_search_refusals() -> None:
    with pytest.raises(DataError, match="no candidates"):
        stepwise(PK, data(), [])
    with pytest.raises(DataError, match="p-values are between 0 and 1"):
        stepwise(PK, data(), CANDIDATES, forward=5.0)
    with pytest.raises(UnsupportedError, match="likelihood-ratio tests need"):
        stepwise(PK, data(), CANDIDATES, method="saem")
