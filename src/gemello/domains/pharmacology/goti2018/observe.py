"""What is measured of vancomycin: plasma concentration, and the area under it, which is predicted."""

from __future__ import annotations

from gemello.domains.pharmacology import linear_pk
from gemello.model.contract import Residual

OUTPUTS = linear_pk.outputs(Residual(additive="cp_additive", proportional="cp_proportional", form="combined1"))
