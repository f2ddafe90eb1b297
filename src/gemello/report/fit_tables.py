"""The tables of a population fit beyond its estimates: correlations, bootstrap, NPDE, covariate search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from gemello.inference.bootstrap import Bootstrap
from gemello.inference.covariates import Stepwise
from gemello.inference.npde import Npde
from gemello.inference.residuals import Goodness
from gemello.inference.result import Fit
from gemello.report.tables import Table
from gemello.report.words import number, percent, sentence

STRONG = 0.9


def sentences(words: Sequence[str]) -> str:
    """Each with a capital and a full stop."""
    return " ".join(map(sentence, words))


def correlation_table(fit: Fit) -> Table | None:
    """Correlations of the estimates, lower triangle; None where they could not be had."""
    sd = np.sqrt(np.diag(fit.covariance)) if fit.covariance.size else np.zeros(0)
    known = np.isfinite(sd) & (sd > 0)
    if known.sum() < 2:
        return None
    names = [n for n, k in zip(fit.names, known, strict=True) if k]
    r = fit.covariance[np.ix_(known, known)] / np.outer(sd[known], sd[known])
    cells = lambda i: tuple(number(r[i, j], 2) if j <= i else "" for j in range(len(names)))  # noqa: E731
    rows = tuple((n, *cells(i)) for i, n in enumerate(names))
    pairs = [f"{names[i]} and {names[j]}" for i in range(len(names)) for j in range(i) if abs(r[i, j]) > STRONG]
    size = np.linalg.eigvalsh(r)
    condition = float(size[-1] / size[0]) if size[0] > 0 else float("inf")
    note = (
        f"Condition number of this matrix: {number(condition, 3)} (above 1000 says that the data do not tell estimates apart). "
    )
    note += f"Beyond ±{STRONG:g}: {', '.join(pairs)}." if pairs else f"No correlation is beyond ±{STRONG:g}."
    return Table("Correlations of the estimates", ("", *names), rows, frozenset(range(1, len(names) + 1)), note=note)


def eta_table(fit: Fit, g: Goodness | None) -> Table:
    """Standard deviation between subjects, shrinkage and mean of each eta; shrinkage of the residuals in the note."""
    sd, rows = np.sqrt(np.diag(fit.omega)), []
    for k, n in enumerate(fit.etas):
        e = fit.individual[:, k]
        p = float(stats.ttest_1samp(e, 0.0).pvalue) if len(e) > 2 and np.std(e) > 0 else float("nan")
        rows.append((n, number(sd[k]), percent(fit.shrinkage[n], 1), number(float(e.mean()), 3), number(p, 2)))
    for n, v in getattr(fit, "occasion", {}).items():
        rows.append((f"{n}, between occasions", number(float(np.sqrt(v))), "–", "–", "–"))
    note = "Shrinkage: 1 − SD(η̂)/ω. Above about 30 % plots of etas against covariates mislead. p: t-test of a mean of 0."
    if g is not None and np.isfinite(g.iwres).sum() > 2:
        note += f" Shrinkage of the residual error, 1 − SD(IWRES): {percent(1 - float(np.nanstd(g.iwres)), 1)}."
    columns = ("parameter", "standard deviation of eta (ω)", "shrinkage", "mean of η̂", "p")
    return Table("Variation between subjects", columns, tuple(rows), frozenset({1, 2, 3, 4}), note=note)


def bootstrap_table(b: Bootstrap, level: float = 0.95) -> Table:
    """Estimate, bias, standard error and percentile interval of each quantity, with Monte Carlo errors of the ends."""
    (low, high), (a, z) = b.interval(level), b.interval_error(level)
    rows = tuple(
        (n, number(b.fitted[i]), number(b.bias[i], 3), number(b.se[i], 3), f"{number(low[i])} ± {number(a[i], 2)}",
         f"{number(high[i])} ± {number(z[i], 2)}")
        for i, n in enumerate(b.names)
    )  # fmt: skip
    done, of = int(b.converged.sum()), len(b.converged)
    strata = f", stratified by {b.stratified}" if b.stratified else ""
    note = f"{done} of {of} samples converged and are used; {b.kind}{strata}, refits by {b.method.upper()}, seed {b.seed}. "
    note += f"±: Monte Carlo standard error. {sentences(b.notes)}"
    columns = ("parameter", "estimate", "bias", "SE", f"{percent(level)} interval, from", "to")
    return Table("Bootstrap", columns, rows, frozenset({1, 2, 3, 4, 5}), note=note.strip())


def npde_table(n: Npde) -> Table:
    """Moments and tests of NPDE, of all values and of each output."""
    several = {"all values": n.tests, **n.by_output} if len(n.by_output) > 1 else n.by_output
    rows = tuple(
        (k, str(t.values), f"{number(t.mean, 3)} ± {number(t.mean_se, 2)}",
         f"{number(t.variance, 3)} ± {number(t.variance_se, 2)}",
         number(t.p_mean, 2), number(t.p_variance, 2), number(t.p_normality, 2), number(t.p_global, 2))
        for k, t in several.items()
    )  # fmt: skip
    error = max(n.tests.mean_error, n.tests.variance_error)
    note = (
        f"{n.replicates} simulated data sets, seed {n.seed}; Monte Carlo standard error of mean and variance up to "
        f"{number(error, 2)}. If the model is right the mean is 0 and the variance 1. p: Wilcoxon signed-rank, Fisher, "
        "Shapiro-Wilk, and all three "
        f"(Bonferroni). {sentences(n.notes)}"
    )
    columns = ("output", "values", "mean ± SE", "variance ± SE", "p (mean)", "p (variance)", "p (normality)", "p (all)")
    return Table("Normalised prediction distribution errors", columns, rows, frozenset(range(1, 8)), note=note.strip())


def steps_table(s: Stepwise) -> Table:
    """Every model that a covariate search tried; those that it went on with are marked."""
    rows, marked = [], set()
    for i, step in enumerate(s.steps):
        kind = "in" if step.direction == "forward" else "out"
        decision = {("in", True): "taken in", ("out", True): "taken out", ("out", False): "kept"}.get((kind, step.chosen), "")
        decision = decision if step.converged else "did not converge"
        rows.append(
            (f"{step.direction} {step.number}", step.label, number(step.objective, 7), number(step.drop, 4), str(step.df),
             number(step.p, 2), decision)
        )  # fmt: skip
        marked |= {i} if step.chosen else set()
    found = ", ".join(f"{e.parameter} ~ {e.covariate} ({e.form})" for e in s.effects) or "none"
    note = (
        f"Forward p < {s.forward:g}, backward p > {s.backward:g}, likelihood-ratio tests. Drop: by how much the objective is "
        f"lower with the effect. Objective {number(s.base.objective, 7)} before, {number(s.final.objective, 7)} after. "
        f"Effects found: {found}. {sentences(s.cautions)}"
    )
    columns = ("step", "effect", "objective", "drop", "df", "p", "")
    return Table("Search for covariate effects", columns, tuple(rows), frozenset({2, 3, 4, 5}), frozenset(marked), note)
