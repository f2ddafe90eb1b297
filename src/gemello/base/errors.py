"""The map of errors. Every message names the place, the value and the remedy, in one line.

GemelloError
├── DataError          a file, a row, a column, a value
├── ModelError         a model, a parameter table, a card, a registry entry
├── SolverError        a subject and a time at which the equations could not be solved
├── DomainError        a subject outside the population that a model was built on
├── ConvergenceError   an estimation that did not converge
├── RefusalError       a question to which every honest answer is no
└── UnsupportedError   something that gemello does not do, and what to do instead
"""

from __future__ import annotations


class GemelloError(Exception):
    """Base of all errors that gemello raises on purpose. `exit_status` is what the command line returns."""

    exit_status = 2


class DataError(GemelloError):
    """Data that cannot be used: says the row, the column, the value and the remedy (what is known of them)."""

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.source, self.row, self.column, self.value, self.remedy = problem, source, row, column, value, remedy
        place = [source] if source else []
        place += [f"row {row}"] if row is not None else []
        place += [f"column {column}"] if column else []
        place += [f"value {str(value)[:60]!r}"] if value is not None else []
        super().__init__((f"{', '.join(place)}: " if place else "") + problem + (f"; {remedy}" if remedy else ""))


class ModelError(GemelloError):
    """A model that breaks the contract, or a parameter that it cannot take."""


class SolverError(GemelloError):
    """Equations that could not be solved: says the subject and the time."""

    exit_status = 1


class DomainError(GemelloError):
    """A subject outside the population that the model was built on."""


class ConvergenceError(GemelloError):
    """An estimation that did not converge."""

    exit_status = 1


class RefusalError(GemelloError):
    """A decision that is refused, with its reason."""


class UnsupportedError(GemelloError):
    """Something that gemello does not do; the message says what to do instead."""
