"""What the library is held against: each model's file in PKPDsim, subjects, doses, and where the two are meant to differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Covariates = Mapping[str, float]

HEMO = 0.05  # clearance by dialysis, L/h
DOSES = ((0.0, 1000.0, 1.0), (12.0, 750.0, 1.5), (24.0, 500.0, 0.0))  # time, amount, duration (0: at once)
HOURS = (0.4, 1.0, 3.0, 7.0, 11.9, 12.8, 18.0, 23.5, 25.0, 35.5, 37.0, 47.9)
DAYS = tuple(24.0 * d for d in (0.5, 2.0, 4.5, 7.0, 10.0, 14.0, 21.0))


def _with_hemo(covariates: Covariates) -> Covariates:
    return {**covariates, "CL_HEMO": HEMO}


@dataclass(frozen=True)
class Case:
    """One model beside its file.

    subjects: covariates in gemello's names and units. theirs: from these, the file's covariates. values: what makes gemello's
    model that of the file, where they differ. ports: (port, compartment) pairs to dose into. outputs: the file's variable for
    each output. start: contents at time 0 by compartment. breaks: times at which equations jump. names: the file's name of a
    parameter with a random effect, where it is another. effects: a subject's random effects in the file from those in gemello,
    where the names do not say it all. departures: variance (one name), covariance (two names) or residual parameter: gemello's
    number and the file's.
    """

    file: str
    subjects: Sequence[Covariates]
    theirs: Callable[[Covariates], Covariates] = _with_hemo
    values: Mapping[str, float] = field(default_factory=lambda: {"CL_HEMO": HEMO})
    doses: Sequence[tuple[float, float, float]] = DOSES
    times: Sequence[float] = HOURS
    ports: Sequence[tuple[int, int]] = ((1, 1),)
    outputs: Mapping[str, str] = field(default_factory=lambda: {"cp": "observed", "auc": "A[1]"})
    start: Callable[[Covariates], Mapping[int, float]] = lambda covariates: {}
    breaks: Sequence[float] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    effects: Callable[[Covariates, Mapping[str, float]], Mapping[str, float]] | None = None
    departures: Mapping[tuple[str, ...], tuple[float, float]] = field(default_factory=dict)


def _two(file: str, subjects: Sequence[Covariates], **changes: Any) -> Case:
    """A model of two compartments, whose third compartment in the file is the AUC."""
    return Case(file, subjects, **{"outputs": {"cp": "observed", "auc": "A[2]"}, "names": {"V1": "V"}, **changes})


# ---- covariates --------------------------------------------------------------------------------------------------------
_ADULTS = (
    {"WT": 80.0, "HT": 175.0, "AGE": 47.0, "SEX": 1.0, "CR": 0.9, "CRCL": 95.0},
    {"WT": 112.0, "HT": 163.0, "AGE": 71.0, "SEX": 0.0, "CR": 1.7, "CRCL": 41.0},
    {"WT": 190.0, "HT": 188.0, "AGE": 24.0, "SEX": 1.0, "CR": 0.5, "CRCL": 210.0},
)
_NEONATES = (
    {"WT": 0.9, "PMA": 27.0, "CR": 1.1, "AGE": 0.02, "GA": 26.0, "CR_ASSAY": 0.0},
    {"WT": 3.6, "PMA": 43.0, "CR": 0.4, "AGE": 0.09, "GA": 39.0, "CR_ASSAY": 1.0},
)
_CHILDREN = (
    {"WT": 7.0, "HT": 65.0, "AGE": 0.5, "SEX": 0.0, "REGI": 0.0, "CR": 0.3},
    {"WT": 20.0, "HT": 113.0, "AGE": 6.0, "SEX": 1.0, "REGI": 1.0, "CR": 0.6},
    {"WT": 60.0, "HT": 165.0, "AGE": 15.0, "SEX": 0.0, "REGI": 1.0, "CR": 1.1},
)


def _pupils() -> Sequence[Covariates]:
    """On all branches of the usual serum creatinine of Kloprogge 2019."""
    some = ((4.0, 0.1, 1.0, 0.3), (20.0, 6.0, 0.0, 0.5), (60.0, 16.0, 0.0, 0.7), (62.0, 16.2, 1.0, 0.9), (70.0, 17.5, 1.0, 1.0))
    return [{"WT": w, "AGE": a, "PMA": 52.0 * a + 40.0, "SEX": s, "CR": c} for w, a, s, c in some]


def _litres(factor: float) -> Callable[[Covariates], Covariates]:
    """Creatinine clearance in L/h, which files turn into mL/min by `factor`, rounded in several ways."""
    return lambda covariates: {**covariates, "CL_HEMO": HEMO, "CRCL": covariates["CRCL"] / factor}


def _goti(covariates: Covariates) -> Covariates:
    """A man of 40 years whose Cockcroft-Gault clearance is the one given."""
    creatinine = 100.0 * covariates["WT"] / (72.0 * covariates["CLCREAT"])
    return {**covariates, "AGE": 40.0, "SEX": 1.0, "CR": creatinine, "CL_HEMO": 0.0}


def _cefepime(covariates: Covariates) -> Covariates:
    """Height in m."""
    return {**covariates, "HT": covariates["HT"] / 100.0, "MIC": 8.0, "FU": 0.8, "CL_HEMO": HEMO}


def _voriconazole(covariates: Covariates) -> Covariates:
    other = ("unknown", "a2a2", "a2a3", "a1a3", "a3a3")
    return {**covariates, "CYP2C19a1a2": covariates["CYP2C19"], **{f"CYP2C19{o}": 0.0 for o in other}}


def _friberg(covariates: Covariates, eta: Mapping[str, float]) -> Mapping[str, float]:
    """Random effects of the paper (Table 3), which depend on age, as effects on the file's parameters."""
    child, grown = covariates["AGE"] < 12, covariates["AGE"] >= 17
    return {
        "KA": 0.0 if grown else eta["E_KA"],
        "VMAX1": eta["E_VMAX"] if child else (0.584 if grown else 0.208) * eta["E_KM"],
        "KM": eta["E_KM"],
        "CL": eta["E_CL"] * (1.0 if grown else 2.7),
        "F1": eta["E_F"] * (0.686 / 1.67 if grown else 1.0),
        "V": eta["V1"],
        "V2": eta["V2"],
        "Q": eta["Q"],
    }


