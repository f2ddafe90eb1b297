"""The progression models by name, as `module:attribute`, and the generators; nothing is imported until one is asked for."""

from __future__ import annotations

_HERE = "gemello.domains.progression"

#: Disease courses that meet the contract of every model: a participant's twin has the same verbs as a patient's.
MODELS: dict[str, str] = {
    "disease_course": f"{_HERE}.latent_time.model:disease_course",
    "linear_course": f"{_HERE}.linear_course.model:linear_course",
}

#: Generators (`gemello.model.generator.Generator`) by their kind.
GENERATORS: dict[str, str] = {
    "mixed": f"{_HERE}.mixed.generator:Mixed",
    "latent_time": f"{_HERE}.latent_time.generator:LatentTime",
    "neural": f"{_HERE}.neural:Neural",
}
