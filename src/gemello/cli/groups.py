"""Commands that a domain brings along: `gemello heart …`. A domain's `commands.app` is imported when it is called for."""

from __future__ import annotations

from importlib import util
from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """The command line, and one group of commands for each domain that has any."""

    def list_commands(self, ctx: Any) -> list[str]:
        """gemello's own commands, then the domains'."""
        return [*super().list_commands(ctx), *(n for n in _domains() if _has_commands(n))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name; a domain's group is imported here."""
        found = super().get_command(ctx, cmd_name)
        if found is not None or cmd_name not in _domains() or not _has_commands(cmd_name):
            return found
        from gemello.model import registry  # noqa: PLC0415

        return typer.main.get_command(registry.domain(cmd_name, "commands").app)


def _domains() -> dict[str, str]:
    from gemello.model import registry  # noqa: PLC0415

    return registry.packages()


def _has_commands(domain: str) -> bool:
    return util.find_spec(f"{_domains()[domain]}.commands") is not None
