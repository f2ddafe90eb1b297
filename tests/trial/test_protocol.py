"""Reading a protocol: what it must say, what is refused, in one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.trial.protocols import TWO, estimand, simple, write

from gemello.base.errors import GemelloError
from gemello.formats.yamlfile import name_of
from gemello.trial.protocol import Protocol, read

ONCE: dict[str, Any] = {"kind": "continuous", "outcome": "y"}
TIME: dict[str, Any] = {"kind": "time-to-event", "outcome": "y", "event": "off"}


def _read(folder: Path, **sections: Any) -> Protocol:
    return read(write(folder, simple(12), **({"endpoint": ONCE} | sections)))


def test_defaults(tmp_path: Path) -> None:
    p = _read(tmp_path)
    assert (p.analysis.level, p.randomisation.scheme, p.score, p.seed) == (0.95, "simple", None, 1)
    assert len(p.hash) == 64


def test_arms_by_number_or_text(tmp_path: Path) -> None:
    p = _read(tmp_path, arms={"column": "arm", "control": 0, "active": 1.0, "labels": {0: "none"}})
    assert (p.arms.control, p.arms.active, p.arms.label("0"), p.arms.label("1")) == ("0", ("1",), "none", "1")
    assert [name_of(v) for v in (True, 1.0, 1, " a ", 0.5)] == ["1", "1", "1", "a", "0.5"]


@pytest.mark.parametrize(("sections", "words"), [
    ({"endpont": {}}, "unknown key 'endpont'; did you mean endpoint"),
    ({"endpoint": {**ONCE, "event": "off"}}, "event of a continuous endpoint"),
    ({"endpoint": {**ONCE, "tau": 3}}, "tau of a continuous endpoint"),
    ({"endpoint": {**TIME, "tau": -1}}, "not a horizon"),
    ({"endpoint": {"kind": "time-to-event", "outcome": "y"}}, "without event"),
    ({"endpoint": {"kind": "repeated", "outcome": "y", "visit": "site"}}, "without at"),
    ({"endpoint": {"kind": "binary", "outcome": "y", "order": ["a", "b", "c"]}}, "not an order of levels"),
    ({"endpoint": {"kind": "odd", "outcome": "y"}}, "kind"),
    ({"arms": {**TWO, "active": ["c"]}}, "must differ"),
    ({"arms": {**TWO, "active": ["t", "t"]}}, "must differ"),
    ({"analysis": {"level": 95}}, "not a confidence level"),
    ({"analysis": {"df": "satterthwaite"}}, "df of a continuous endpoint"),
    ({"analysis": {"covariates": ["x", "x"]}}, "a covariate twice"),
    ({"endpoint": TIME, "analysis": {"heterogeneous": True}}, "heterogeneous slopes"),
    ({"endpoint": TIME, "analysis": {"covariance": "HC3"}}, "not a covariance of this analysis"),
    ({"endpoint": TIME, "analysis": {"covariance": "robust"}, "estimand": estimand("log-rank")}, "not a covariance"),
    ({"estimand": estimand("risk ratio")}, "summary"),
    ({"estimand": estimand(stopped="forget")}, "strategy"),
    ({"estimand": estimand(death={"strategy": "composite", "column": "off"})}, "composite strategy without a value"),
    ({"score": {"column": "x", "source": "s", "generator": "g.json"}}, "either a locked generator or a column"),
    ({"score": {"column": "x", "source": "s", "time": 3}}, "time does not belong here"),
    ({"score": {"column": "x", "source": "s", "correlation": 1.2}}, "out of range"),
    ({"score": {"generator": "trial.csv", "sha256": "12", "variable": "y", "time": 1}}, "not a SHA-256"),
    ({"score": {"generator": "none.json", "sha256": "0" * 64, "variable": "y", "time": 1}}, "no such file"),
    ({"score": {"generator": "trial.csv", "sha256": "0" * 64, "variable": "y"}}, "a score without time"),
    ({"external": {"file": "../x.csv", "covariates": ["x"]}}, "leaves the folder"),
    ({"planned": {"power": "much"}}, "power"),
    ({"where": {"x": []}}, "no value"),
    ({"where": {"x": {"above": 3}}}, "unknown key"),
    ({"credibility": {"quest": "?"}}, "unknown key"),
])  # fmt: skip
def test_refused_in_one_line(tmp_path: Path, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(GemelloError) as error:
        _read(tmp_path, **sections)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_repeated_score_takes_the_times_of_visits(tmp_path: Path) -> None:
    endpoint = {"kind": "repeated", "outcome": "y", "visit": "site", "at": "a"}
    score = {"generator": "trial.csv", "sha256": "0" * 64, "variable": "y"}
    with pytest.raises(GemelloError, match="a time-matched score needs the visits' times"):
        _read(tmp_path, endpoint=endpoint, score=score)
    with pytest.raises(GemelloError, match="time of a repeated endpoint's score"):
        _read(tmp_path, endpoint={**endpoint, "times": {"a": 1}}, score={**score, "time": 1})


@pytest.mark.parametrize("text", ["", "a: [", "[1, 2]", "schema: gemello-trial-analysis/9\n", "a: 1\na: 2\n"])
def test_texts_that_are_no_protocol(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(GemelloError) as error:
        read(path)
    assert "\n" not in str(error.value)
