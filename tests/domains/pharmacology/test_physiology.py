"""The whole-body models: contract, published partition coefficients and volumes, algebra, SciPy, and real data of mavoglurant."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError, ModelError
from gemello.base.reference import reference_data
from gemello.domains.pharmacology.authorities import physiology as authority
from gemello.domains.pharmacology.physiology import MODELS, partition
from gemello.domains.pharmacology.physiology.anatomy import Body
from gemello.domains.pharmacology.physiology.drugs import drug, drugs
from gemello.domains.pharmacology.physiology.model import (
    ADULT,
    ICRP,
    POULIN,
    RODGERS,
    VOLUNTEER,
    mavoglurant,
    poulin,
    rodgers,
    wholebody,
)
from gemello.engine.lanes import precision
from gemello.model.conformance import conformance
from gemello.model.simulate import simulate

# Checks that solve nothing, on every model; one model goes through the solutions too. The derivatives of the adaptive solver are
# left out: they take 45 s, and a linear model is never solved by it unless a user asks.
QUICK = (
    "identity",
    "card",
    "parameter-table",
    "declarations",
    "units",
    "shapes",
    "matrix",
    "refuses-bad-parameters",
    "refuses-bad-covariates",
)


@pytest.mark.parametrize("name", MODELS)
def test_names_and_contract(name: str) -> None:
    module, attribute = MODELS[name].split(":")
    model = getattr(importlib.import_module(module), attribute)
    assert (model.name, model.version, model.default_method()) == (name, "1.0", "expm")
    for row in model.parameters:
        assert row.source
        assert row.description
    for c in conformance(model, QUICK):
        assert c.passed, c


def test_contract_in_full_but_for_the_adaptive_solver() -> None:
    for c in conformance(rodgers, ("dimensions", "tracing", "elementwise", "balance", "balance-over-time", "one-lane-or-many")):
        assert c.passed, c


def test_the_bodies_hold_together() -> None:
    """Masses make 73 and 60 kg (98.7 and 98.5 % of it: gut and gall bladder are counted empty), 14 organs, closed circulation."""
    for body in (ADULT, VOLUNTEER):
        assert len(body.organs) == 14
    p = authority.individual(rodgers, WT=73.0)
    volumes = sum(getattr(p, f"V_{o.name.upper()}") for o in ADULT.table)
    assert 0.93 < volumes / 73.0 < 0.98  # L/kg: mean density above 1
    assert sum(getattr(p, f"Q_{n.upper()}") for n in ADULT.fed) == pytest.approx(390.0)
    woman = authority.individual(rodgers, WT=60.0, SEX=0.0)
    assert sum(getattr(woman, f"Q_{n.upper()}") for n in ADULT.fed) == pytest.approx(354.0)
    assert pytest.approx(19.0 / 0.916) == woman.V_ADIPOSE
    heavy = authority.individual(rodgers, WT=146.0)
    assert (pytest.approx(2.0), pytest.approx(2.0**0.75)) == (heavy.V_MUSCLE / p.V_MUSCLE, heavy.Q_MUSCLE / p.Q_MUSCLE)
    volunteer = authority.individual(mavoglurant, WT=78.9)
    assert pytest.approx(0.19 * 187.0 * 78.9**0.81 * 60.0 / 1000.0, rel=1e-12) == volunteer.Q_KIDNEY  # Elmokadem 2023
    assert pytest.approx(0.2142 * 78.9 / 0.916, rel=1e-12) == volunteer.V_ADIPOSE


def test_a_table_whose_flows_do_not_close_is_refused(tmp_path: Path) -> None:
    text = (Path(authority.__file__).parents[1] / "physiology" / "physiology.csv").read_text(encoding="utf-8")
    leaky, strange = tmp_path / "leaky.csv", tmp_path / "strange.csv"
    leaky.write_text(text.replace("0.916,5,8.5", "0.916,6,8.5"), encoding="utf-8")
    strange.write_text(text.replace("spleen,portal", "spleen,elsewhere"), encoding="utf-8")
    with pytest.raises(ModelError, match=r"leaky.csv: flows add up to 1.01 of the cardiac output"):
        Body.read(leaky, ICRP)
    with pytest.raises(ModelError, match=r"strange.csv row 12: organ 'spleen' with route 'elsewhere'"):
        Body.read(strange, ICRP)


def test_partition_coefficients_and_volumes_of_the_papers() -> None:
    """Rodgers & Rowland: bases and ampholytes above pKa 7 within 8 %, others 37 %. Poulin & Theil: 8 %, 13 of 18 within 1.5 %."""
    for c in authority.coefficients():
        assert c["passed"], c
    off = [abs(authority.volume(n) / v - 1.0) for n, (_, v) in authority.VOLUMES.items()]
    assert sum(o < 0.015 for o in off) == 13


def test_partition_coefficients_without_lipid_or_binding_are_water() -> None:
    """A neutral molecule that no lipid takes up (log P -9) and nothing binds: Kp is the tissue's water (and 0.7 of its
    phospholipid, which both papers count as water-like), over plasma's in Poulin & Theil."""
    none = (partition.NO_ACID, partition.NO_BASE)
    with precision():
        by_rodgers = partition.rodgers_rowland(-9.0, *none, 1.0, 1.0, 0.45, RODGERS)
        by_poulin = partition.poulin_theil(-9.0, *none, 1.0, POULIN)
    c, plasma = RODGERS["muscle"], POULIN["plasma"]
    water = c["extracellular_water"] + c["intracellular_water"] + 0.7 * c["phospholipid"]
    assert float(by_rodgers["muscle"]) == pytest.approx(water, rel=1e-8)
    m = POULIN["muscle"]
    expected = (m["water"] + 0.7 * m["phospholipid"]) / (plasma["water"] + 0.7 * plasma["phospholipid"])
    assert float(by_poulin["muscle"]) == pytest.approx(expected, rel=1e-8)