def _at_35() -> float:
    """Maturation times decline at 35 years, by which the file of Colin 2019 divides and the paper does not."""
    years = 35.0 + 40.0 / 52.0
    mature, decline = 1.0 + (0.8932 / years) ** 2.8864, 1.0 + (years / 61.559) ** 2.241
    return float(1.0 / (mature * decline))


# ---- cases -------------------------------------------------------------------------------------------------------------
def cases() -> dict[str, Case]:
    """All models of the library that have a file, by name."""
    return {**_vancomycin_in_adults(), **_vancomycin_in_the_young(), **_others(), **_templates()}


def _vancomycin_in_adults() -> dict[str, Case]:
    dialysed = [{**a, "DIAL": float(k % 2)} for k, a in enumerate(_ADULTS)]
    goti = [{"WT": w, "CLCREAT": c, "DIAL": d} for w, c, d in ((62.0, 34.0, 0.0), (120.0, 130.0, 0.0), (80.0, 12.0, 1.0))]
    carreno = {"V1": "V", "CL_SLOPE": "SCLSlope", "CL_BASE": "SCLInter"}
    return {
        "vancomycin_adane2015": Case("pk_vanco_adane", _ADULTS, _litres(1.0 / 0.06)),
        "vancomycin_brooks2025": _two("pk_vanco_brooks", _ADULTS),
        "vancomycin_buelga2005": Case("pk_vanco_buelga", _ADULTS, _litres(1.0 / 0.06)),
        "vancomycin_carreno2017": _two("pk_vanco_carreno", _ADULTS, theirs=_litres(16.667), names=carreno),
        "vancomycin_goti2018": _two(
            "pk_vanco_goti",
            goti,
            theirs=_goti,
            values={},
            departures={
                ("CL",): (0.147, 0.1584),
                ("V1",): (0.51, 0.6659),
                ("V2",): (0.282, 0.326),
                ("cp_proportional",): (0.227, 0.197),
                ("cp_additive",): (3.4, 1.42),
            },
        ),
        "vancomycin_hughes2024": _two("pk_vanco_hughes", _ADULTS),
        "vancomycin_thomson2009": _two("pk_vanco_thomson", _ADULTS, theirs=_litres(16.66667)),
        "vancomycin_thomson2009_capped": _two("pk_vanco_thomson_capped", _ADULTS, theirs=_litres(16.66667)),
        "vancomycin_tong2026": _two("pk_vanco_tong", dialysed),
    }


