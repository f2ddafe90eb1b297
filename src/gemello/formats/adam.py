"""ADaM: the data sets of an analysis as it was run (ADSL, a BDS or time-to-event data set, results), and the basic rules of ADaM.

After CDISC's ADaM Implementation Guide 1.3: ADSL has one record per subject, a basic data structure (BDS) one per subject,
parameter and analysis visit among the records with ANL01FL = "Y"; DTYPE says how a value that was not observed was derived. The
results data set has one record per statistic, in the spirit of CDISC's Analysis Results Data, under names of 8 characters.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from gemello.base.errors import DataError
from gemello.formats.cdisc import Finding, check_dates, check_names, check_unique, write_table
from gemello.formats.tables import Column, Metadata, check_finite

Form = Literal["xpt", "json", "ndjson"]
Kind = Literal["ADSL", "BDS", "TTE"]

_LABELS = {
    "STUDYID": "Study Identifier", "USUBJID": "Unique Subject Identifier", "ITTFL": "Intent-To-Treat Population Flag",
    "FASFL": "Full Analysis Set Population Flag", "SAFFL": "Safety Population Flag", "PPROTFL": "Per-Protocol Population Flag",
    "EFFFL": "Efficacy Population Flag",
    "TRT01P": "Planned Treatment for Period 01", "TRT01PN": "Planned Treatment for Period 01 (N)", "TRTP": "Planned Treatment",
    "TRTPN": "Planned Treatment (N)", "PARAMCD": "Parameter Code", "PARAM": "Parameter", "AVISIT": "Analysis Visit",
    "AVISITN": "Analysis Visit (N)", "AVAL": "Analysis Value", "BASE": "Baseline Value", "CHG": "Change from Baseline",
    "ANL01FL": "Analysis Flag 01", "DTYPE": "Derivation Type", "CNSR": "Censor", "SCORE": "Prognostic Score",
}  # fmt: skip
_RESULTS = {
    "STUDYID": "Study Identifier", "RESULTID": "Result Identifier", "DATASET": "Analysis Data Set", "PARAMCD": "Parameter Code",
    "COMPARE": "Comparison", "MEASURE": "Measure", "METHOD": "Method", "SCALE": "Scale of the Estimate", "STAT": "Statistic",
    "STATVAL": "Value of the Statistic", "STATTXT": "Statistic as Text",
}  # fmt: skip
_STATISTICS = {
    "n": "N", "estimate": "ESTIMATE", "se": "SE", "df": "DF", "statistic": "STATISTIC", "p": "PVALUE", "level": "LEVEL",
    "lower": "LOWER", "upper": "UPPER", "null": "NULL", "ratio": "RATIO", "ratio_lower": "RATIOLOW", "ratio_upper": "RATIOUPP",
}  # fmt: skip
_TEXT_LIMIT = 200


@dataclass(frozen=True)
class Roles:
    """Which columns of an analysis table are what.

    subject, treatment: one value per subject. value: the endpoint. arms: treatments in order, control first; TRTPN counts them
    from 0 (numeric treatments keep their number). visit: text or number; visit_number: its number, where the text
    does not hold it. baseline: the endpoint before treatment. change: False leaves CHG out. imputed: how a value was
    derived (LOCF …), null or "" where it was observed; or true and false, with `derivation` as the word. analysed: true (or
    "Y") for records in the analysis, by default all with a value. event: 1 or true where the event was seen, for times to an
    event. covariates, score: as used. population: the flag of ADSL that all these subjects have, one of ITTFL, FASFL,
    SAFFL, PPROTFL, EFFFL.
    """

    subject: str
    treatment: str
    value: str
    arms: tuple[str, ...] = ()
    visit: str | None = None
    visit_number: str | None = None
    baseline: str | None = None
    change: bool = True
    imputed: str | None = None
    derivation: str = ""
    analysed: str | None = None
    event: str | None = None
    covariates: tuple[str, ...] = ()
    score: str | None = None
    population: str = "ITTFL"


def write_analysis(
    folder: Path | str,
    frame: pl.DataFrame,
    roles: Roles,
    *,
    study: str,
    parameter: tuple[str, str],
    dataset: str = "ADEFF",
    label: str = "Efficacy Analysis",
    estimates: Sequence[Mapping[str, Any]] = (),
    form: Form = "xpt",
    created: datetime | None = None,
    encoding: str = "ascii",
) -> tuple[Path, ...]:
    """Write ADSL, the analysis data set and, with estimates, the results (ADRES) of one endpoint; the paths, in this order.

    frame: the table that was analysed, one row per subject (and visit). parameter: PARAMCD (at most 8 characters) and PARAM.
    estimates: as `Estimate.as_dict()` gives them. form: SAS transport 5 (its text in `encoding`), or Dataset-JSON
    1.1. All three are made and checked before the first is in its place. Raises DataError for tables
    that break the rules of ADaM, saying where.
    """
    if not re.fullmatch("[A-Z][A-Z0-9]{0,7}", dataset) or dataset in ("ADSL", "ADRES"):
        raise DataError("is no name of an analysis data set", value=dataset, remedy="use 1 to 8 capitals or digits, as ADEFF")
    bds, described = analysis(frame, roles, study=study, parameter=parameter, dataset=dataset, label=label)
    tables = [subject_level(frame, roles, study=study), (bds, described)]
    if estimates:
        tables.append(results(estimates, study=study, dataset=dataset, parameter=parameter[0]))
    kinds: tuple[Kind | None, ...] = ("ADSL", "TTE" if roles.event else "BDS", None)
    for (table, metadata), kind in zip(tables, kinds, strict=False):
        found = check(table, metadata, kind) if kind else tuple(check_names(table, metadata))
        if found:
            raise DataError(f"{found[0]}"[:300], source=metadata.name, remedy="correct the analysis table")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adam", dir=folder) as name:  # all are written before the first is in its place
            parts = [
                write_table(Path(name, f"{m.name.lower()}.{form}"), t, m, created=created, encoding=encoding) for t, m in tables
            ]
            return tuple(p.replace(folder / p.name) for p in parts)
    except OSError as e:
        raise DataError(
            f"cannot be written: {e.strerror}", source=str(folder), remedy="give a folder that you may write to"
        ) from None


# ---- the three data sets ------------------------------------------------------------------------------------------------------
def subject_level(frame: pl.DataFrame, roles: Roles, *, study: str) -> tuple[pl.DataFrame, Metadata]:
    """ADSL: one record per subject, with treatment, covariates and score where they are constant within the subject."""
    _present(frame, roles)
    names = _short_names(roles.covariates)
    constant = [c for c in roles.covariates if _constant(frame, roles.subject, c)]
    if not _constant(frame, roles.subject, roles.treatment):
        raise DataError("a subject with two treatments", column=roles.treatment, remedy="give each subject one planned treatment")
    first = frame.unique(roles.subject, keep="first", maintain_order=True)
    treatment = _treatment(first, roles)
    columns = {
        "STUDYID": pl.Series([study] * first.height, dtype=pl.String), "USUBJID": _text_of(first[roles.subject]),
        "TRT01P": treatment[0], "TRT01PN": treatment[1], roles.population: pl.Series(["Y"] * first.height, dtype=pl.String),
    } | {names[c]: _flat(first[c]) for c in constant}  # fmt: skip
    if roles.score and _constant(frame, roles.subject, roles.score):
        columns["SCORE"] = _flat(first[roles.score])
    return _assembled(columns, "ADSL", "Subject-Level Analysis Dataset", names, ("STUDYID", "USUBJID"), roles)


def analysis(
    frame: pl.DataFrame, roles: Roles, *, study: str, parameter: tuple[str, str], dataset: str, label: str
) -> tuple[pl.DataFrame, Metadata]:
    """The analysis data set: BDS, or with `roles.event` a time-to-event data set (CNSR 0 where the event was seen)."""
    _present(frame, roles)
    n = frame.height
    names = _short_names(roles.covariates)
    treatment = _treatment(frame, roles)
    value = _number(frame, roles.value)
    columns: dict[str, pl.Series] = {
        "STUDYID": pl.Series([study] * n, dtype=pl.String), "USUBJID": _text_of(frame[roles.subject]), "TRTP": treatment[0],
        "TRTPN": treatment[1], "PARAMCD": pl.Series([parameter[0]] * n, dtype=pl.String),
        "PARAM": pl.Series([parameter[1]] * n, dtype=pl.String),
    }  # fmt: skip
    if roles.visit:
        columns["AVISIT"], columns["AVISITN"] = _visits(frame, roles)
    columns["AVAL"] = value
    if roles.baseline:
        columns["BASE"] = _number(frame, roles.baseline)
        if roles.change and not roles.event:
            columns["CHG"] = value - columns["BASE"]
    if roles.event:
        columns["CNSR"] = _censored(frame, roles.event)
    analysed = _flag(frame, roles.analysed) if roles.analysed else value.is_not_null()
    columns["ANL01FL"] = _yes(analysed)
    if roles.imputed:
        columns["DTYPE"] = _derivations(frame, roles, value)
    columns |= {names[c]: _flat(frame[c]) for c in roles.covariates}
    if roles.score:
        columns["SCORE"] = _number(frame, roles.score)
    keys = ("STUDYID", "USUBJID", "PARAMCD") + (("AVISITN",) if roles.visit else ())
    return _assembled(columns, dataset, label, names, keys, roles)


def results(estimates: Sequence[Mapping[str, Any]], *, study: str, dataset: str, parameter: str) -> tuple[pl.DataFrame, Metadata]:
    """ADRES: one record per statistic of each estimate; what an estimate says besides (`extra`) as statistics of their own.

    Texts longer than 200 bytes are cut, which a note says. Raises DataError for an estimate without label, measure or estimate.
    """
    rows, notes = [], []
    for k, e in enumerate(estimates, start=1):
        lacking = [w for w in ("label", "measure", "estimate", "method") if w not in e]
        if lacking:
            raise DataError(f"no {', '.join(lacking)}", source="estimates", row=k, remedy="give Estimate.as_dict()")
        words = [str(e["label"]), str(e["measure"]), str(e["method"]), str(e.get("scale", "identity"))]
        cut = [_cut(w) for w in words]
        if cut != words:
            notes.append(f"estimate {k}: a text longer than {_TEXT_LIMIT} bytes was cut")
        known = [(_STATISTICS[s], e[s]) for s in _STATISTICS if e.get(s) is not None]
        more = [(str(s)[:40], v) for s, v in dict(e.get("extra") or {}).items() if isinstance(v, (str, int, float))]
        for name, value in (*known, *more):
            number = isinstance(value, (int, float)) and math.isfinite(value)
            shown = None if number else _cut(str(value))
            rows.append((study, f"R{k:03d}", dataset, parameter, *cut, name, float(value) if number else None, shown))
    types = [pl.String] * 9 + [pl.Float64, pl.String]
    frame = pl.DataFrame(rows, schema=dict(zip(_RESULTS, types, strict=True)), orient="row")
    columns = tuple(Column(n, text, "double" if n == "STATVAL" else "string") for n, text in _RESULTS.items())
    return frame, Metadata("ADRES", "Analysis Results", columns, notes=tuple(notes))


# ---- parts ------------------------------------------------------------------------------------------------------------------
def _present(frame: pl.DataFrame, roles: Roles) -> None:
    used = (roles.subject, roles.treatment, roles.value, roles.visit, roles.visit_number, roles.baseline, roles.imputed)
    for name in (*used, roles.analysed, roles.event, roles.score, *roles.covariates):
        if name is not None and name not in frame.columns:
            raise DataError("no such column", column=name, remedy=f"the table has {', '.join(frame.columns[:20])}")
    for name in (roles.subject, roles.treatment):
        if frame[name].null_count():
            row = int(frame[name].is_null().arg_max() or 0) + 1
            raise DataError("no value", row=row, column=name, remedy="every record needs a subject and a planned treatment")
    flags = ("ITTFL", "FASFL", "SAFFL", "PPROTFL", "EFFFL")
    if roles.population not in flags:
        raise DataError("is no population flag", value=roles.population, remedy=f"use one of {', '.join(flags)}")
    if not frame.height:
        raise DataError("the analysis table has no rows", remedy="give the table that was analysed")


def _constant(frame: pl.DataFrame, subject: str, column: str) -> bool:
    return frame.select(subject, column).unique().height == frame[subject].n_unique()


def _text_of(values: pl.Series) -> pl.Series:
    """Identifiers and words as text; whole numbers without a decimal point."""
    if values.dtype.is_float():
        return pl.Series([None if v is None else f"{v:.15g}" for v in values], dtype=pl.String)
    return values.cast(pl.String)


def _flat(values: pl.Series) -> pl.Series:
    """A covariate as text, numbers or dates; true and false as Y and N."""
    return _yes(values, "N") if values.dtype == pl.Boolean else values.fill_nan(None) if values.dtype.is_float() else values


def _yes(values: pl.Series, no: str | None = None) -> pl.Series:
    return pl.Series([None if v is None else "Y" if v else no for v in values], dtype=pl.String)


def _number(frame: pl.DataFrame, name: str) -> pl.Series:
    values = frame[name]
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        raise DataError("is no column of numbers", column=name, value=values.dtype, remedy="give the endpoint as numbers")
    numbers = values.cast(pl.Float64).fill_nan(None)
    check_finite(numbers, "analysis table")
    return numbers


def _flag(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of true and false, 1 and 0, or Y and anything else."""
    values = frame[name]
    if values.dtype == pl.Boolean or (values.dtype.is_numeric() and values.drop_nulls().cast(pl.Float64).is_in([0.0, 1.0]).all()):
        return values.cast(pl.Boolean).fill_null(False)
    if values.dtype in (pl.String, pl.Categorical, pl.Enum) and values.cast(pl.String).drop_nulls().is_in(["Y", "N", ""]).all():
        return (values.cast(pl.String) == "Y").fill_null(False)
    raise DataError("is no flag", column=name, remedy="give true and false, 1 and 0, or Y and N")


