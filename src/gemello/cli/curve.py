"""A live plot of the objective in the terminal while a fit runs, with the current estimates; plain lines where there is no
terminal."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gemello.cli import output

WIDTH, HEIGHT = 64, 9  # characters of the plot; each holds 2 × 4 dots
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character: columns, rows from the top


def braille(values: Sequence[float], width: int = WIDTH, height: int = HEIGHT) -> tuple[list[str], float, float]:
    """A curve through `values`, equally spaced: lines of braille characters, and the values of the lowest and the highest row.

    The range is that of the later half of the values, so that a first fall from far does not press the rest flat; what lies above
    is drawn at the top. Values that are no numbers are left out.
    """
    v = [(i, x) for i, x in enumerate(values) if math.isfinite(x)]
    if not v:
        return [" " * width] * height, 0.0, 1.0
    late = [x for i, x in v if i >= (len(values) - 1) // 2]
    low, high = min(x for _, x in v), max(late or [x for _, x in v])
    high = high if high > low else low + max(abs(low) * 1e-6, 1e-6)
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    last = max(len(values) - 1, 1)
    place = lambda i, x: (  # noqa: E731
        round(i / last * (columns - 1)), rows - 1 - round(min(max((x - low) / (high - low), 0.0), 1.0) * (rows - 1)),
    )  # fmt: skip
    before = place(*v[0])
    for point in v:
        c, r = place(*point)
        steps = max(abs(c - before[0]), abs(r - before[1]), 1)
        for k in range(steps + 1):
            x, y = before[0] + round((c - before[0]) * k / steps), before[1] + round((r - before[1]) * k / steps)
            cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
        before = (c, r)
    return ["".join(chr(0x2800 + b) for b in row) for row in cells], low, high


@dataclass
class Curve:
    """What a fit has said so far, as something that rich can draw. words: what is done now. estimates: by name, where known."""

    words: str
    method: str = ""
    values: list[float] = field(default_factory=list)
    iteration: int = 0
    estimates: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    spinner: Any = None  # kept, or it would not turn

    def add(self, iteration: int, objective: float, more: Any = None) -> None:
        """One iteration; more: estimates by name (anything else is left aside)."""
        self.iteration = iteration
        self.values.append(float(objective))
        if isinstance(more, Mapping):
            self.estimates = {str(k): float(v) for k, v in more.items()}

    def __rich__(self) -> Any:
        from rich.console import Group  # noqa: PLC0415
        from rich.spinner import Spinner  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        self.spinner = self.spinner or Spinner("dots")
        spent = f"{time.monotonic() - self.begun:.0f} s"
        if not self.values:
            self.spinner.update(text=Text(f"{self.words}  {spent}"))
            return self.spinner
        change = self.values[-1] - self.values[-2] if len(self.values) > 1 else 0.0
        head = f"{self.words}  iteration {self.iteration}  objective {self.values[-1]:.4f} ({change:+.4g})  {spent}"
        lines, low, high = braille(self.values)
        ends = {0: f"{high:.2f}", len(lines) - 1: f"{low:.2f}"}
        wide = max(len(e) for e in ends.values())
        plot = [
            Text.assemble((f"{ends.get(i, ''):>{wide}} ", "dim"), ("│", "dim"), (line, "cyan")) for i, line in enumerate(lines)
        ]
        foot = "  ".join(f"{k} {v:.4g}" for k, v in self.estimates.items())
        self.spinner.update(text=Text(head))
        return Group(self.spinner, *plot, *([Text(foot, style="dim")] if foot else []))


@contextlib.contextmanager
def fitting(text: str, method: str = "") -> Iterator[tuple[Callable[[str], None], Callable[..., None]]]:
    """While a fit runs: gives `say(words)` and `report(iteration, objective, estimates)` for it to call.

    In a terminal the objective is drawn as a curve on standard error and is gone at the end; elsewhere each call prints one line.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console = Console(stderr=True)
    name = f"{method.upper()} " if method else ""
    if not console.is_terminal:
        yield (
            lambda words: print(f"{words} …", file=sys.stderr, flush=True),
            lambda i, v, *_: print(f"{name}iteration {i}: objective {v:.4f} …", file=sys.stderr, flush=True),
        )
        return
    curve = Curve(text, method)

    def say(words: str) -> None:
        curve.words = words

    with Live(curve, console=console, transient=True, refresh_per_second=8) as live:
        output.running(live)
        try:
            yield say, curve.add
        finally:
            output.finished(live)
