"""`gemello heart …`: what a safety pharmacologist asks of virtual hearts."""

from __future__ import annotations

import typer

from gemello.domains.heart.organ.command import ecg
from gemello.domains.heart.populations.command import population
from gemello.domains.heart.qt.command import qt
from gemello.domains.heart.risk.command import risk

app = typer.Typer(name="heart", help="Virtual hearts for cardiac drug safety.", no_args_is_help=True, add_completion=False)
app.command("risk")(risk)
app.command("qt")(qt)
app.command("ecg")(ecg)
app.command("population")(population)
