"""Model files: they give the models that they say, meet the contract, and are refused in one line where they are wrong."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gemello.base.errors import ModelError
from gemello.base.provenance import Provenance
from gemello.cli.main import main
from gemello.model import modelfile, registry
from gemello.model.conformance import Check, check_names, conformance
from gemello.model.contract import Covariate, Port
from gemello.model.individuals import residual_sd
from gemello.model.modelfile import load, parse_model
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate
from gemello.model.textmodel import LinearTextModel, TextModel

FILES = Path(__file__).parent / "files"
THEOPHYLLINE, RESPONSE = (str(FILES / f"{n}.toml") for n in ("theophylline", "response"))
TEXTS = {n: (FILES / f"{n}.toml").read_text(encoding="utf-8") for n in ("theophylline", "response")}


def changed(file: str, *pairs: tuple[str, str]) -> str:
    text = TEXTS[file]
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


# ---- what they give ----------------------------------------------------------------------------------------------------
def test_theophylline_is_the_built_in_model() -> None:
    """A bolus, repeated doses with lag and F, an infusion, a modelled duration and rate: the matrix exponential against the
    built-in closed form, to 1e-10 of the largest value."""
    s = Schedule().dose(0.0, 320.0).dose(12.0, 200.0, every=12.0, times=3).dose(5.0, 100.0, port=2, duration=2.0)
    s = s.dose(20.0, 50.0, port=2, rate=-2).dose(30.0, 50.0, port=2, rate=-1).observe(np.linspace(0.0, 60.0, 61))
    values = {"KA": 1.2, "CL": 3.1, "V": 29.0, "F1": 0.8, "ALAG1": 0.4, "D2": 1.5, "R2": 20.0}
    etas = np.array([[0.0, 0.0, 0.0], [0.5, -0.3, 0.2], [-0.7, 0.2, -0.1]])
    subjects = [Subject(str(i), s) for i in range(3)]
    ours, theirs = (simulate(registry.get(n), subjects, values, etas=etas).check() for n in (THEOPHYLLINE, "theoph_oral"))
    for name, wanted in theirs.outputs.items():
        np.testing.assert_allclose(ours.outputs[name], wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())
    assert isinstance(registry.get(THEOPHYLLINE), LinearTextModel)
    assert registry.get(THEOPHYLLINE).default_method() == "expm"


def test_what_it_declares() -> None:
    m = load(RESPONSE)
    assert (m.name, m.time_unit, m.tolerances) == ("response_file", "h", (1e-9, 1e-10))
    assert m.states == {"depot": "mg", "central": "mg", "response": "1"}
    assert m.ports == (
        Port("depot", "mg", "dose", "depot", bioavailability="F1", lag="ALAG1"),
        Port("central", "mg", "dose", "central", duration="D2"),
        Port("tone", "1", "signal"),
    )
    assert m.covariates[0] == Covariate("WT", "kg", 40.0, 150.0, 70.0, (1.0, 300.0))
    assert m.covariates[2] == Covariate("SEX", "1", 0.0, 1.0, 0.0, (0.0, 1.0), (0.0, 1.0))
    assert m.individuals == {
        "CL": "L/h", "V": "liter", "KA": "1/h", "F1": "1", "ALAG1": "h", "D2": "h", "KIN": "1/h", "KOUT": "1/h", "IMAX": "1",
        "GAMMA": "1", "MICRO": "ug/mg", "IC": "ug/L",
    }  # fmt: skip
    assert m.parameters["F1"].upper == 1.0  # a logit-normal parameter needs no upper
    assert m.parameters.omega()[0][:2] == [0.09, 0.02]
    assert m.card.sections["Known failures"] == "No tolerance develops."
    assert isinstance(m, TextModel)
    assert load(THEOPHYLLINE).accumulators == ("auc",)
    assert load(THEOPHYLLINE).outputs[1].residual is None


def test_individual_parameters_by_hand() -> None:
    """Etas act on the individual parameter, the right-hand side sees the population's; arrays of NumPy and JAX alike."""
    import jax
    import jax.numpy as jnp

    m = load(RESPONSE)
    theta = m.theta_type(*(np.array(m.parameters[n].value) for n in m.parameters.theta_names))
    cov = m.covariate_type(np.array([70.0, 100.0]), np.array([50.0, 120.0]), np.array([1.0, 0.0]), np.array([37.0, 39.0]))
    p = m.typical(theta, cov)
    np.testing.assert_allclose(p.CL, [4.0 * 0.5 * 0.8, 4.0 * (100.0 / 70.0) ** 0.75 * 1.2 * 0.8], rtol=1e-14)
    np.testing.assert_allclose(p.V, [50.0, 5000.0 / 70.0], rtol=1e-14)
    np.testing.assert_allclose(p.IC, [240.0, 200.0], rtol=1e-14)
    assert p.KA == 1.0
    with jax.enable_x64(True):
        q = m.typical(type(theta)(*map(jnp.asarray, theta)), type(cov)(*map(jnp.asarray, cov)))
        assert isinstance(q.CL, jax.Array)
        np.testing.assert_allclose(q.CL, p.CL, rtol=1e-14)


