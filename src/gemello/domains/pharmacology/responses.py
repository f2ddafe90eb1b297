"""Pharmacodynamic and mechanistic models by name, as `module:attribute`; nothing is imported until one is asked for."""

from __future__ import annotations

_HERE = "gemello.domains.pharmacology"

MODELS: dict[str, str] = {
    "effect_compartment": f"{_HERE}.effect_compartment.model:effect_compartment",
    "indirect_1": f"{_HERE}.indirect_response.model:indirect_1",
    "indirect_2": f"{_HERE}.indirect_response.model:indirect_2",
    "indirect_3": f"{_HERE}.indirect_response.model:indirect_3",
    "indirect_4": f"{_HERE}.indirect_response.model:indirect_4",
    "turnover_emax": f"{_HERE}.indirect_response.model:turnover_emax",
    "myelosuppression": f"{_HERE}.myelosuppression.model:linear",
    "myelosuppression_emax": f"{_HERE}.myelosuppression.model:saturable",
    "tumour_simeoni": f"{_HERE}.tumour_growth.model:simeoni",
    "tumour_claret": f"{_HERE}.tumour_growth.model:claret",
    "hiv_dynamics": f"{_HERE}.hiv_dynamics.model:hiv_dynamics",
    "tmdd_full": f"{_HERE}.target_binding.model:full",
    "tmdd_qss": f"{_HERE}.target_binding.model:quasi_steady_state",
    "warfarin_pk": f"{_HERE}.warfarin.model:pk",
    "warfarin_pkpd": f"{_HERE}.warfarin.model:pkpd",
    "parent_metabolite": f"{_HERE}.parent_metabolite.model:parent_metabolite",
}
