"""Covariate effects around a model: the forms against their definitions, neutral at 0, refusals, and the contract's own
checks."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError, ModelError
from gemello.model import registry
from gemello.model.conformance import conformance
from gemello.model.contract import Model
from gemello.model.effects import Effect, coefficients, with_columns, with_effects
from gemello.model.individuals import individual
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

PK = registry.get("pk1_iv")
WEIGHTS, SEXES, RACES = (50.0, 60.0, 70.0, 80.0, 120.0), (0.0, 1.0, 1.0, 0.0, 1.0), (1.0, 2.0, 3.0, 1.0, 1.0)


def people() -> list[Subject]:
    plain = Schedule().dose(0.0, 100.0).observe([1.0, 4.0], [1.5, 1.2])
    return [
        Subject(str(i), plain.covariates(WT=w, SEX=s, RACE=r))
        for i, (w, s, r) in enumerate(zip(WEIGHTS, SEXES, RACES, strict=True))
    ]


def typical(model: Model, theta: dict[str, float], **cov: float) -> dict[str, float]:
    """Individual parameters at these coefficients and covariates."""
    values = [theta.get(n, model.parameters[n].value) for n in model.theta_type._fields]
    p = individual(model, model.theta_type(*values), (0.0, 0.0), model.covariate_type(**cov))
    return {k: float(v) for k, v in p._asdict().items()}


@pytest.mark.parametrize(
    ("form", "theta", "covariates", "expected"),
    [
        ("power", {"CL_WT": 0.75}, {"WT": 35.0}, 0.5**0.75),
        ("linear", {"CL_WT": 0.01}, {"WT": 90.0}, 1.2),
        ("exponential", {"CL_WT": -0.02}, {"WT": 90.0}, np.exp(-0.4)),
        ("hockey-stick", {"CL_WT_low": 0.02, "CL_WT_high": -0.001}, {"WT": 60.0}, 0.8),
        ("hockey-stick", {"CL_WT_low": 0.02, "CL_WT_high": -0.001}, {"WT": 90.0}, 0.98),
    ],
)
def test_forms_of_a_number(x64: None, form: str, theta: dict[str, float], covariates: dict[str, float], expected: float) -> None:
    """Against the formulas, centre 70 kg (the subjects' median)."""
    m = with_effects(PK, [Effect("CL", "WT", form)], subjects=people(), units={"WT": "kg"})  # type: ignore[arg-type]
    assert m.effects[0].centre == 70.0  # type: ignore[attr-defined]
    assert typical(m, theta, **covariates)["CL"] == pytest.approx(5.0 * expected, rel=1e-12)
    assert typical(m, {}, **covariates)["CL"] == pytest.approx(5.0, rel=1e-12)  # neutral at 0
    assert typical(m, theta, **covariates)["V"] == 50.0


def test_categories_are_relative_to_the_most_frequent(x64: None) -> None:
    m = with_effects(PK, [Effect("V", "SEX", "categorical"), Effect("CL", "RACE", "categorical")], subjects=people())
    assert coefficients(m, Effect("V", "SEX", "categorical")) == ("V_SEX",)
    assert coefficients(m, Effect("CL", "RACE", "categorical")) == ("CL_RACE_2", "CL_RACE_3")
    theta = {"V_SEX": 0.3, "CL_RACE_2": -0.5, "CL_RACE_3": 1.0}
    assert typical(m, theta, SEX=1.0, RACE=1.0) == pytest.approx(typical(m, {}, SEX=1.0, RACE=1.0))
    moved = typical(m, theta, SEX=0.0, RACE=3.0)
    assert (moved["V"], moved["CL"]) == pytest.approx((65.0, 10.0))


def test_two_effects_on_one_parameter_multiply(x64: None) -> None:
    m = with_effects(PK, [Effect("CL", "WT", "power"), Effect("CL", "SEX", "categorical")], subjects=people(), units={"WT": "kg"})
    assert typical(m, {"CL_WT": 1.0, "CL_SEX": -0.2}, WT=35.0, SEX=0.0)["CL"] == pytest.approx(5.0 * 0.5 * 0.8)


def test_odds_of_a_share_are_multiplied(x64: None) -> None:
    """F 0.8 with twice the odds is 8/9: it never leaves (0, 1)."""
    from dataclasses import replace

    from gemello.model.parameters import ParameterTable

    class Share(type(PK)):  # type: ignore[misc]
        pass

    base = Share.__new__(Share)
    base.__dict__.update(PK.__dict__)
    rows = tuple(
        replace(r, value=0.8, upper=1.0, distribution="logitnormal", variance=0.1) if r.name == "F1" else r
        for r in PK.parameters.rows
    )
    base.parameters = ParameterTable(rows)
    for name in ("theta_type", "individual_type"):
        base.__dict__.pop(name, None)
    m = with_effects(base, [Effect("F1", "SEX", "categorical")], subjects=people())
    values = m.theta_type(*({"F1_SEX": 1.0}.get(n, m.parameters[n].value) for n in m.theta_type._fields))
    assert float(m.typical(values, m.covariate_type(SEX=0.0)).F1) == pytest.approx(8 / 9)


def test_linear_factors_stay_positive_over_the_data() -> None:
    row = with_effects(PK, [Effect("CL", "WT", "linear")], subjects=people(), units={"WT": "kg"}).parameters["CL_WT"]
    for end in (row.lower, row.upper):
        assert min(1 + end * (w - 70.0) for w in WEIGHTS) == pytest.approx(0.01)
    assert row.unit == "1/kg"


def test_declared_covariates_and_time_varying_ones(x64: None) -> None:
    """pheno declares WGT; its value in each record holds for the interval before the record, in the wrapped model too."""
    pheno = registry.get("pheno")
    m = with_effects(pheno, [Effect("CL", "WGT", "power", name="CL_W")])
    assert [c.name for c in m.covariates] == ["WGT", "APGR"]
    s = Schedule().dose(0.0, 20.0).observe([10.0, 50.0]).covariates(WGT=1.3, APGR=7.0).change(20.0, WGT=2.6)
    with_effect = simulate(m, [Subject("1", s)], {"CL_W": 1.0}).outputs["cp"]
    by_hand = simulate(pheno, [Subject("1", s)]).outputs["cp"]
    k, double = 0.00469555 / 0.984258, 2.0  # CL/V per weight; the effect doubles CL from 20 h on
    ratio = with_effect[0, -1] / by_hand[0, -1]
    assert ratio == pytest.approx(np.exp(-k * (double - 1) * 30.0), rel=1e-6)


def test_the_same_question_gives_the_same_model() -> None:
    one = with_effects(PK, [Effect("CL", "WT", "power")], subjects=people(), units={"WT": "kg"})
    assert with_effects(PK, [Effect("CL", "WT", "power")], subjects=people(), units={"WT": "kg"}) is one
    assert with_effects(PK, [Effect("CL", "WT", "linear")], subjects=people(), units={"WT": "kg"}) is not one


def test_columns_for_a_reader_change_nothing_else() -> None:
    m = with_columns(PK, {"WT": "kg"})
    assert [c.name for c in m.covariates] == ["WT"]
    assert m.parameters.rows == PK.parameters.rows
    assert m.name == PK.name


BAD = [
    (Effect("Q", "WT"), ModelError, "no individual parameter 'Q'"),
    (Effect("CL", "AGE"), DataError, "column AGE: subject 0: the covariate is missing"),
    (Effect("CL", "WT", "cubic"), ModelError, "form 'cubic'"),  # type: ignore[arg-type]
    (Effect("CL", "WT", "power", centre=-1.0), ModelError, "a power needs centre and values above 0"),
    (Effect("CL", "SEX", "power"), ModelError, "a power needs centre and values above 0"),
    (Effect("CL", "SEX", "categorical", centre=3.0), ModelError, "reference 3 of the categories 0, 1"),
    (Effect("CL", "WT", name="V"), ModelError, "the name V is taken"),
    (Effect("CL", "WT", name="not a name"), ModelError, "not a name"),
]


@pytest.mark.parametrize(("effect", "error", "message"), BAD)
def test_refusals(effect: Effect, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        with_effects(PK, [effect], subjects=people())


def test_an_undeclared_covariate_needs_data() -> None:
    with pytest.raises(ModelError, match="no covariate 'WT'; give the subjects"):
        with_effects(PK, [Effect("CL", "WT")])


FAST = ("identity", "parameter-table", "declarations", "units", "dimensions", "shapes", "tracing", "elementwise", "solvable")


@pytest.mark.parametrize(("name", "only"), [("pk1_iv", None), ("mm1_iv", FAST)])  # a closed form and an adaptive solver
def test_the_contract_holds(name: str, only: tuple[str, ...] | None) -> None:
    effects = [Effect("V", "WT", "linear"), Effect("V", "SEX", "categorical"), Effect("V", "WT", "hockey-stick", name="V_B")]
    m = with_effects(registry.get(name), effects, subjects=people(), units={"WT": "kg"})
    assert [c for c in conformance(m, only) if not c.passed] == []
