"""The neural generator: a conditional normalising flow whose base distribution is a Gaussian process over variables and times."""

from __future__ import annotations

from gemello.domains.progression.neural.generator import Neural as Neural
