"""The pharmacology models by name, as `module:attribute`; nothing is imported until one is asked for."""

from __future__ import annotations

from gemello.domains.pharmacology import library, physiology, responses

_HERE = "gemello.domains.pharmacology"

PHARMACOKINETIC: dict[str, str] = {
    "pk1_iv": f"{_HERE}.one_compartment.model:iv",
    "pk1_oral": f"{_HERE}.one_compartment.model:oral",
    "pk2_iv": f"{_HERE}.two_compartment.model:iv",
    "pk2_oral": f"{_HERE}.two_compartment.model:oral",
    "pk3_iv": f"{_HERE}.three_compartment.model:iv",
    "pk3_oral": f"{_HERE}.three_compartment.model:oral",
    "mm1_iv": f"{_HERE}.michaelis_menten.model:iv",
    "mm1_oral": f"{_HERE}.michaelis_menten.model:oral",
    "mm2_iv": f"{_HERE}.michaelis_menten.model:two_iv",
    "mm2_oral": f"{_HERE}.michaelis_menten.model:two_oral",
    "tmdd": f"{_HERE}.target_mediated.model:tmdd",
    "vancomycin_goti2018": f"{_HERE}.goti2018.model:vancomycin",
    "theoph_oral": f"{_HERE}.theophylline.model:oral",
    "theoph_fo": f"{_HERE}.theophylline.model:first_order",
    "pheno": f"{_HERE}.phenobarbital_neonate.model:pheno",
}
MODELS: dict[str, str] = {**PHARMACOKINETIC, **responses.MODELS, **physiology.MODELS, **library.MODELS}