def _treatment(frame: pl.DataFrame, roles: Roles) -> tuple[pl.Series, pl.Series]:
    """Treatment as text, and its number."""
    values = frame[roles.treatment]
    text = _text_of(values) if values.dtype != pl.Boolean else values.cast(pl.Int64).cast(pl.String)
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return text, values.cast(pl.Float64)
    order = roles.arms or tuple(sorted(text.unique().to_list()))
    unknown = sorted(set(text.unique().to_list()) - set(order))
    if unknown:
        raise DataError(
            "a treatment that is not in arms", column=roles.treatment, value=unknown[0], remedy="name every arm, control first"
        )
    return text, text.replace_strict({a: float(i) for i, a in enumerate(order)}, return_dtype=pl.Float64)


def _visits(frame: pl.DataFrame, roles: Roles) -> tuple[pl.Series, pl.Series]:
    """AVISIT and AVISITN. The number of a visit named in text is the one in its name ("Week 24", "VIS4"), 0 for a baseline."""
    visit = frame[str(roles.visit)]
    if roles.visit_number:
        number = _number(frame, roles.visit_number)
    elif visit.dtype.is_numeric():
        return pl.Series([None if v is None else f"Visit {v:g}" for v in visit], dtype=pl.String), visit.cast(pl.Float64)
    else:
        numbers: dict[str, float] = {}
        for name in visit.cast(pl.String).drop_nulls().unique(maintain_order=True):
            digits = re.findall(r"\d+(?:\.\d+)?", name)
            numbers[name] = float(digits[0]) if len(digits) == 1 else 0.0 if name.strip().lower() == "baseline" else math.nan
        if any(map(math.isnan, numbers.values())) or len(set(numbers.values())) < len(numbers):
            raise DataError("visits whose names hold no number of their own", column=roles.visit, remedy="give visit_number")
        number = visit.cast(pl.String).replace_strict(numbers, return_dtype=pl.Float64)
    pairs = pl.DataFrame({"v": _text_of(visit), "n": number}).unique()
    if pairs["v"].n_unique() < pairs.height or pairs["n"].n_unique() < pairs.height:
        raise DataError(
            "a visit with two numbers, or a number with two visits",
            column=roles.visit_number,
            remedy="give each visit one number",
        )
    return _text_of(visit), number


