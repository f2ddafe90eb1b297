"""An independent reading of PKPDsim's model files (JSON5 with equations in a C-like language), integrated by SciPy.

The files are read, never run: `read` understands the JSON that they use, `Code` the statements in them: assignments, `if` with
`else`, the conditional operator, `pow`, `exp`, `log`, `log10`, `sqrt`, `min`, `max`. Nothing here uses gemello's models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

Values = dict[str, float]
Expression = Callable[[Values], float]
Statement = Callable[[Values], None]

_TOKEN = re.compile(
    r"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z_]\w*(?:\[\d+\])?|==|!=|<=|>=|&&|\|\||[-+*/()<>=!?:,&|{};]|\n)"
)
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "pow": math.pow, "exp": math.exp, "log": math.log, "log10": math.log10, "sqrt": math.sqrt, "min": min, "max": max,
}  # fmt: skip
_BINARY: tuple[dict[str, Callable[[float, float], float]], ...] = (  # from the loosest to the tightest
    {"||": lambda a, b: float(bool(a) or bool(b)), "|": lambda a, b: float(bool(a) or bool(b))},
    {"&&": lambda a, b: float(bool(a) and bool(b)), "&": lambda a, b: float(bool(a) and bool(b))},
    {"==": lambda a, b: float(a == b), "!=": lambda a, b: float(a != b)},
    {"<": lambda a, b: float(a < b), "<=": lambda a, b: float(a <= b)}
    | {">": lambda a, b: float(a > b), ">=": lambda a, b: float(a >= b)},
    {"+": lambda a, b: a + b, "-": lambda a, b: a - b},
    {"*": lambda a, b: a * b, "/": lambda a, b: a / b},
)  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """Contents of a JSON5 file of PKPDsim. A line of code that is continued stays a line of its own."""
    text = path.read_text(encoding="utf-8").replace("\\\n", "\\n")
    text = re.sub(r",(\s*[}\]])", r"\1", text)
    out: dict[str, Any] = json.loads(text)
    return out


class Code:
    """Statements of one piece of code, as functions on a dictionary of values."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*", "", text)
        self._tokens = _tokens(text)
        self._at = 0
        self._body = self._statements(until="")

    def run(self, values: Values) -> None:
        """Carry out the statements, in order, on `values`."""
        for s in self._body:
            s(values)

    # ---- statements ----------------------------------------------------------------------------------------------------
    def _next(self, skip_lines: bool = False) -> str:
        while skip_lines and self._at < len(self._tokens) and self._tokens[self._at] in ("\n", ";"):
            self._at += 1
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, wanted: str = "", skip_lines: bool = False) -> str:
        token = self._next(skip_lines)
        if wanted and token != wanted:
            raise ValueError(f"{wanted!r} expected, {token!r} found")
        self._at += 1
        return token

    def _statements(self, until: str) -> list[Statement]:
        out = []
        while (token := self._next(skip_lines=True)) != until:
            out.append(self._condition() if token == "if" else self._assignment())
        return out

    def _assignment(self) -> Statement:
        name = self._take()
        self._take("=")
        value = self._expression()
        if self._next() not in ("\n", ";", "}", ""):
            raise ValueError(f"the end of a statement expected, {self._next()!r} found")

        def assign(values: Values) -> None:
            values[name] = value(values)

        return assign

    def _condition(self) -> Statement:
        self._take("if")
        condition, yes = self._expression(), self._block()
        no: list[Statement] = []
        if self._next(skip_lines=True) == "else":
            self._take("else")
            no = self._block()

        def choose(values: Values) -> None:
            for s in yes if condition(values) else no:
                s(values)

        return choose

    def _block(self) -> list[Statement]:
        self._take("{", skip_lines=True)
        body = self._statements(until="}")
        self._take("}", skip_lines=True)
        return body

    # ---- expressions ---------------------------------------------------------------------------------------------------
    def _expression(self) -> Expression:
        condition = self._binary(0)
        if self._next() != "?":
            return condition
        self._take("?")
        yes = self._expression()
        self._take(":")
        no = self._expression()
        return lambda values: yes(values) if condition(values) else no(values)

    def _binary(self, level: int) -> Expression:
        if level == len(_BINARY):
            return self._unary()
        left = self._binary(level + 1)
        while self._next() in _BINARY[level]:
            left = _applied(_BINARY[level][self._take()], left, self._binary(level + 1))
        return left

    def _unary(self) -> Expression:
        if self._next() == "-":
            self._take()
            inner = self._unary()
            return lambda values: -inner(values)
        if self._next() == "+":
            self._take()
            return self._unary()
        token = self._take()
        if token == "(":
            value = self._expression()
            self._take(")")
            return value
        if token[0].isdigit() or token[0] == ".":
            number = float(token)
            return lambda values: number
        if self._next() != "(":
            return lambda values: values[token]
        function, arguments = _FUNCTIONS[token], []
        self._take("(")
        while True:
            arguments.append(self._expression())
            if self._take() == ")":
                return lambda values: function(*(a(values) for a in arguments))


