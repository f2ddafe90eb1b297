"""Expressions of model files: they mean what Python means, keep units, and nothing else gets through."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import ModelError
from gemello.base.units import parsed
from gemello.model.dimensions import shown, unit_of
from gemello.model.expression import DEEPEST, LONGEST, Apply, Name, compiled, names, parse

WHERE = "f.toml [s] x"
NAMES = ("a", "b", "c")
PYTHON: dict[str, Any] = {
    "if_": np.where, "exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs, "floor": np.floor,
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def value(text: str, xp: Any = np, **given: Any) -> Any:
    return compiled(parse(text, WHERE), WHERE)(given, xp)


# ---- what they mean ----------------------------------------------------------------------------------------------------
def _numbers(deeper: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Bigger expressions from smaller, with and without parentheses, so that precedence is tested too."""
    signs = st.sampled_from(["+", "-", "*", "/", "^", "**"])
    comparison = st.builds("{} {} {}".format, deeper, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), deeper)
    condition = st.one_of(
        comparison, st.builds("not ({})".format, comparison), st.builds("({}) and ({})".format, comparison, comparison),
        st.builds("({}) or ({})".format, comparison, comparison),
    )  # fmt: skip
    return st.one_of(
        st.builds("{} {} {}".format, deeper, signs, deeper),
        st.builds("({}) {} ({})".format, deeper, signs, deeper),
        st.builds("-{}".format, deeper),
        st.builds(
            "{}({})".format, st.sampled_from(["exp", "log", "log10", "sqrt", "abs", "floor", "sin", "cos", "tanh"]), deeper
        ),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), deeper, deeper),
        st.builds("if({}, {}, {})".format, condition, deeper, deeper),
    )


LEAVES = st.one_of(st.sampled_from(NAMES), st.sampled_from(["2", "0.5", "3.25", "0.001", "1"]))
EXPRESSIONS = st.recursive(LEAVES, _numbers, max_leaves=12)


@given(EXPRESSIONS, st.tuples(*[st.floats(-3.0, 3.0)] * 3))
def test_they_mean_what_python_means(text: str, at: tuple[float, ...]) -> None:
    """The same text by Python's own `eval`, float64; to 1e-12, because a^2 is a product here and a power there."""
    given = {n: np.float64(v) for n, v in zip(NAMES, at, strict=True)}
    python = re.sub(r"(?<![\w.])(\d+)(?![\w.])", r"\1.0", text.replace("^", "**").replace("if(", "if_("))
    with np.errstate(all="ignore"):
        try:
            ours = value(text, **given)
        except ModelError as e:
            assert "made of numbers alone" in str(e)  # noqa: PT017  (such as log(-2): refused, where Python gives NaN)
            return
        try:
            wanted = eval(python, {"__builtins__": {}}, PYTHON | given)
        except (OverflowError, ZeroDivisionError, TypeError):  # Python's own floats, in parts without a name
            return
        if isinstance(wanted, complex):  # (-2) ** 0.5 in Python's own floats
            return
        np.testing.assert_allclose(ours, wanted, rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-a^2", -9.0), ("2^a^2", 512.0), ("2^-a", 0.125), ("a - b - 1", 0.0), ("a / b / 2", 0.75), ("-a ** -1", -1 / 3),
        ("if(1 < b < a, 1, 2)", 1.0), ("if(b < a < 1, 1, 2)", 2.0), ("if(not a < b and a == 3, 7, 8)", 7.0),
        ("max(1, a, b)", 3.0), ("min(a, b, 2.5)", 2.0), ("70[kg] + 1.5e1[ kg ]", 85.0), ("+a", 3.0), ("(-8)^3", -512.0),
        ("exp(log(a))", 3.0), (".5 + 5.", 5.5), ("0*a", 0.0),
    ],
)  # fmt: skip
def test_by_hand(text: str, expected: float) -> None:
    assert value(text, a=np.float64(3.0), b=np.float64(2.0)) == pytest.approx(expected, rel=1e-15)


def test_arrays_and_jax(x64: None) -> None:
    """The same function runs on NumPy and JAX arrays, elementwise, in double precision, and can be differentiated."""
    import jax
    import jax.numpy as jnp

    f = compiled(parse("if(a > 1, a^0.75 * exp(-b), max(a, b)) + 0 * sqrt(abs(b))", WHERE), WHERE)
    a, b = np.array([0.5, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])
    host, device = f({"a": a, "b": b}, np), f({"a": jnp.asarray(a), "b": jnp.asarray(b)}, jnp)
    assert device.dtype == jnp.float64
    np.testing.assert_allclose(device, host, rtol=1e-14)
    slope = jax.grad(lambda a: f({"a": a, "b": 1.0}, jnp))(2.0)
    assert slope == pytest.approx(0.75 * 2.0**-0.25 * math.exp(-1.0), rel=1e-14)


