"""Results that the tests of reports and of the demo look at, each made once."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser

import numpy as np

from gemello.domains.pharmacology.theophylline import boeckmann1994, demonstration
from gemello.domains.pharmacology.theophylline.model import oral
from gemello.model.schedule import Schedule
from gemello.twin.forecast import Forecast
from gemello.twin.twin import Twin

HOSTILE = "<script>alert('1')</script>&\"quoted\""


@cache
def demo() -> demonstration.Demo:
    """The whole demo (about 20 s)."""
    return demonstration.compute(seed=20)


@cache
def hostile() -> tuple[Twin, Forecast, Schedule]:
    """A twin with a hostile name from the parameter table's population, its forecast, and what was held back."""
    subject = boeckmann1994.subjects()[0]
    seen, held_back = demonstration._split(subject)
    twin = Twin.new(oral, id=HOSTILE, draws=512, seed=1).assimilate(seen, draws=512, seed=1)
    forecast = twin.forecast(times=np.concatenate([np.linspace(0, 25, 26), held_back.time]), outputs="cp", seed=1)
    return twin, forecast, held_back


class Page(HTMLParser):
    """Checks that every element that is opened is closed, and collects elements, attributes and words outside of scripts."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"<{t}> is never closed" for t in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