def test_partition_is_elementwise() -> None:
    with precision():
        both = partition.rodgers_rowland(
            np.array([1.87, 0.3]),
            np.array([partition.NO_ACID, 2.3]),
            np.array([9.4, partition.NO_BASE]),
            np.array([0.85, 0.16]),
            np.array([1.36, 0.55]),
            0.45,
            RODGERS,
        )
    for i, name in enumerate(("bisoprolol", "cefazolin")):
        fu = authority.KPU[name][0][3]
        ours = {organ: float(k[i]) / fu for organ, k in both.items()}
        assert ours == pytest.approx(authority.unbound(name), rel=1e-12)


def test_clearance_volume_and_availability_by_hand() -> None:
    """The system matrix against well-stirred liver and kidney: CL, MRT·CL = blood + sum of Kp/(B:P)·V, F, all to 1e-9."""
    found = list(authority.algebra())
    assert len(found) == 9
    for c in found:
        assert c["passed"], c
    # where nothing is eliminated in an organ, and little at all, the volume is the plain sum
    p = authority.individual(wholebody, {"CLINT": 1e-9, "GFR_FRACTION": 0.0})
    kb = sum(getattr(p, f"KB_{n.upper()}") * getattr(p, f"V_{n.upper()}") for n in ADULT.organs)
    assert authority.steady(wholebody, p)[1] == pytest.approx(p.BP * (p.V_ARTERIAL + p.V_VENOUS + kb), rel=1e-5)


def test_renal_function_moves_the_renal_clearance() -> None:
    """Theophylline: 0.45 L/h of 120 mL/min (Ke 2013 Table 1), in proportion to GFR; it adds to the liver's."""
    kidneys = {gfr: authority.extraction(rodgers, authority.individual(rodgers, GFR=gfr))[1] for gfr in (120.0, 30.0)}
    bp = rodgers.parameters["BP"].value
    assert kidneys[120.0] * bp == pytest.approx(0.45, rel=0.005)
    assert kidneys[30.0] / kidneys[120.0] == pytest.approx(0.25)
    slow, fast = (authority.steady(rodgers, authority.individual(rodgers, GFR=g))[0] for g in (30.0, 120.0))
    assert fast - slow == pytest.approx(0.75 * kidneys[120.0] * bp)


def test_observed_clearances_and_volumes() -> None:
    for c in authority.observed():
        assert c["passed"], c


def test_whole_course_against_scipy() -> None:
    """Oral dose, bolus and infusion in a woman of 82 kg with poor kidneys: every state within 1e-6 of its largest value."""
    assert authority.course(rodgers) < 1e-6


def test_the_model_with_given_coefficients_is_the_one_that_computes_them() -> None:
    """The table's KP_ are what pbpk_rodgers computes for theophylline, to their 4 digits."""
    given, computed = authority.individual(wholebody), authority.individual(rodgers)
    for n in ADULT.organs:
        assert getattr(given, f"KB_{n.upper()}") == pytest.approx(getattr(computed, f"KB_{n.upper()}"), rel=4e-4)


def test_drugs() -> None:
    assert set(drugs()) == {"midazolam", "caffeine"}
    for name, values in drugs().items():
        for model in (rodgers, poulin):
            model.parameters.with_values(values)  # every value has a row and lies in its range
        assert authority.steady(rodgers, authority.individual(rodgers, values))[0] > 0, name
    with pytest.raises(DataError, match=r"no drug 'aspirin'; the drugs are midazolam, caffeine"):
        drug("aspirin")


def test_theophylline_by_mouth_is_foretold() -> None:
    folder = reference_data("pharmacology")
    if folder is None:
        pytest.skip("no reference data: set GEMELLO_DATA")
    found = list(authority.swallowed_theophylline(folder))
    assert len(found) == 2
    for c in found:
        assert c["passed"], c


def test_mavoglurant_predicts_twenty_volunteers() -> None:
    """Elmokadem 2023 on its own data: typical predictions are unbiased, and their spread is that of residual and CLint together.

    Mean log ratio: its standard error is about 0.36/sqrt(20) = 0.08 (subjects vary by omega 0.36 in CLint), so 0.2 is 2.5 of
    them. Spread: sigma 0.32 alone, and sqrt(0.32² + 0.36²) = 0.48 if every value felt all of CLint's variability.
    """
    folder = reference_data("pharmacology")
    if folder is None:
        pytest.skip("no reference data: set GEMELLO_DATA")
    subjects = authority.volunteers(folder)
    plans = [s.schedule for s in subjects]
    seen = [np.flatnonzero(q.measured) for q in plans]
    assert (len(subjects), sum(map(len, seen))) == (20, 268)  # as in the paper
    predicted = simulate(mavoglurant, subjects).check().outputs["cp"]
    ratios = np.concatenate([np.log(q.value[k] / predicted[i, k]) for i, (q, k) in enumerate(zip(plans, seen, strict=True))])
    assert abs(ratios.mean()) < 0.2
    assert 0.3 < ratios.std() < 0.5
