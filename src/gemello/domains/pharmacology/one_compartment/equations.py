"""One-compartment pharmacokinetics: how the parameters make the rate constants.

Equations in `linear_pk` and `closed_form`: Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, ch. 1-2; Bertrand & Mentré 2008.
"""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.closed_form import Constants


def intravenous(p: Any) -> Constants:
    """One compartment with first-order elimination, doses into the central one."""
    return Constants(p.CL, p.V)


def oral(p: Any) -> Constants:
    """The same with first-order absorption from a depot."""
    return intravenous(p)._replace(absorption=p.KA)