def _censored(frame: pl.DataFrame, event: str) -> pl.Series:
    values = frame[event]
    if values.null_count() or not (
        values.dtype == pl.Boolean or (values.dtype.is_numeric() and values.cast(pl.Float64).is_in([0.0, 1.0]).all())
    ):
        raise DataError("must be 1 (or true) where the event was seen, 0 where not", column=event, remedy="recode it")
    return 1.0 - values.cast(pl.Float64)


def _derivations(frame: pl.DataFrame, roles: Roles, value: pl.Series) -> pl.Series:
    """DTYPE: the word for each value that was not observed."""
    name = str(roles.imputed)
    raw = frame[name]
    if raw.dtype == pl.Boolean:
        if not roles.derivation:
            raise DataError(
                "imputed as true and false, without its word", column=name, remedy="give derivation, as derivation='LOCF'"
            )
        words = pl.Series([roles.derivation if v else None for v in raw], dtype=pl.String)
    elif raw.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        words = pl.Series([(v or "").strip() or None for v in raw.cast(pl.String)], dtype=pl.String)
    else:
        raise DataError(
            "is neither text nor true and false", column=name, remedy="give LOCF … where a value was imputed, null elsewhere"
        )
    empty = words.is_not_null() & value.is_null()
    if empty.any():
        raise DataError(
            "imputed, but without a value", row=int(empty.arg_max() or 0) + 1, column=roles.value, remedy="give the value used"
        )
    return words


