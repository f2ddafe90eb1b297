"""Formulas against R 4.2.2 (model.matrix) where R's answer is plain, and against what nobody should get away with."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.survival.cox import cox

TABLE = pl.DataFrame(
    {
        "y": [1.0, 2.0, 4.0, 3.0, 6.0, 5.0],
        "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
        "z": [2.0, 1.0, 4.0, 3.0, 6.0, 4.0],
        "arm": ["a", "b", "a", "b", "a", "b"],
        "g": ["u", "u", "v:w", "v:w", "u", "v:w"],
        "q__0": [3.0, 1.0, 2.0, 5.0, 4.0, 4.0],
        "my col": [1.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        "log(x)": [9.0, 8.0, 9.0, 8.0, 7.0, 9.0],
    }
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I(x^2 + 1)", lambda x, z: x**2 + 1),
        ("I(2*x^2)", lambda x, z: 2 * x**2),
        ("I(x^2/100)", lambda x, z: x**2 / 100),
        ("I(-x^2)", lambda x, z: -(x**2)),
        ("I(z - x - 1)", lambda x, z: z - x - 1),
        ("I(2^-x*z)", lambda x, z: z / 2**x),
        ("I(x*10^20)", lambda x, z: x * 1e20),
    ],
)
def test_powers_bind_as_in_r(text, value):
    column = design(f"y ~ {text}", TABLE).matrix[:, 1]
    np.testing.assert_allclose(column, value(TABLE["x"].to_numpy(), TABLE["z"].to_numpy()), rtol=1e-14)


def test_an_interaction_binds_before_a_product():
    # R 4.2.2: colnames(model.matrix(~ x * z:arm))
    assert design("y ~ x*z:arm", TABLE).names == ("(Intercept)", "x", "z:arma", "z:armb", "x:z:arma", "x:z:armb")
    assert design("y ~ z:arm*x", TABLE).names == ("(Intercept)", "x", "z:arma", "z:armb", "z:arma:x", "z:armb:x")
    assert [len(t) for t in Formula.parse("y ~ x + z - x:z").terms] == [1, 1]


def test_without_an_intercept_only_the_first_factor_has_all_levels():
    # R 4.2.2: colnames(model.matrix(~ 0 + x + arm + g))
    assert design("y ~ 0 + x + arm + g", TABLE).names == ("x", "arma", "armb", "gv:w")


def test_words_with_signs_and_columns_with_odd_names():
    assert design("y ~ I(g == 'v:w')", TABLE).matrix[:, 1].tolist() == [0, 0, 1, 1, 0, 1]
    d = design("y ~ `my col` + q__0 + log(x) + `log(x)`\n", TABLE)
    assert d.matrix.shape == (6, 5)
    np.testing.assert_array_equal(d.matrix[:, 1:3], TABLE.select("my col", "q__0").to_numpy())
    assert Formula.parse("y ~ q__7").columns == ("q__7", "y")


def test_a_comparison_with_a_missing_value_is_missing():
    table = TABLE.with_columns(x=pl.Series([1.0, None, 3.0, 4.0, 5.0, 7.0]), arm=pl.Series(["a", "b", None, "b", "a", "b"]))
    d = design("I(x > 3) + I(arm > 'a')", table, keep_missing=True)
    assert np.argwhere(np.isnan(d.matrix)).tolist() == [[1, 1], [2, 2]]
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    s = pl.DataFrame({"t": rng.exponential(size=60), "e": np.ones(60), "x": x}).with_columns(
        x=pl.when(pl.int_range(60) % 6 == 0).then(None).otherwise(pl.col("x"))
    )
    some, whole = (cox("I(x > 0)", t, time="t", event="e") for t in (s, s.drop_nulls()))
    assert some.values[0] == whole.values[0]


@pytest.mark.parametrize(
    "text",
    [
        "y ~ log(x, base=2)", "y ~ I(3)", "y ~ log(2)", "y ~ -5", "y ~ x + True", "y ~ x:1", "y ~ x # + z", "y ~ x^2", "y ~ x**2",
        "y ~ I(arm > 1)", "y ~ I(arm == 1)", "y ~ I(x == 'a')", "y ~ I(x + 1" + "0" * 400 + ")", "y ~ x\0",
        "y ~ " + "-" * 2000 + "x", "y ~ " + "+".join(["x"] * 2000), "y ~ I(" + "+".join(["x"] * 2000) + ")",
        "y ~ " + "*".join(f"`c{i}`" for i in range(30)), "y ~ " + "log(" * 900 + "x" + ")" * 900,
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(DataError):
        design(text, TABLE)


def test_a_factor_of_many_levels_is_refused_before_its_matrix_is_built():
    n = 100_000  # the matrix would take 80 GB
    table = pl.DataFrame({"y": np.zeros(n), "who": [f"s{i}" for i in range(n)]})
    with pytest.raises(DataError, match="too many levels"):
        design("y ~ who", table)
    many = [f"s{i}" for i in range(900)]
    with pytest.raises(DataError, match="too many levels"):
        design("y ~ a:b", pl.DataFrame({"y": np.zeros(900), "a": many, "b": many}))


def test_minus_nought_is_nought():
    table = TABLE.with_columns(z=pl.Series([0.0, -0.0, 1.0, 1.0, 0.0, 1.0]))
    assert design("y ~ factor(z)", table).names == ("(Intercept)", "factor(z)1")
