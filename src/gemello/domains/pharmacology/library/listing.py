"""The library as a table: what docs/library.md shows."""

from __future__ import annotations

import re

from gemello.domains.pharmacology.library import MODELS, OTHERS
from gemello.model import registry
from gemello.model.contract import Model

HEADINGS = ("name", "drug", "population", "structure", "covariates", "source")


def rows() -> list[tuple[str, ...]]:
    """One row for each published model, in the order of `HEADINGS`."""
    names = sorted({*MODELS, *(n for others in OTHERS.values() for n in others)})
    return [_row(n, registry.get(n)) for n in names]


def table() -> str:
    """The rows as a Markdown table."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _row(name: str, model: Model) -> tuple[str, ...]:
    covariates = ", ".join(
        f"{c.name} {_range(c.lower, c.upper, c.categorical is not None)} {c.unit}".removesuffix(" 1") for c in model.covariates
    )
    return name, name.split("_", 1)[0], _population(model), _structure(model), covariates or "none", _source(model)


def _range(lower: float, upper: float, categories: bool) -> str:
    return f"{lower:g}/{upper:g}" if categories else f"{lower:g}-{upper:g}"


def _population(model: Model) -> str:
    """The first statement of the card's valid range, without what stands in parentheses."""
    text = re.sub(r" \([^)]*\)", "", " ".join(model.card.sections["Valid range"].split()))
    return re.split(r"[;.:](?:\s|$)", text, maxsplit=1)[0]


def _structure(model: Model) -> str:
    states = [s for s in model.states if s not in model.accumulators and s != "auc"]
    chain = [s for s in states if re.fullmatch(r"c\d+", s)]
    places = [s for s in states if s.startswith(("central", "peripheral"))]
    words = [f"chain of {len(chain)} compartments" if chain else f"{len(places)} compartment{'s' if len(places) > 1 else ''}"]
    words += ["absorption"] if "depot" in states else []
    words += ["5 compartments of cells with feedback"] if "circ" in states else []
    words += ["not linear or changing in time"] if not model.has("matrix") and not model.has("propagator") else []
    occasions = model.parameters.occasion_names
    words += [f"variation of {' and '.join(occasions)} between occasions"] if occasions else []
    return ", ".join(words)


def _source(model: Model) -> str:
    """First author and place of the first reference."""
    parts = " ".join(model.card.sections["References"].split()).removeprefix("- ").split(". ")
    if len(parts) < 3 or "PKPDsim" in parts[0]:
        return parts[0].rstrip(".")
    authors, place = parts[0], parts[2]
    return f"{authors.split(',')[0]}{' et al.' if ',' in authors else ''}, {place.rstrip('.')}"