def test_names_and_sizes() -> None:
    tree = parse("if(t > 1[h], a * (b + 2), exp(a))", WHERE)
    assert names(tree) == {"t", "a", "b"}
    assert isinstance(tree, Apply)
    assert (tree.size, tree.depth) == (5, 3)
    assert parse("a", WHERE) == Name("a")


# ---- units -------------------------------------------------------------------------------------------------------------
UNITS = {"x": "m", "y": "m", "s": "h", "r": "h", "n": "1", "k": "1", "v": "m/h"}


def _typed() -> dict[str, st.SearchStrategy[str]]:
    """Expressions of a length, a time and a pure number that balance by construction."""
    kinds: dict[str, st.SearchStrategy[str]] = {}
    length, time, pure = (st.deferred(lambda k=k: kinds[k]) for k in ("length", "time", "pure"))

    def same(q: st.SearchStrategy[str]) -> list[st.SearchStrategy[str]]:
        condition = st.one_of(st.builds("{} < {}".format, time, time), st.builds("{} >= 0".format, length))
        return [
            st.builds("({} {} {})".format, q, st.sampled_from("+-"), q),
            st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), q, q),
            st.builds("if({}, {}, {})".format, condition, q, q),
            st.builds("(-{})".format, q),
            st.builds("abs({})".format, q),
            st.builds("({} * {})".format, pure, q),
        ]

    kinds["length"] = st.one_of(
        st.sampled_from("xy"), *same(length), st.builds("(v * {})".format, time), st.builds("sqrt(({0}) ^ 2)".format, length),
        st.builds("(x * {} / y)".format, length),
    )  # fmt: skip
    kinds["time"] = st.one_of(st.sampled_from("sr"), *same(time), st.builds("({} / v)".format, length))
    kinds["pure"] = st.one_of(
        st.sampled_from(["n", "k", "2", "0.5"]),
        st.builds("tanh({})".format, pure), st.builds("({} / {})".format, length, length),
        st.builds("({} ^ tanh({}))".format, st.sampled_from(["n", "2"]), pure), st.builds("(s * v / {})".format, length),
    )  # fmt: skip
    return kinds


TYPED = _typed()
POSITIVE = st.tuples(*[st.floats(0.5, 2.0)] * len(UNITS))


@given(st.sampled_from(["length", "time", "pure"]).flatmap(lambda k: st.tuples(st.just(k), TYPED[k])), POSITIVE)
def test_units_are_preserved(typed: tuple[str, str], at: tuple[float, ...]) -> None:
    """What balances is accepted with its unit, and its value follows a change of the metre and the hour."""
    kind, text = typed
    wanted = {"length": "m", "time": "h", "pure": "1"}[kind]
    tree = parse(text, WHERE)
    assert shown(unit_of(tree, {n: parsed(u, WHERE) for n, u in UNITS.items()}, WHERE)) == wanted
    metre, hour = 3.7, 0.41
    scale = {"m": metre, "h": hour, "1": 1.0, "m/h": metre / hour}
    f, before = compiled(tree, WHERE), {n: np.float64(v) for n, v in zip(UNITS, at, strict=True)}
    with np.errstate(all="ignore"):
        old, new = f(before, np), f({n: v * scale[UNITS[n]] for n, v in before.items()}, np)
        np.testing.assert_allclose(new, old * scale[wanted], rtol=1e-8, atol=1e-9, equal_nan=True)