def _short_names(covariates: Sequence[str]) -> dict[str, str]:
    """Names of covariates as ADaM can hold them: capitals, 8 characters, none twice and none of ADaM's own used here."""
    taken, out = set(_LABELS), {}
    for name in covariates:
        plain = re.sub(r"[^A-Z0-9_]", "_", name.upper()) or "X"
        plain = plain if re.match(r"[A-Z_]", plain) else f"X{plain}"
        short, k = plain[:8], 1
        while short in taken:
            k += 1
            short = f"{plain[: 8 - len(str(k))]}{k}"
        taken.add(short)
        out[name] = short
    return out


def _assembled(
    columns: Mapping[str, pl.Series], name: str, label: str, names: Mapping[str, str], keys: Sequence[str], roles: Roles
) -> tuple[pl.DataFrame, Metadata]:
    frame = pl.DataFrame([s.alias(n) for n, s in columns.items()])
    origin = {short: long for long, short in names.items()}
    described = []
    for s in frame.iter_columns():
        text = _LABELS.get(s.name) or origin[s.name][:40]
        kind = (
            "double"
            if s.dtype.is_numeric()
            else "string"
            if s.dtype == pl.String
            else "date"
            if s.dtype == pl.Date
            else "datetime"
        )
        described.append(Column(s.name, text, kind, key=keys.index(s.name) + 1 if s.name in keys else None))
    order = [k for k in keys if k in frame.columns]
    renamed = [f"{short} is {long}" for short, long in origin.items() if short != long and short in frame.columns]
    used = {"STUDYID": None, "USUBJID": roles.subject, "AVAL": roles.value}
    notes = (f"covariates renamed: {', '.join(renamed)}",) if renamed else ()
    frame = frame.sort(order, maintain_order=True, nulls_last=True)
    return frame, Metadata(name, label, tuple(described), attributes={"roles": used}, notes=notes)


