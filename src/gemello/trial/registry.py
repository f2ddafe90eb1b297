"""Models of this floor by name: none; trials are made of other domains' twins."""

from __future__ import annotations

MODELS: dict[str, str] = {}
