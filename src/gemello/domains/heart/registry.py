"""The heart's models by name, as `module:attribute`; nothing is imported until one is asked for."""

from __future__ import annotations

from gemello.domains.heart import qt

_CELLS = "gemello.domains.heart.cells"

CELLS: dict[str, str] = {
    "ohara_rudy_cipa": f"{_CELLS}.cipa.model:cipa",
    **{f"ohara_rudy_{layer}": f"{_CELLS}.ohara_rudy.model:{layer}" for layer in ("endo", "epi", "mid")},
    **{f"torord_{layer}": f"{_CELLS}.torord.model:{layer}" for layer in ("endo", "epi", "mid")},
    **{f"tt2006_{layer}": f"{_CELLS}.ten_tusscher.model:{layer}" for layer in ("epi", "endo", "mid")},
}
MODELS: dict[str, str] = {**CELLS, **qt.MODELS}
