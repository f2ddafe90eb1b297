"""The speed of the MMRM beside R's nlme::gls: the same fit on fev_data, in one run, on this machine.

Rows: `ours` and `peer` in seconds (medians), `ratio` the peer's over ours. The peer is timed by R's own system.time within one
Rscript, after a first call that is not counted; where there is no Rscript, or no nlme, the row says so.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gemello.base.reference import reference_data
from gemello.trial.analysis.mmrm import MmrmFit, mmrm

Case = dict[str, Any]
FORMULA = "FEV1 ~ RACE + SEX + ARMCD*AVISIT"
LIMIT, RUNS, PEER_TIME = 2.0, 5, 120.0  # seconds, runs, seconds
_R = """
suppressMessages(library(nlme))
d <- read.csv(commandArgs(TRUE)[1]); d <- d[!is.na(d$FEV1), ]; d$visit <- as.integer(factor(d$AVISIT))
once <- function() gls(FEV1 ~ RACE + SEX + ARMCD*AVISIT, data = d, correlation = corSymm(form = ~ visit | USUBJID),
                       weights = varIdent(form = ~ 1 | AVISIT), method = "REML")
f <- once()
seconds <- sapply(seq_len(as.integer(commandArgs(TRUE)[2])), function(i) system.time(once())[["elapsed"]])
cat(median(seconds), sprintf("%.6f", -2 * as.numeric(logLik(f))), as.character(packageVersion("nlme")), R.version$major,
    R.version$minor, "\\n")
"""


def cases() -> Iterator[Case]:
    """Kenward–Roger within its limit, and the plain fit beside gls."""
    folder = reference_data("trial")
    if folder is None:
        words = "the trial reference data are not there; set GEMELLO_DATA"
        yield _row("MMRM, unstructured, fev_data", None, None, words, None, None)
        return
    path = folder / "mmrm_fev_data.csv"
    table = pl.read_csv(path)

    def adjusted() -> MmrmFit:
        fit = mmrm(FORMULA, table, subject="USUBJID", visit="AVISIT", df="kenward-roger")
        fit.difference("TRT", "PBO", "VIS4")
        return fit

    seconds, _ = _median(adjusted)
    name = "MMRM, unstructured, 537 observations of 197 subjects (fev_data)"
    yield _row(f"{name}: fit, Kenward–Roger, a difference", seconds, LIMIT, "limit asked for", LIMIT / seconds, 1.0)
    seconds, fit = _median(lambda: mmrm(FORMULA, table, subject="USUBJID", visit="AVISIT", df="residual"))
    theirs, words, value = _gls(path)
    told = f"{name}: fit" if value is None else f"{name}: fit, −2 log L {fit.minus2loglik:.6f}, the peer's {value:.6f}"
    yield _row(told, seconds, theirs, words, None if theirs is None else theirs / seconds, 1.0)


def _median(f: Callable[[], MmrmFit]) -> tuple[float, MmrmFit]:
    fit = f()  # not counted, as for the peer
    found = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        f()
        found.append(time.perf_counter() - begin)
    return float(np.median(found)), fit


def _gls(path: Path) -> tuple[float | None, str, float | None]:
    """Seconds, version and −2 log L of the peer; None and the reason where it does not run."""
    program = shutil.which("Rscript")
    if program is None:
        return None, "Rscript is not installed; install R with the package nlme", None
    try:
        out = subprocess.run(
            [program, "-e", _R, str(path), str(RUNS)], capture_output=True, text=True, timeout=PEER_TIME, check=True
        ).stdout.split()
        seconds, value, nlme, major, minor = out[-5:]
        return float(seconds), f"nlme {nlme} gls, R {major}.{minor}", float(value)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None, "Rscript does not run nlme here; install R with the package nlme", None


def _row(name: str, ours: float | None, peer: float | None, words: str, ratio: float | None, bar: float | None) -> Case:
    return {"case": name, "ours": ours, "peer": peer, "peer_version": words, "unit": "s", "ratio": ratio, "bar": bar}