CLINICAL = {
    "CL": "L/h", "CLR": "mL/min", "V": "L", "A": "mg", "WT": "kg", "n": "1", "T": "degC", "part": "percent", "t": "h",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("CL / V * A", "mg/h"), ("A / V", "mg/L"), ("1000[ug/mg] * A / V", "ug/L"), ("0", None), ("-0", None),
        ("if(WT > 70[kg], CL, 0)", "L/h"), ("(WT / 70[kg])^0.75", "1"), ("A^0.5", "mg^0.5"), ("max(A, 0)", "mg"),
        ("T - 37[degC]", "°C"), ("(A / 1[mg])^n", "1"), ("CL + 0.06[(L/h)/(mL/min)] * CLR", "L/h"), ("floor(t / 24[h])", "1"),
        ("sqrt(A * A)", "mg"), ("A^(1/2) * A^0.5", "mg"), ("min(1, n)", "1"), ("0.01[1/percent] * part", "1"),
    ],
)  # fmt: skip
def test_units_by_hand(text: str, unit: str | None) -> None:
    got = unit_of(parse(text, WHERE), {n: parsed(u, WHERE) for n, u in CLINICAL.items()}, WHERE)
    assert (None if got is None else shown(got)) == unit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CL + CLR", r"a sum of L/h and mL/min; 1 mL/min is 0.06 L/h, so multiply the second by 0.06\[\(L/h\)/\(mL/min\)\]"),
        ("A + CL", "a sum of mg and L/h; the dimensions differ"),
        ("WT > 3", "a comparison of kg and 1; the dimensions differ"),
        ("if(n > 1, A, V)", "a choice of mg and L"),
        ("exp(CL)", r"exp of L/h, where a pure number is needed; divide by a reference, such as 1\[L/h\]"),
        ("exp(part)", r"exp of %, which is 0.01; multiply by"),
        ("A^n", r"a power of mg whose exponent is not a plain number; divide the base .* \(A / 1\[mg\]\)\^exponent"),
        ("2^CL", "an exponent of L/h"),
        ("T > 300[K]", "the dimensions differ"),
        ("n * (WT > 3[kg])", r"a product of a condition; write if\(condition, 1, 0\)"),
        ("WT > 3[kg]", r"is true or false, not a number"),
        ("if(n, 1, 2)", "the first argument of if is no condition; write a comparison, such as SEX == 1"),
        ("if(not n, 1, 2)", "not needs conditions"),
        ("if(n > 1, n > 2, 1)", "give two of a kind"),
        ("70[foo]", "unknown unit 'foo'"),
        ("1[9^9^9^9]", "unknown unit"),
        ("1[m^1000000]", "unknown unit"),
        ("1[" + "m*" * 500 + "m]", "unknown unit"),
        ("1[__import__('os')]", "unknown unit"),
    ],
)
def test_what_does_not_balance(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as e:
        unit_of(parse(text, WHERE), {n: parsed(u, WHERE) for n, u in CLINICAL.items()}, WHERE)
    assert str(e.value).startswith(WHERE)
    assert "\n" not in str(e.value)


# ---- what is refused ---------------------------------------------------------------------------------------------------
HOSTILE = {
    "__import__('os').system('true')": "a name does not begin with _",
    "_0": "a name does not begin with _",
    "a.b": "'.b' cannot be used",
    "a.__class__": "cannot be used",
    "a[0]": "a unit in brackets belongs behind a number",
    "70[kg": "a unit in brackets belongs behind a number",
    "lambda x: x": "'lambda' has no meaning here",
    "a if b else c": "has no meaning here",
    "[x for x in a]": "belongs behind a number",
    "a := 3": "cannot be used",
    "a = 3": "is no operator here",
    "a & b": "is no operator here",
    "exec(a)": "no function exec; the functions are",
    "f(*a)": "no function|Starred",
    "exp(**a)": "may not",
    "exp(a)(b)": "may not",
    "exp": "exp is a function; write it with its arguments",
    "if": "cannot be read|is a function",
    "exp(a, b)": "exp takes 1 arguments, not 2",
    "if(a < b, 1)": "if takes 3 arguments, not 2",
    "a, b": "Tuple",
    "()": "Tuple",
    "": "empty; write an expression",
    " \n ": "empty",
    "(a": "cannot be read at",
    "a)": "cannot be read at '\\)'",
    "1 2": "cannot be read at '2'",
    "0x10": "cannot be read at 'x10'",
    "1_000": "a name does not begin with _",
    "1.5.2": "cannot be read at '.2'",
    "'a' + b": "cannot be used",
    "1e999": "too large",
    "9" * 400: "too large",
    "9^9^9^9": r"made of numbers alone \(9, 3.8742e\+08\) has no finite value",
    "a + 1/0": r"made of numbers alone \(1, 0\)",
    "log(-1) * a": "has no finite value",
    "(-8)^(1/3)": "has no finite value",
    "(" * 5000: f"more than {DEEPEST} parentheses deep",
    "-" * 3000 + "a": f"more than {DEEPEST} operations deep|too deeply nested",
    "+".join(["a"] * 400): f"more than {DEEPEST} operations deep",
    "^".join(["a"] * 400): f"more than {DEEPEST} operations deep",
    "a + " * LONGEST + "a": f"at most {LONGEST} are allowed",
    "a" * 100: "the name 'aaaaaaaaaaaaaaaaaaaa…' has 100 characters",
    "ａ + 1": "cannot be used",  # full-width a, which Python takes for a
    "a\u202e + b": "cannot be used",  # writes the rest from right to left
    "µ": "cannot be used",
    "a\x00": "cannot be used",
    "a;b": "cannot be used",
    "a #b": "cannot be used",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile(text: str) -> None:
    with pytest.raises(ModelError, match=HOSTILE[text]) as e:
        compiled(parse(text, WHERE), WHERE)
    message = str(e.value)
    assert message.startswith(WHERE)
    assert message.isprintable()
    assert len(message) < 300


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree = parse(text, WHERE)
    except ModelError as e:
        assert "\n" not in str(e)  # noqa: PT017
    else:
        assert (
            set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-*/^().,<>=![] \t\n\r\x0b\x0c")
            or "[" in text
        )
        assert tree is not None