def _tokens(text: str) -> list[str]:
    out, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"cannot be read: {text[at : at + 30]!r}")
        line_ends = "\n" if "\n" in found[0][: -len(found[1])] else ""
        out += [line_ends, found[1]] if line_ends else [found[1]]
        at = found.end()
    return out


def _applied(f: Callable[[float, float], float], a: Expression, b: Expression) -> Expression:
    return lambda values: f(a(values), b(values))


# ---- a model -----------------------------------------------------------------------------------------------------------
class Reference:
    """One file as a model: typical subjects, no random effects."""

    def __init__(self, path: Path) -> None:
        self.file = read(path)
        self.compartments = int(self.file["n_comp"])
        self._pk, self._ode = Code(self.file.get("pk_code", "")), Code(self.file["ode_code"])
        scale = self.file["obs"].get("scale")
        self._scale = Code(f"scale = {scale}") if scale else None

    @property
    def varying(self) -> list[str]:
        """Parameters with random effects, in the order of the file's OMEGA."""
        return [p for p in self.file["parameters"] if p not in self.file["fixed"]]

    def omega(self) -> NDArray[np.float64]:
        """Variances and covariances of the random effects, from the lower triangle in the file."""
        n = len(self.varying)
        out = np.zeros((n, n))
        out[np.tril_indices(n)] = self.file["omega_matrix"]
        return out + np.tril(out, -1).T

    def residual(self, which: str) -> list[float]:
        """`prop` or `add` of the residual error, for each output (0 where the file has none)."""
        value = self.file["ruv"].get(which, 0.0)
        return [float(v) for v in (value if isinstance(value, list) else [value])]

    def typical(self, covariates: Mapping[str, float]) -> Values:
        """Everything that does not change in time, with these covariates (the file's names and units)."""
        values: Values = {**self.file["parameters"], **covariates, "kappa_CL": 0.0, "kappa_V": 0.0, "t": 0.0}
        values |= {f"A[{k}]": 1.0 for k in range(self.compartments)}
        self._pk.run(values)
        self._observed(values)
        return values

    def solve(
        self,
        covariates: Mapping[str, float],
        doses: Sequence[tuple[float, float, float]],
        times: Sequence[float],
        *,
        compartment: int = 1,
        start: Mapping[int, float] | None = None,
        breaks: Sequence[float] = (),
    ) -> list[Values]:
        """All variables at `times`, after doses (time, amount, duration; 0: at once) into `compartment` (from 1).

        start: contents at time 0 by compartment, from 1 (0 otherwise). breaks: times at which the equations jump.
        """
        values = self.typical(covariates)
        y = np.zeros(self.compartments)
        for k, v in (start or {}).items():
            y[k - 1] = v
        fraction = self._bioavailability(values, compartment)
        infusions = [(s, s + d, fraction * a / d) for s, a, d in doses if d > 0]
        boluses = [(s, fraction * a) for s, a, d in doses if d == 0]
        stops = sorted({0.0, *times, *breaks, *(s for s, _ in boluses), *(x for s, e, _ in infusions for x in (s, e))})
        found: dict[float, Values] = {}
        for here, there in zip(stops, [*stops[1:], stops[-1]], strict=True):
            if here in times:  # a level at the time of a dose is taken before it
                found[here] = self._at(here, y, values)
            y[compartment - 1] += sum(a for s, a in boluses if s == here)
            if there > here:
                rate = sum(r for s, e, r in infusions if s <= here < e)
                y = self._over(here, there, y, values, compartment, rate)
        return [found[t] for t in times]

    def _over(
        self, start: float, end: float, y: NDArray[np.float64], values: Values, compartment: int, rate: float
    ) -> NDArray[np.float64]:
        inside = 1e-12 * (end - start)  # never on a jump of the equations

        def slope(t: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
            now = self._at(min(max(t, start + inside), end - inside), state, values)
            out = np.array([now[f"dAdt[{k}]"] for k in range(self.compartments)])
            out[compartment - 1] += rate
            return out

        out = solve_ivp(slope, (start, end), y, method="LSODA", rtol=1e-10, atol=1e-12)
        if not out.success:
            raise ArithmeticError(out.message)
        result: NDArray[np.float64] = out.y[:, -1]
        return result

    def _at(self, t: float, y: NDArray[np.float64], values: Values) -> Values:
        now = {**values, "t": t, **{f"A[{k}]": float(v) for k, v in enumerate(y)}}
        self._ode.run(now)
        self._observed(now)
        return now

    def _observed(self, values: Values) -> None:
        """`scale`, and `observed`: what the file measures (its first output)."""
        obs = self.file["obs"]
        if self._scale is None:
            variable = obs["variable"]
            name = variable[0] if isinstance(variable, list) else variable
            values["observed"] = values.get(name, math.nan)
            return
        try:
            self._scale.run(values)
        except KeyError:  # of a variable that only the differential equations set
            return
        values["observed"] = values[f"A[{obs['cmt'] - 1}]"] / values["scale"]

    def _bioavailability(self, values: Values, compartment: int) -> float:
        given = self.file["dose"].get("bioav", 1)
        one = given[min(compartment, len(given)) - 1] if isinstance(given, list) else given
        return float(values[one]) if isinstance(one, str) and not one.replace(".", "").isdigit() else float(one)