def _vancomycin_in_the_young() -> dict[str, Case]:
    any_age = [{"WT": w, "PMA": p, "CR": c} for w, p, c in ((3.6, 41.0, 0.4), (70.0, 1860.0, 0.83), (55.0, 4400.0, 1.6))]
    colin = {"CL": 5.312 / _at_35(), "V1": 42.52, "V1_REF": 42.52, "V2": 41.68, "V2_REF": 41.68, "Q": 3.222, "CL_HEMO": HEMO}
    return {
        "vancomycin_anderson2007": Case("pk_vanco_anderson", _NEONATES),
        "vancomycin_capparelli2001": _two("pk_vanco_capparelli", _NEONATES, names={}),
        "vancomycin_colin2019": _two("pk_vanco_colin", any_age, values=colin, departures={("cp_additive",): (1.109, 1.23)}),
        "vancomycin_dao2020": Case("pk_vanco_dao", _NEONATES),
        "vancomycin_frymoyer2014": Case("pk_vanco_frymoyer", _NEONATES),
        "vancomycin_germovsek2019": Case("pk_vanco_germovsek", _NEONATES),
        "vancomycin_jacqzaigrain2019": _two("pk_vanco_jacqzaigrain", _NEONATES),
        "vancomycin_kloprogge2019": _two("pk_vanco_kloprogge", _pupils()),
        "vancomycin_le2014": Case("pk_vanco_le", _CHILDREN),
    }


def _others() -> dict[str, Case]:
    transplanted = [{**a, "T_CL_EFF": 3.0 * k} for k, a in enumerate((*_ADULTS, _CHILDREN[0]))]
    some = ((20.0, 5.0, 0.0), (50.0, 14.0, 0.0), (75.0, 40.0, 0.0), (75.0, 40.0, 1.0), (30.0, 9.0, 0.0))
    fungal = [{"WT": w, "AGE": a, "CYP2C19": g} for w, a, g in some]
    friberg = {
        "ROUND": 0.0,
        "KM_VMAX_CHILD": -0.382,
        "ALAG": 0.0,
        "KA_TEEN": 0.0,
        "KA_ADULT": 1.19,
        "Q": 15.5 * 1.637,
        "Q_YOUNG": 0.0,
    }
    return {
        "busulfan_mccune2014": _two(
            "pk_busulfan_mccune", transplanted, values={"CL": 11.4, "NFM_REF": 70.0}, breaks=(6, 9, 12, 15, 36, 39, 42, 45)
        ),
        "busulfan_shukla2020": Case("pk_busulfan_shukla", _CHILDREN, values={}, breaks=(24.0,)),
        "cefepime_an2023": Case(
            "pk_cefepime_an", _ADULTS, _cefepime, outputs={"cp": "CONC", "auc": "A[6]"}, names={"CL": "CLiiv", "V1": "V"}
        ),
        "pegasparaginase_wurthwein2021": Case(
            "pk_pegasparaginase_modified_wurthwein",
            _CHILDREN,
            values={},
            times=DAYS,
            outputs={"cp": "CONC", "auc": "A[14]"},
            doses=((0.0, 2000.0, 2.0), (336.0, 2000.0, 0.0)),
        ),
        "voriconazole_friberg2012": Case(
            "pk_voriconazole_friberg",
            fungal,
            _voriconazole,
            values=friberg,
            doses=((1.0, 300.0, 2.0), (13.0, 200.0, 0.0)),
            times=(1.5, 2.0, 3.5, 6.0, 12.0, 14.0, 18.0, 26.0),
            ports=((1, 1), (2, 2)),
            outputs={"cp": "CONC", "auc": "A[3]"},
            effects=_friberg,
            names={"E_KA": "KA", "E_VMAX": "VMAX1", "E_KM": "KM", "E_CL": "CL", "V1": "V", "E_F": "F1"},
            departures={
                ("E_KM",): (1.8496, 1.0),
                ("E_VMAX",): (0.057121, 0.25),
                ("E_KM", "E_VMAX"): (0.2632824, 0.25),
                ("E_F",): (2.7889, 1.0),
                ("cp_log",): (0.365, 0.01),
            },
        ),
    }


def _templates() -> dict[str, Case]:
    outputs = {"cp": "CONC", "anc": "ANC"}
    return {
        "neutropenia_template1": Case(
            "pkpd_neutropenia_template1",
            ({}, {}),
            values={},
            times=DAYS,
            outputs=outputs,
            names={"V1": "V"},
            doses=((0.0, 100.0, 0.0), (24.0, 100.0, 0.0)),
            start=lambda covariates: dict.fromkeys(range(4, 9), covariates.get("CIRC0", 5.0)),
        ),
        "neutropenia_template2": Case(
            "pkpd_neutropenia_template2",
            ({"CIRC0": 3.0}, {"CIRC0": 6.5}),
            values={},
            times=DAYS,
            outputs=outputs,
            doses=((0.0, 200.0, 2.0), (168.0, 100.0, 0.0)),
            start=lambda covariates: dict.fromkeys(range(2, 7), covariates["CIRC0"]),
        ),
    }
