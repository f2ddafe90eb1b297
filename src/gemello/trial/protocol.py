"""The analysis part of a trial's protocol: one YAML file, versioned, read strictly. docs/trial-protocol.md describes it.

Everything that decides a number stands in it: data and who is in them, arms, randomisation, endpoint, estimand, covariates, the
prognostic score with the hash of its generator, sensitivity analyses, external controls, seed. An unknown key is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemello.base.errors import DataError
from gemello.formats import yamlfile
from gemello.model.fields import Fields

SCHEMA = "gemello-trial-analysis/1"
KINDS = ("continuous", "binary", "count", "ordinal", "time-to-event", "repeated")
SCHEMES = ("simple", "permuted-block", "biased-coin", "urn", "pocock-simon")
SUMMARIES = {
    "continuous": ("mean difference",),
    "binary": ("risk difference", "risk ratio", "odds ratio"),
    "count": ("rate ratio", "rate difference"),
    "ordinal": ("mean score difference", "probabilistic index", "win odds", "common odds ratio"),
    "time-to-event": ("hazard ratio", "log-rank", "rmst difference"),
    "repeated": ("mean difference",),
}
STRATEGIES = ("treatment policy", "hypothetical", "composite", "while on treatment", "principal stratum")
COVARIANCES = {"time-to-event": ("model", "robust")}  # robust: of the hazard ratio; of other kinds the analysis knows its own
OF_KIND = {  # keys of an endpoint that belong to some kinds only
    "event": ("time-to-event",), "tau": ("time-to-event",), "visit": ("repeated",), "at": ("repeated",), "times": ("repeated",),
    "exposure": ("count",), "baseline": ("continuous", "repeated"), "order": ("ordinal", "binary"),
}  # fmt: skip
CREDIBILITY = ("question", "context_of_use", "model_influence", "decision_consequence", "plan", "deviations", "adequacy")


@dataclass(frozen=True)
class Rule:
    """Rows that stay: where `column` is one of `values` (None: where it is empty), or lies in [low, high]."""

    column: str
    values: tuple[Any, ...] = ()
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True)
class Arms:
    """Treatment arms: column, value of the control, values of the others, words for each."""

    column: str
    control: str
    active: tuple[str, ...]
    labels: Mapping[str, str]

    def label(self, arm: str) -> str:
        """Words for an arm."""
        return self.labels.get(arm, arm)


@dataclass(frozen=True)
class Randomisation:
    """How arms were assigned: scheme, stratification factors (columns)."""

    scheme: str = "simple"
    strata: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """What is measured. outcome: column (of a time-to-event endpoint: the time). event: column of 0/1. visit, times: of a
    repeated endpoint, its visit column and time of each visit; at: the visit of the primary comparison. exposure: of a count.
    baseline: the outcome before treatment, a covariate of every adjusted analysis. order: levels in words, the lowest first."""

    kind: str
    outcome: str
    label: str
    unit: str = "1"
    better: str = "higher"
    event: str = ""
    visit: str = ""
    at: str = ""
    times: Mapping[str, float] = field(default_factory=dict)
    exposure: str = ""
    tau: float | None = None  # horizon of a restricted mean survival time
    baseline: str = ""
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """An intercurrent event of the estimand, its strategy, and where the data tell of it: a column of 0/1, and of its time."""

    name: str
    strategy: str
    column: str = ""
    time: str = ""
    value: float | None = None  # of a composite strategy: what the outcome becomes


@dataclass(frozen=True)
class Estimand:
    """The five attributes of ICH E9(R1): treatment, population, variable, intercurrent events, population-level summary."""

    treatment: str
    population: str
    variable: str
    summary: str
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """How the estimate is made: covariates (formula terms), covariance (HC0 … HC3, model; the structure of a mixed model; robust
    for a hazard ratio), degrees of freedom of a mixed model, arm × covariate interactions, confidence level."""

    covariates: tuple[str, ...] = ()
    covariance: str = ""
    df: str = ""
    heterogeneous: bool = False
    level: float = 0.95


@dataclass(frozen=True)
class Score:
    """The prognostic score. Either a locked generator (file, its hash, which variable at which time, columns that feed it), or a
    column of the data with words on where it comes from. correlation: validated correlation with the outcome under control (for
    the power statement), deflation: what part of its square is counted on. limits: of the gates. change_from: column taken off
    the forecast where the outcome is a change. same_scale: whether the score forecasts the outcome itself, so that its
    calibration slope can be judged; without, only whether it tells outcomes apart."""

    generator: Path | None = None
    sha256: str = ""
    variable: str = ""
    time: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    column: str = ""
    source: str = ""
    correlation: float | None = None
    deflation: float = 0.9
    limits: Mapping[str, float] = field(default_factory=dict)
    change_from: str = ""
    same_scale: bool = True


@dataclass(frozen=True)
class External:
    """External controls: file, and covariates (formula terms) that it has in common with the trial."""

    file: Path
    covariates: tuple[str, ...]
    where: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """All of it. text: the file as read; hash: SHA-256 of it."""

    title: str
    data: Path
    subject: str
    where: tuple[Rule, ...]
    arms: Arms
    randomisation: Randomisation
    endpoint: Endpoint
    estimand: Estimand | None
    analysis: Analysis
    score: Score | None
    external: External | None
    sensitivity: tuple[str, ...]
    credibility: Mapping[str, str]
    planned: Mapping[str, float]
    seed: int
    after: tuple[str, ...]  # columns seen after randomisation: no covariate and no score may be made of them
    source: str
    hash: str


def read(path: Path | str) -> Protocol:
    """The protocol of a YAML file; paths in it are taken from its own folder. Raises DataError or ModelError, one line each."""
    path = Path(path)
    content = yamlfile.read(path, typed=True, example=f"schema: {SCHEMA}")
    top = Fields(path.name, content)
    if content.get("schema") != SCHEMA:
        raise DataError(
            "not a protocol of a known version", source=path.name, column="schema", value=content.get("schema", ""),
            remedy=f"write schema: {SCHEMA}",
        )  # fmt: skip
    top.only((
        "schema", "title", "data", "arms", "randomisation", "endpoint", "estimand", "analysis", "score", "external",
        "sensitivity", "credibility", "planned", "seed",
    ))  # fmt: skip
    data = top.section("data")
    data.only(("file", "subject", "where", "after_randomisation"))
    endpoint = _endpoint(top.section("endpoint"))
    estimand = _estimand(top.section("estimand"), endpoint) if "estimand" in top else None
    analysis = _analysis(top.section("analysis", {}), endpoint, estimand)
    return Protocol(
        title=top.text("title", path.stem),
        data=yamlfile.beside(path, data.text("file"), "data"),
        subject=data.text("subject"),
        where=_rules(data),
        arms=_arms(top.section("arms")),
        randomisation=_randomisation(top.section("randomisation", {})),
        endpoint=endpoint,
        estimand=estimand,
        analysis=analysis,
        score=_score(top.section("score"), path, endpoint) if "score" in top else None,
        external=_external(top.section("external"), path) if "external" in top else None,
        sensitivity=top.texts("sensitivity", ()),
        credibility=_credibility(top.section("credibility", {})),
        planned=_planned(top.section("planned", {})),
        seed=int(top.number("seed", 1)),
        after=data.texts("after_randomisation", ()),
        source=path.name,
        hash=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


# ---- sections ------------------------------------------------------------------------------------------------------------
def _rules(section: Fields) -> tuple[Rule, ...]:
    out = []
    given = section.values.get("where", {})
    if not isinstance(given, Mapping):
        raise DataError("not a mapping", source=section.where, column="where", remedy="write where: {column: value}")
    for column, wanted in given.items():
        if isinstance(wanted, Mapping):
            f = Fields(f"{section.where} where {column}", wanted)
            f.only(("from", "to"))
            out.append(Rule(str(column), low=f.number("from", float("-inf")), high=f.number("to", float("inf"))))
        else:
            values = tuple(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else (wanted,)
            if not values:
                raise DataError("no value", source=section.where, column=f"where {column}", remedy="name the values that stay")
            out.append(Rule(str(column), values))
    return tuple(out)


def _arms(f: Fields) -> Arms:
    f.only(("column", "control", "active", "labels"))
    active = f.values.get("active", [])
    active = active if isinstance(active, list) else [active]
    labels = {yamlfile.name_of(k): str(v) for k, v in f.section("labels", {}).values.items()}
    control, names = yamlfile.name_of(f.values.get("control", "")), tuple(yamlfile.name_of(a) for a in active)
    if not control or not names or control in names or len(set(names)) < len(names):
        raise DataError("control and active arms must differ", source=f.where, remedy="give control: and active: [...]")
    return Arms(f.text("column"), control, names, labels)


def _randomisation(f: Fields) -> Randomisation:
    f.only(("scheme", "strata"))
    return Randomisation(f.choice("scheme", SCHEMES, "simple"), f.texts("strata", ()))


def _endpoint(f: Fields) -> Endpoint:
    f.only((
        "kind", "outcome", "label", "unit", "better", "event", "visit", "at", "times", "exposure", "tau", "baseline", "order",
    ))  # fmt: skip
    kind, outcome = f.choice("kind", KINDS), f.text("outcome")
    needed = {"time-to-event": ("event",), "repeated": ("visit", "at")}.get(kind, ())
    for key in needed:
        if key not in f:
            raise DataError(f"a {kind} endpoint without {key}", source=f.where, remedy=f"add {key}:")
    for key, kinds in OF_KIND.items():
        if key in f and kind not in kinds:
            remedy = f"it belongs to {' and '.join(kinds)} endpoints; leave it out"
            raise DataError(f"{key} of a {kind} endpoint", source=f.where, remedy=remedy)
    tau = f.number("tau") if "tau" in f else None
    if tau is not None and not tau > 0:
        raise DataError("not a horizon", source=f.where, column="tau", value=tau, remedy="give a time above 0")
    times = {yamlfile.name_of(k): Fields(f.where, {"time": v}).number("time") for k, v in f.section("times", {}).values.items()}
    return Endpoint(
        kind, outcome, f.text("label", outcome), f.text("unit", "1"), f.choice("better", ("higher", "lower"), "higher"),
        f.text("event", "") if "event" in f else "", f.text("visit") if "visit" in f else "",
        yamlfile.name_of(f.values["at"]) if "at" in f else "", times, f.text("exposure") if "exposure" in f else "",
        tau, f.text("baseline") if "baseline" in f else "", _order(f, kind),
    )  # fmt: skip


def _order(f: Fields, kind: str) -> tuple[str, ...]:
    levels = tuple(yamlfile.name_of(v) for v in f.values.get("order") or ())
    if "order" in f and (len(set(levels)) < len(levels) or len(levels) < 2 or (kind == "binary" and len(levels) != 2)):
        remedy = "a binary endpoint: [no, yes]" if kind == "binary" else "name each level once, the lowest first"
        raise DataError("not an order of levels", source=f.where, column="order", value=", ".join(levels), remedy=remedy)
    return levels


def _estimand(f: Fields, endpoint: Endpoint) -> Estimand:
    f.only(("treatment", "population", "variable", "summary", "events"))
    events = []
    for name, e in f.section("events", {}).values.items():
        g = Fields(f"{f.where} event {name}", e if isinstance(e, dict) else {"strategy": e})
        g.only(("strategy", "column", "time", "value"))
        strategy = g.choice("strategy", STRATEGIES)
        if strategy == "composite" and "value" not in g and endpoint.kind != "time-to-event":
            raise DataError("a composite strategy without a value", source=g.where, remedy="say what the outcome becomes: value:")
        events.append(
            Event(
                str(name), strategy, g.text("column") if "column" in g else "", g.text("time") if "time" in g else "",
                g.number("value") if "value" in g else None,
            )
        )  # fmt: skip
    allowed = SUMMARIES[endpoint.kind]
    return Estimand(
        f.text("treatment"), f.text("population"), f.text("variable"), f.choice("summary", allowed, allowed[0]), tuple(events)
    )


def _analysis(f: Fields, endpoint: Endpoint, estimand: Estimand | None) -> Analysis:
    f.only(("covariates", "covariance", "df", "heterogeneous", "level"))
    level = f.number("level", 0.95)
    if not 0.5 <= level < 1:
        raise DataError("not a confidence level", source=f.where, column="level", value=level, remedy="give 0.5 to 0.999")
    covariance = f.text("covariance") if "covariance" in f else ""
    df = f.text("df") if "df" in f else ""
    terms, apart, kind = f.texts("covariates", ()), f.flag("heterogeneous", False), endpoint.kind
    twice = next((t for k, t in enumerate(terms) if t in terms[:k]), None)
    if twice is not None:
        raise DataError("a covariate twice", source=f.where, column="covariates", value=twice, remedy="name it once")
    if df and kind != "repeated":
        raise DataError(f"df of a {kind} endpoint", source=f.where, remedy="it is for repeated endpoints; leave it out")
    if apart and kind not in ("continuous", "binary", "count"):
        remedy = "slopes by arm are for continuous, binary and count endpoints; leave it out"
        raise DataError(f"heterogeneous slopes of a {kind} endpoint", source=f.where, remedy=remedy)
    if kind == "time-to-event" and covariance:
        robust = estimand is None or estimand.summary == "hazard ratio"
        allowed = COVARIANCES[kind] if robust else COVARIANCES[kind][:1]
        if covariance not in allowed:
            remedy = f"one of {', '.join(allowed)}" + ("" if robust else " (robust: of the hazard ratio)")
            raise DataError("not a covariance of this analysis", source=f.where, value=covariance, remedy=remedy)
    return Analysis(terms, covariance, df, apart, level)


def _score(f: Fields, path: Path, endpoint: Endpoint) -> Score:
    f.only((
        "generator", "sha256", "variable", "time", "columns", "column", "source", "correlation", "deflation", "limits",
        "change_from", "same_scale",
    ))  # fmt: skip
    if ("generator" in f) == ("column" in f):
        raise DataError(
            "give either a locked generator or a column", source=f.where, remedy="write generator: and sha256:, or column:"
        )
    foreign = ("sha256", "variable", "time", "columns", "change_from") if "column" in f else ("source",)
    for key in foreign:
        if key in f:
            words = "it is for scores of a generator" if "column" in f else "it is for a column of scores"
            raise DataError(f"{key} does not belong here", source=f.where, remedy=f"{words}; leave it out")
    rho = f.number("correlation") if "correlation" in f else None
    deflation = f.number("deflation", 0.9)
    if (rho is not None and not -1 < rho < 1) or not 0 <= deflation <= 1:
        raise DataError("correlation or deflation out of range", source=f.where, remedy="give -1 to 1, and 0 to 1")
    common = {
        "correlation": rho, "deflation": deflation,
        "same_scale": f.flag("same_scale", endpoint.kind != "time-to-event"),
        "change_from": f.text("change_from") if "change_from" in f else "",
        "limits": {str(k): Fields(f.where, {"limit": v}).number("limit") for k, v in f.section("limits", {}).values.items()},
    }  # fmt: skip
    if "column" in f:
        return Score(column=f.text("column"), source=f.text("source"), **common)  # type: ignore[arg-type]
    sha = f.text("sha256").lower().removeprefix("sha256:")
    if len(sha) != 64 or set(sha) - set("0123456789abcdef"):
        raise DataError("not a SHA-256", source=f.where, column="sha256", value=sha, remedy="give its 64 hexadecimal digits")
    columns = {str(k): str(v) for k, v in f.section("columns", {}).values.items()}
    repeated = endpoint.kind == "repeated"
    if repeated == ("time" in f):
        raise DataError(
            "time of a repeated endpoint's score" if repeated else "a score without time", source=f.where,
            remedy="leave it out: endpoint: times: has it for each visit" if repeated else "write time:, that of the forecast",
        )  # fmt: skip
    if repeated and not endpoint.times:
        remedy = "write endpoint: times: {Week 8: 56, …} in the generator's unit"
        raise DataError("a time-matched score needs the visits' times", source=f.where, remedy=remedy)
    time = None if repeated else f.number("time")
    return Score(
        generator=yamlfile.beside(path, f.text("generator"), "score generator"), sha256=sha, variable=f.text("variable"),
        time=time, columns=columns, **common,  # type: ignore[arg-type]
    )  # fmt: skip


def _external(f: Fields, path: Path) -> External:
    f.only(("file", "covariates", "where"))
    return External(yamlfile.beside(path, f.text("file"), "external file"), f.texts("covariates"), _rules(f))


def _credibility(f: Fields) -> Mapping[str, str]:
    f.only(CREDIBILITY)
    return {k: f.text(k) for k in CREDIBILITY if k in f}


def _planned(f: Fields) -> Mapping[str, float]:
    f.only(("difference", "sd", "power", "alpha", "total"))
    return {k: f.number(k) for k in f.values}
