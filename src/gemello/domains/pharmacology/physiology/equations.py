"""Mass balance of a whole body with perfusion-limited organs.

Each organ is well stirred: blood leaves it at the concentration A/(V Kb), Kb = Kp/(B:P) the tissue-to-blood partition coefficient
(Jones & Rowland-Yeo, CPT Pharmacometrics Syst Pharmacol 2:e63, 2013). The liver, fed by artery and portal vein, eliminates
CLINT FU of the plasma that leaves it: the well-stirred liver. The kidney filters GFR FU of the arterial plasma, of which the part
GFR_FRACTION is lost, and secretes CLSEC FU of the plasma that leaves it. All is linear: every term moves drug from one state to
another, or out, with a rate constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gemello.domains.pharmacology.physiology.anatomy import Body
from gemello.model.contract import Balance, State


class Transfer(NamedTuple):
    """Drug moves from the state `source` to the state `target` (None: it is eliminated) at `rate` (1/h) times the source."""

    source: str
    target: str | None
    rate: Any


def leaving(p: Any, organ: str) -> Any:
    """Concentration in the blood that leaves an organ per amount in it, 1/L."""
    name = organ.upper()
    return 1.0 / (getattr(p, f"V_{name}") * getattr(p, f"KB_{name}") * p.KP_SCALE)


def flow(p: Any, *organs: str) -> Any:
    """Arterial blood flow of these organs together, L/h."""
    return sum(getattr(p, f"Q_{o.upper()}") for o in organs)


def transfers(body: Body, p: Any) -> Iterator[Transfer]:
    """Every path of the drug, with its rate constant (1/h)."""
    liver, lung, portal = body.on("liver")[0], body.on("lung")[0], body.on("portal")
    unbound = p.FU / p.BP  # unbound concentration in plasma over concentration in blood
    if body.oral:
        yield Transfer("lumen", "gut", p.KA)
    for organ in body.on("systemic"):
        yield Transfer(organ, "venous", flow(p, organ) * leaving(p, organ))
    for organ in portal:
        yield Transfer(organ, liver, flow(p, organ) * leaving(p, organ))
    yield Transfer(liver, "venous", flow(p, liver, *portal) * leaving(p, liver))
    yield Transfer(liver, None, p.CLINT * unbound * leaving(p, liver))
    yield Transfer("venous", lung, flow(p, *body.fed) / p.V_VENOUS)
    yield Transfer(lung, "arterial", flow(p, *body.fed) * leaving(p, lung))
    filtered = p.GFR_FRACTION * p.GFR * unbound if body.renal else 0.0
    for organ in body.fed:
        lost = filtered if organ == "kidney" else 0.0
        yield Transfer("arterial", organ, (flow(p, organ) - lost) / p.V_ARTERIAL)
    if body.renal:
        yield Transfer("arterial", None, filtered / p.V_ARTERIAL)
        yield Transfer("kidney", None, p.CLSEC * unbound * leaving(p, "kidney"))


def plasma(y: State, p: Any) -> Any:
    """Concentration in venous plasma, mg/L."""
    return y.venous / (p.V_VENOUS * p.BP)


def derivative(y: State, p: Any, body: Body) -> State:
    """Amounts, mg/h, and the concentration in venous plasma (mg/L) as the derivative of auc."""
    slope = dict.fromkeys(y._fields, y[0] * 0.0)
    for source, target, rate in transfers(body, p):
        moved = rate * getattr(y, source)
        slope[source] = slope[source] - moved
        if target is not None:
            slope[target] = slope[target] + moved
    return type(y)(**{**slope, "auc": plasma(y, p)})


def matrix(states: tuple[str, ...], p: Any, body: Body) -> tuple[tuple[Any, ...], ...]:
    """System matrix of `derivative`, 1/h (the row of auc: 1/L), in the order of `states`."""
    at = {name: i for i, name in enumerate(states)}
    rows: list[list[Any]] = [[0.0] * len(states) for _ in states]
    for source, target, rate in transfers(body, p):
        j = at[source]
        rows[j][j] = rows[j][j] - rate
        if target is not None:
            rows[at[target]][j] = rows[at[target]][j] + rate
    rows[at["auc"]][at["venous"]] = 1.0 / (p.V_VENOUS * p.BP)
    return tuple(tuple(r) for r in rows)


def balance(y: State, p: Any, body: Body) -> Balance:
    """All amounts are stored (mg); what liver and kidney take is the way out (mg/h)."""
    out = sum(rate * getattr(y, source) for source, target, rate in transfers(body, p) if target is None)
    return Balance(sum(y[:-1]), out)