def test_indirect_response_against_scipy() -> None:
    """Model I of Dayneka et al., equations (1) and (3), written here a second time and solved by scipy's LSODA; 1e-6."""
    m = load(RESPONSE)
    times = np.linspace(0.5, 72.0, 30)
    s = Schedule().dose(0.0, 100.0).dose(10.0, 60.0, port=2, duration=4.0).signal(30.0, 5.0, port=3).observe(times)
    got = simulate(m, s.covariates(WT=80.0, CRCL=60.0, SEX=1.0, TEMP=38.0)).check()
    cl, v = 4.0 * (80.0 / 70.0) ** 0.75 * 0.6 * 0.8 * 0.9, 50.0 * 80.0 / 70.0

    def slope(t: float, y: Any) -> list[float]:
        c = y[1] / v
        drive = (max(c, 0.0) * 1000.0 / 240.0) ** 1.3
        tone, rate = (5.0 if t >= 30.0 else 0.0), (15.0 if 10.0 <= t < 14.0 else 0.0)
        return [-y[0], y[0] - cl * c + rate, 10.0 * (1.0 - 0.9 * drive / (1.0 + drive)) - 0.1 * (y[2] - tone)]

    y, at, found = [0.0, 0.0, 100.0], 0.0, {}
    for end in sorted({0.1, 10.0, 14.0, 30.0, *times}):
        y, at = solve_ivp(slope, (at, end - 1e-12), y, "LSODA", rtol=1e-10, atol=1e-12).y[:, -1], end
        if end == 0.1:  # the lag is over
            y[0] += 0.7 * 100.0
        found[end] = y
    wanted = np.array([found[t] for t in times])
    seen = np.isin(got.time[0], times)
    np.testing.assert_allclose(got.outputs["cp"][0, seen], wanted[:, 1] / v, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(got.outputs["response"][0, seen], wanted[:, 2], rtol=1e-6)


SLOW = {"gradients", "gradients-of-adaptive-solver", "one-lane-or-many", "bad-lane", "same-bits-twice"}


@pytest.mark.parametrize(
    ("file", "checks"), [(THEOPHYLLINE, check_names()), (RESPONSE, [n for n in check_names() if n not in SLOW])]
)
def test_it_meets_the_contract(file: str, checks: list[str]) -> None:
    failed = [str(c) for c in conformance(load(file), only=checks) if not c.passed]
    assert not failed, failed


def test_a_residual_error_of_its_own(x64: None) -> None:
    m = load(RESPONSE)
    residual = m.outputs[0].residual
    assert residual is not None
    assert residual.names == ("a", "b")
    p = m.individual_type(**dict.fromkeys(m.individuals or (), 0.0) | {"F1": 0.5})
    sd = residual_sd(m, 0, np.array([0.0, 2.0]), {"a": 0.1, "b": 0.2, "r": 3.0}, p)
    np.testing.assert_allclose(sd, [0.15, 1.5 * math.hypot(0.1, 0.4)], rtol=1e-14)


LINEAR = [  # derivative of central, whether the system is linear in the states
    ("KA * depot - CL / V * central", True), ("-(CL * (central / V)) + depot / (1 / KA)", True), ("0 * CL * C - 0", True),
    ("if(KA > 1[1/h], KA * depot, 0) - CL * C", True), ("-C * CL * (1 + exp(-KA * 1[h]))", True),
    ("-CL * C + KA * 1[mg]", False), ("-CL * C * central / (central + 1[mg])", False), ("-CL * C * t / 1[h]", False),
    ("-CL * max(C, 0)", False), ("-CL * C * if(central > 1[mg], 1, 2)", False), ("-CL * C * late", False),
    ("-CL * C - sqrt(depot * depot) * KA", False), ("KA * depot - CL * C + IN", False), ("CL * C / (depot / 1[mg])", False),
]  # fmt: skip


@pytest.mark.parametrize(("derivative", "linear"), LINEAR)
def test_linear_systems_are_found(derivative: str, linear: bool, x64: None) -> None:
    """Where a matrix is given, A y is the derivative."""
    text = changed(
        "theophylline",
        ("[states]", '[definitions]\nC = "central / V"\nlate = "if(t > 1[h], 1, 2)"\n[states]'),
        ("KA * depot - CL / V * central", derivative),
        ("[outputs]", 'IN = { kind = "signal", unit = "mg/h" }\n[outputs]'),
    )
    m = parse_model(text)
    assert m.has("matrix") == linear
    assert m.default_method() == ("expm" if linear else "auto")
    if linear:
        p, y = m.individual_type(1.2, 3.0, 30.0, 1.0, 0.0, 0.0, 0.0), m.state_type(5.0, 7.0, 11.0)
        rows = [sum(a * v for a, v in zip(row, y, strict=True)) for row in m.matrix(p)]
        np.testing.assert_allclose(rows, m.derivative(0.0, y, p, m.signal_type(0.0)), rtol=1e-13)
        assert m.matrix(p)[0][1] == 0.0


def test_definitions_that_double_stay_small() -> None:
    """d1 = d0 + d0, d2 = d1 + d1, …: 2^300 terms, were they written out."""
    more = "\n".join(f'd{i} = "d{i - 1} + d{i - 1}"' for i in range(1, 300))
    text = changed("theophylline", ("[states]", f'[definitions]\nd0 = "central"\n{more}\n[states]'), ("* central", "* d299"))
    assert not parse_model(text).has("matrix")


def test_a_table_beside_the_file(tmp_path: Path) -> None:
    head, rest = TEXTS["theophylline"].split("[parameters]")
    (tmp_path / "m.toml").write_text(
        head.replace("[card]", 'parameters = "p.csv"\n[card]') + "[states]" + rest.split("[states]")[1]
    )
    built_in = Path(registry.__file__).parents[1] / "domains" / "pharmacology" / "theophylline" / "parameters.csv"
    rows = [r for r in built_in.read_text().splitlines() if r.split(",")[0] not in ("D1", "R1", "F2", "ALAG2")]
    (tmp_path / "p.csv").write_text("\n".join(rows) + "\n")
    m = load(tmp_path / "m.toml")
    assert m.parameters["KA"].value == 1.59023
    (tmp_path / "p.csv").write_text("\n".join(rows).replace("1.59023", "1.6") + "\n")
    assert load(tmp_path / "m.toml").parameters["KA"].value == 1.6
    for bad, message in (("name,value\nCL,1\n", "no column"), ("\n".join(rows).replace("1.59023", "inf"), "finite")):
        (tmp_path / "p.csv").write_text(bad)
        with pytest.raises(ModelError, match=message):
            load(tmp_path / "m.toml")
    for name in ("../p.csv", "/etc/passwd", "p.txt", "sub/p.csv", "..\\\\p.csv", "none.csv"):
        text = (tmp_path / "m.toml").read_text().replace("p.csv", name)
        with pytest.raises(ModelError, match=r"CSV file in the same folder|no file"):
            parse_model(text, "m.toml", tmp_path)


def test_provenance_follows_the_text(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(TEXTS["theophylline"])
    first = registry.get(str(path))
    assert registry.get(str(path)) is first  # so that compiled programs are found again
    path.write_text(changed("theophylline", ("-KA * depot", "-KA * depot * 1")))
    second = registry.get(str(path))
    a, b = Provenance.collect(first), Provenance.collect(second)
    assert a.model_version.startswith("1.0+")
    assert a.model_version != b.model_version
    assert a.parameter_hash == b.parameter_hash


def test_nothing_is_imported_for_a_list_of_names() -> None:
    code = "import sys; from gemello.model import registry as r; r.models(); print({'tomllib', 'pint'} & {*sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert run.stdout.strip() == "set()"


# ---- what is wrong with a file -----------------------------------------------------------------------------------------
PARAMETER = 'X = { value = 1, unit = "1", source = "s", description = "d"'
WRONG: list[tuple[str, str, str]] = [  # in response.toml: old, new, message
    # names
    ("-KA * depot", "-KAA * depot", r"\[states\] depot, derivative: unknown name 'KAA'; did you mean KA"),
    ("-KA * depot", "-ka * depot", "unknown name 'ka'; did you mean KA"),
    ("KIN / KOUT", "KIN / zzzzz", r"\[definitions\] R0: unknown name 'zzzzz'; the names are CL, V"),
    ("IMAX * relative", "b * relative", r"\[definitions\] effect: b is a residual parameter; only residual errors may use it"),
    ("V * WT / 70", "V * if(late, 1, 2) * WT / 70", r"\[individual\] V, by the definition late: t changes in time"),
    ("V * WT / 70", "V * IC / IC50 * WT / 70", "IC is known only after its random effect"),
    ("IC50 * if(", "IC50 * CL / CL * if(", r"\[individual\] IC: CL is the population's here, without its random effect"),
    ('initial = "R0"', 'initial = "R0 + t / 1[h]"', r"response, initial: t changes in time, but only individual parameters"),
    ("(1 + F1)", "(1 + effect)", r"\[outputs\] cp, residual, by the definition effect: central changes in time"),
    ("(1 + F1)", "(1 + F2)", r"cp, residual: unknown name 'F2'"),
    ("SIZE =", 'one = "two"\ntwo = "one + three"\nthree = "one"\nSIZE =', r"\[definitions\] \w+: circular, \w+ needs \w+ needs"),
    ("SIZE =", 'KA = "1"\nSIZE =', "KA is a parameter and a definition; give one of them another name"),
    ("SIZE =", 'exp = "1"\nSIZE =', "a definition is called exp, which is a word of the expressions"),
    ("SIZE =", 't = "1"\nSIZE =', "called t, which is a word"),
    ("[states]", '[states]\nWT = { unit = "1", derivative = "0" }', "WT is a covariate and a state"),
    ("[states]", '[states]\n_x = { unit = "1", derivative = "0" }', r"\[states\]: '_x' is no name"),
    ("[states]", '[states]\nlambda = { unit = "1", derivative = "0" }', "'lambda' is no name"),
    ("[states]", '[states]\n"ＫＡ" = { unit = "1", derivative = "0" }', "is no name"),
    ('name = "response_file"', 'name = "a-b"', "name: 'a-b' is no name"),
    ("a = { value", "f = { value", "f is the prediction here"),
    ("CL * C", "CL * V / V * C * both", r"unknown name 'both'"),
    # used
    ("[covariances]", PARAMETER + " }\n[covariances]", r"\[parameters\] X: never used; use it in an equation"),
    ("[covariances]", PARAMETER + ', kind = "residual" }\n[covariances]', r"X: never used; name it in the residual error"),
    ("[covariances]", PARAMETER + ', distribution = "normal", variance = 1 }\n[covariances]', "X: varies between subjects"),
    # units
    ("KIN / KOUT", "KIN / V", r"response, initial: gives 1/h/L, but 1 is declared; the dimensions differ"),
    ('{ is = "C", unit = "mg/L"', '{ is = "C", unit = "ug/L"', r"1 mg/L is 1000 ug/L, so multiply the expression by"),
    ('unit = "L/h", distribution', 'unit = "mL/min", distribution', r"\[individual\] CL: gives mL/min, but L/h is declared"),
    ('unit = "L/h", distribution', 'unit = "foo", distribution', r"\[parameters\] CL: unknown unit 'foo'"),
    ("-KA * depot", "-KA * depot + R0", r"depot, derivative: a sum of mg/h and 1; the dimensions differ"),
    ("-KA * depot", "-depot", "gives mg, but mg/h is declared"),
    ("b * cp", "b * cp * 1[mg]", "cp, residual: a sum of"),
    ('additive = "r"', 'additive = "a"', r"\[outputs\] response, residual, a: gives mg/L, but 1 is declared"),
    ('lag = "ALAG1"', 'lag = "F1"', r"\[ports\] depot, lag, F1: gives 1, but h is declared"),
    ("WT / 70[kg])^0.75", "WT / 70)^SLOPE", "a power of kg whose exponent is not a plain number"),
    ('time = "h"', 'time = "mg"', "time is in mg, which is no time"),
    ("SEX == 1", "SEX", r"\[individual\] CL: the first argument of if is no condition"),
    ('female = "SEX == 1"', 'female = { is = "SEX == 1", unit = "1" }', "is true or false and has no unit"),
    # tables
    ('"CL,V" = 0.02', '"CL,V" = 0.2', r"\[covariances\]: OMEGA is not positive definite \(smallest eigenvalue"),
    ('"CL,V" = 0.02', '"CL,V" = 0.06', "OMEGA is not positive definite"),  # a correlation of 1
    ('"CL,V" = 0.02', '"CL,KA" = 0.02', "CL,KA: KA does not vary between subjects; those that do: CL, V"),
    ('"CL,V" = 0.02', '"CL" = 0.02', "'CL' is no pair; write it like"),
    ('"CL,V" = 0.02', '"CL,V" = 0.02\n"V,CL" = 0.02', "given twice"),
    ('"CL,V" = 0.02', '"CL,V" = nan', "give a number"),
    ("value = 4,", "value = nan,", r"\[parameters\] CL: value is nan; give a number"),
    ("value = 4,", "value = inf,", "CL: value inf; give a finite number"),
    ("value = 4,", "value = -inf,", "CL: value -inf; give a finite number"),
    ("value = 4,", 'value = "4",', "CL: value is '4'; give a number"),
    ("value = 4,", "value = true,", "CL: value is true; give a number"),
    ("value = 4,", "value = [4],", r"CL: value is \[4\]; give a number"),
    ("value = 4,", "value = 2020-01-01,", "CL: value is datetime"),
    ("value = 4,", f"value = {'9' * 400},", "CL: value is 9999"),
    ("value = 4,", "value = -4,", r"CL: value -4 outside its range \[0, inf\]; give lower, which is 0 by default"),
    ("value = 4,", "", r"CL: no value; add it: a number"),
    ("variance = 0.09", "varince = 0.09", "CL: unknown key 'varince'; did you mean variance"),
    ("variance = 0.09", "variance = -1", "CL: variance -1"),
    ("IMAX = { value = 0.9,", 'IMAX = { value = 0.9, estimate = "yes",', "estimate is 'yes'; give true or false"),
    ("IMAX = { value = 0.9,", 'IMAX = { value = 0.9, kind = "x",', "kind 'x'"),
    ("[covariances]", "CL = { value = 1 }\n[covariances]", "not TOML: Cannot overwrite a value"),
    ("reference = 70", "reference = 700", r"\[covariates\] WT: possible \[1, 300\], lower 40, reference 700"),
    ("reference = 0,", "reference = 0.5,", "SEX: reference 0.5 is none of the categories"),
    ("[0, 1]", '[0, "a"]', "SEX: categorical is .*; give a list of numbers"),
    ("[0, 1]", "[]", "give a list of numbers"),
    ('question = "How', 'qestion = "How', r"\[card\]: unknown key 'qestion'; did you mean question"),
    ('licence = "Written here."', "", r"\[card\]: no licence; add it"),
    ('licence = "Written here."', 'licence = " "', r"licence is ' '; give a text"),
    # declarations
    ('name = "response_file"', 'nam = "response_file"', "unknown key 'nam'; did you mean name"),
    ('version = "0.1"', "version = 0.1", "version is 0.1; give a text in quotes"),
    ("[1e-9, 1e-10]", "[0, 1]", "tolerances"),
    ("[1e-9, 1e-10]", "[1]", "give a list of 2 numbers"),
    ('time = "h"', 'time = "h"\nmethod = "expm"', "method expm needs derivatives linear in the states"),
    ('time = "h"', 'time = "h"\nmethod = "euler"', "method 'euler'; use one of auto"),
    ('derivative = "-KA * depot"', "derivative = 3", "derivative is 3; give a text"),
    ('derivative = "-KA * depot"', 'rate = "1"', "depot: unknown key 'rate'"),
    ('derivative = "-KA * depot"', "accumulator = true", "depot: no derivative"),
    ('initial = "R0"', "accumulator = 1", "accumulator is 1; give true or false"),
    ('state = "depot", b', 'state = "dpot", b', r"\[ports\] depot: no state 'dpot'; the states are depot, central, response"),
    ('lag = "ALAG1"', 'lag = "ALAG2"', r"depot, lag: no individual parameter 'ALAG2'; did you mean ALAG1"),
    ('lag = "ALAG1"', 'lagtime = "ALAG1"', "unknown key 'lagtime'; did you mean lag"),
    ('kind = "signal"', 'kind = "level"', "kind 'level'; use dose"),
    ('form = "combined1"', 'form = "combined3"', "form 'combined3'; use one of combined1"),
    ('additive = "r"', 'additive = "KA"', "additive 'KA' is no parameter of kind residual; those are: a, b, r"),
    ('additive = "r", ', "", "names no parameter"),
    ('sd = "sqrt', 'form = "combined1", sd = "sqrt', "sd beside form"),
    ('R0 = "KIN / KOUT"', "R0 = 3", r"\[definitions\] R0: is 3, where a table is needed; write it like R0 = \{ is"),
    ('response = { is = "response", unit = "1",', 'response = { is = "response",', r"\[outputs\] response: no unit"),
    # strangers
    ("-KA * depot", "__import__('os').system('true')", "a name does not begin with _"),
    ("-KA * depot", "KA.real * depot", "cannot be used"),
    ("-KA * depot", "(lambda: depot)()", "has no meaning here"),
    ("-KA * depot", "9^9^9^9 * KA * depot", "has no finite value"),
    ("-KA * depot", "(" * 1500 + "depot", "parentheses deep"),
    ("An indirect", "An \\u001b[31mindirect", "title holds the control character"),
    ("An indirect", "An \\u202eindirect", "title holds the control character"),
    ("An indirect", "x" * 3000, r"line \d+ has 3.* characters"),
    ("[states]", "[states]\n" + "\n".join(f"s{i} = {{}}" for i in range(2000)), "at most 1000 are allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_in_one_line(old: str, new: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as e:
        parse_model(changed("response", (old, new)), "response.toml")
    text = str(e.value)
    assert text.startswith("response.toml")
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no name; add it"), ("name = 3", "name is 3"), ("[[[", "not TOML"), ("\x00", "not TOML"),
        ("a = " + "[" * 1900, "too deeply nested"),
        ("a." * 900 + "a = 1", "unknown key 'a'"), ("x = 1\nx = 2", "not TOML: Cannot overwrite"),
        ('name = "a"\nname = "b"', "not TOML"),
        ("n = " + "9" * 1900, "unknown key 'n'"), ("[card]\n[card]", "not TOML: Cannot declare"),
        ('name = "a"\nversion = "1"\ntime = "h"\ncard = 3', "card is 3; give a section"),
    ],
)  # fmt: skip
def test_no_model_at_all(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as e:
        parse_model(text, "m.toml")
    assert "\n" not in str(e.value)


def test_a_definition_with_two_meanings() -> None:
    """In [individual] CL is the population's clearance, in the equations the individual's: one definition cannot be both."""
    text = changed(
        "response", ("SIZE =", 'KE = "CL / V"\nSIZE ='), ("IC50 * if(", "IC50 * KE / KE * if("), ("- CL * C", "- KE * central"),
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"\[definitions\] KE: CL means the population's value in \[individual\]"):
        parse_model(text)


FILES_AS_BYTES: list[tuple[str, Callable[[], bytes], str]] = [
    ("large", lambda: b"# " + b"x\n# " * 2_500_000, "larger than 1,000,000 bytes"),
    ("latin", lambda: TEXTS["theophylline"].replace("gemello's", "gemell\xf6s").encode("latin-1"), "is no UTF-8"),
    ("binary", lambda: bytes(range(256)), "is no UTF-8"),
    ("hostile", lambda: changed("theophylline", ("-KA * depot", "__import__('os')")).encode(), "a name does not begin"),
    ("nan", lambda: changed("theophylline", ("1.59023", "nan")).encode(), "KA: value is nan"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES_AS_BYTES)
def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, name: str, content: Callable[[], bytes], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_bytes(content())
    for command in (["models", str(path)], ["simulate", str(path), "none.csv"], ["fit", str(path), "none.csv"]):
        with pytest.raises(SystemExit) as e:
            main(command)
        out, err = capsys.readouterr()
        assert e.value.code == 2
        assert message in err.splitlines()[-1]  # before it JAX may say how many devices it has
        assert err.splitlines()[-1].startswith(f"gemello: error: {path.name}")
        assert "Traceback" not in out + err


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("none.toml", str(tmp_path), "a\x00.toml", "x" * 5000 + ".toml"):
        with pytest.raises(ModelError, match=r"no file|cannot be read"):
            modelfile.load(tmp_path / name)


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes(b"\xef\xbb\xbf" + TEXTS["theophylline"].replace("\n", "\r\n").encode())
    assert load(tmp_path / "m.toml").name == "theophylline_file"


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_check_on_the_command_line(
    passed: bool, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [Check("units", True, "of all"), Check("shapes", passed, "of some")]
    monkeypatch.setattr("gemello.model.conformance.conformance", lambda model: iter(outcomes))
    with pytest.raises(SystemExit) as e:
        main(["models", THEOPHYLLINE, "--check"])
    assert int(e.value.code or 0) == status
    assert "of some" in capsys.readouterr().out
    with pytest.raises(SystemExit) as e:
        main(["models", "--check"])
    assert e.value.code == 2
