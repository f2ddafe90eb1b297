"""The contract, held against every registered model. What each check is: `gemello.model.conformance`.

Some models are alike: those of the published library, which are read from files, those of whole-body physiology, the indirect
responses. The costly checks, which solve over and over, are run on one of each kind of structure, the others on all.
"""

from __future__ import annotations

import pytest

from gemello.domains.heart.registry import CELLS
from gemello.domains.pharmacology.library import MODELS as LIBRARY
from gemello.domains.pharmacology.physiology import MODELS as PHYSIOLOGY
from gemello.model import registry
from gemello.model.conformance import check_names, conformance

COSTLY = {
    "gradients",
    "gradients-of-adaptive-solver",
    "methods-agree",
    "one-lane-or-many",
    "bad-lane",
    "same-bits-twice",
    "matrix",
}
STRUCTURES = {
    "vancomycin_adane2015",  # one compartment
    "vancomycin_thomson2009",  # two compartments
    "busulfan_shukla2020",  # changes with time, varies between occasions
    "voriconazole_friberg2012",  # saturable, oral
    "pbpk_rodgers",
}
CELLS_TO_TEST = {"tt2006_epi", "ohara_rudy_cipa", "torord_endo"}  # a family each: the layers differ by numbers
ALIKE = {*LIBRARY, *PHYSIOLOGY, "indirect_2", "indirect_3", "indirect_4", "myelosuppression_emax", "mm1_iv", "mm2_iv"}


def _worth_it(name: str, check: str) -> bool:
    """Of heart cells: all checks on the smallest, and those that solve nothing on one of each family."""
    solved = COSTLY | {"balance-over-time", "solvable", "refuses-bad-parameters"}
    return name not in CELLS or name == "tt2006_epi" or (name in CELLS_TO_TEST and check not in solved)


CASES = [
    (name, check)
    for name in registry.models()
    for check in check_names()  # a model's cases stand together, so that its compiled programs serve all its checks
    if (check not in COSTLY or name not in ALIKE or name in STRUCTURES) and _worth_it(name, check)
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_contract(name: str, check: str) -> None:
    (outcome,) = conformance(registry.get(name), only=[check])
    assert outcome.passed, outcome.detail


def test_the_structures_are_in_the_library() -> None:
    assert set(ALIKE) > STRUCTURES
    assert set(check_names()) > COSTLY
