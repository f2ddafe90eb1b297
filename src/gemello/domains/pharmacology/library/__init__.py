"""Published population models as model files, one each: `<drug>_<author><year>.toml`. docs/library.md lists them.

The numbers are the papers', as far as they were at hand, and else those of the PKPDsim library (InsightRX, MIT licence); each
card says which, where the two differ, and what is not known. Nothing is read until a model is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemello.base.errors import ModelError

FOLDER = Path(__file__).parent
OTHERS = {"vancomycin": ("vancomycin_goti2018",)}  # published models of these drugs that are written in Python
GROUPS: dict[str, tuple[str, ...]] = {
    "adults": (
        "cefepime_an2023",
        "vancomycin_buelga2005",
        "vancomycin_colin2019",
        "vancomycin_goti2018",
        "vancomycin_thomson2009",
        "vancomycin_thomson2009_capped",
        "vancomycin_tong2026",
        "voriconazole_friberg2012",
        "busulfan_mccune2014",
    ),
    "young adults": ("vancomycin_brooks2025",),
    "obese adults": ("vancomycin_adane2015", "vancomycin_carreno2017", "vancomycin_hughes2024"),
    "children": (
        "busulfan_mccune2014",
        "busulfan_shukla2020",
        "pegasparaginase_wurthwein2021",
        "vancomycin_colin2019",
        "vancomycin_kloprogge2019",
        "vancomycin_le2014",
        "voriconazole_friberg2012",
    ),
    "neonates": (
        "vancomycin_anderson2007",
        "vancomycin_capparelli2001",
        "vancomycin_colin2019",
        "vancomycin_dao2020",
        "vancomycin_frymoyer2014",
        "vancomycin_germovsek2019",
        "vancomycin_jacqzaigrain2019",
    ),
}
MODELS: dict[str, str] = {p.stem: f"{__name__}:{p.stem}" for p in sorted(FOLDER.glob("*.toml"))}


def for_drug(name: str, group: str | None = None) -> tuple[str, ...]:
    """Names of the published models of a drug, in order of the alphabet: all of them, or those for one of `GROUPS`.

    Which of them a patient belongs to, his covariates and the models' ranges decide. Raises ModelError for a drug or group that
    is not there.
    """
    drug = name.strip().lower()
    found = sorted([*(n for n in MODELS if n.split("_", 1)[0] == drug), *OTHERS.get(drug, ())])
    if not found:
        drugs = sorted({n.split("_", 1)[0] for n in MODELS})
        raise ModelError(f"no published model of {name!r}; there are models of {', '.join(drugs)}")
    if group is None:
        return tuple(found)
    if group not in GROUPS:
        raise ModelError(f"no group {group!r} of patients; the groups are {', '.join(GROUPS)}")
    return tuple(n for n in found if n in GROUPS[group])


def __getattr__(name: str) -> Any:
    """The model of the file `name`.toml, read when it is asked for."""
    if name not in MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gemello.model.modelfile import load  # noqa: PLC0415  (listing the names must not bring in the numerical library)

    return load(FOLDER / f"{name}.toml")