def _cut(text: str) -> str:
    """Text in ASCII, at most 200 bytes: signs that a transport file for a regulator cannot hold are written out."""
    for sign, plain in {
        "−": "-",
        "–": "-",
        "—": "-",
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "±": "+/-",
        "ρ": "rho",
        "β": "beta",
    }.items():
        text = text.replace(sign, plain)
    return text.encode("ascii", "replace")[:_TEXT_LIMIT].decode()


# ---- rules --------------------------------------------------------------------------------------------------------------------
def check(frame: pl.DataFrame, metadata: Metadata, kind: Kind) -> tuple[Finding, ...]:
    """Basic rules of an ADaM data set: variables that must be there, names, labels and dates, flags Y, N or blank, one record per
    key, PARAM and PARAMCD (AVISIT and AVISITN, TRTP and TRTPN) that go together one to
    one, CHG = AVAL − BASE. Empty where all hold.
    """
    needed = {
        "ADSL": ("STUDYID", "USUBJID"),
        "BDS": ("STUDYID", "USUBJID", "PARAMCD", "PARAM"),
        "TTE": ("STUDYID", "USUBJID", "PARAMCD", "PARAM", "AVAL", "CNSR"),
    }
    found = [*check_names(frame, metadata), *check_dates(frame)]
    found += [Finding("variable", n, "is missing; add it") for n in needed[kind] if n not in frame.columns]
    if kind == "BDS" and not {"AVAL", "AVALC"} & set(frame.columns):
        found.append(Finding("variable", "AVAL", "neither AVAL nor AVALC is there; add one"))
    if kind == "ADSL" and not any(re.fullmatch(r"TRT\d\dP", n) for n in frame.columns):
        found.append(Finding("variable", "TRT01P", "is missing; add the planned treatment"))
    if kind != "ADSL" and not any(re.fullmatch(r"TRT[PA]|TRT\d\d[PA]", n) for n in frame.columns):
        found.append(Finding("variable", "TRTP", "no treatment variable; add TRTP or TRT01P"))
    if any(n not in frame.columns for n in needed[kind]):
        return tuple(found)
    flags = [n for n in frame.columns if n.endswith("FL") and frame[n].dtype in (pl.String, pl.Categorical, pl.Enum)]
    found += [
        Finding("flag", n, "a flag is Y, N or blank; recode it")
        for n in flags if not frame[n].cast(pl.String).drop_nulls().is_in(["Y", "N", ""]).all()
    ]  # fmt: skip
    used = None
    keys = ["USUBJID"]
    if kind != "ADSL":
        used = (frame["ANL01FL"].cast(pl.String) == "Y").fill_null(False) if "ANL01FL" in frame.columns else None
        keys = ["USUBJID", "PARAMCD", *(n for n in ("AVISIT",) if n in frame.columns and kind == "BDS")]
    found += list(check_unique(frame, keys, used))
    codes = frame["PARAMCD"].drop_nulls().unique().to_list() if kind != "ADSL" else []
    bad = next((c for c in codes if not re.fullmatch("[A-Z_][A-Z0-9_]{0,7}", str(c))), None)
    if bad is not None:
        found.append(Finding("code", "PARAMCD", f"{str(bad)[:40]!r} is not 1 to 8 capitals, digits or _; shorten it"))
    return (*found, *_pairs(frame), *_change(frame))


def _pairs(frame: pl.DataFrame) -> Iterator[Finding]:
    for code, text in (("PARAMCD", "PARAM"), ("AVISITN", "AVISIT"), ("TRTPN", "TRTP"), ("TRT01PN", "TRT01P")):
        if code in frame.columns and text in frame.columns:
            pairs = frame.select(code, text).drop_nulls().unique()
            if pairs[code].n_unique() < pairs.height or pairs[text].n_unique() < pairs.height:
                yield Finding("pair", code, f"{code} and {text} do not go together one to one; correct them")


def _change(frame: pl.DataFrame) -> Iterator[Finding]:
    if {"AVAL", "BASE", "CHG"} <= set(frame.columns) and all(frame[n].dtype.is_numeric() for n in ("AVAL", "BASE", "CHG")):
        expected, scale = frame["AVAL"] - frame["BASE"], frame["AVAL"].abs() + frame["BASE"].abs()
        wrong = ((frame["CHG"] - expected).abs() > 1e-9 * scale + 1e-12).fill_null(False)
        if wrong.any():
            yield Finding("change", f"row {int(wrong.arg_max() or 0) + 1}", "CHG is not AVAL - BASE; compute it anew")
