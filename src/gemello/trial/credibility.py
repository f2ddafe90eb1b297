"""The items that a reviewer looks for: FDA's plan for the credibility of an AI model, and the estimand of ICH E9(R1).

Sources: FDA, "Considerations for the use of artificial intelligence to support regulatory decision-making for drug and biological
products", draft guidance, January 2025, section IV (seven steps); ICH E9(R1), Addendum on estimands and sensitivity analysis,
2019, sections A.3 and A.5. What a protocol does not say is shown as missing: nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gemello.trial.protocol import Estimand, Protocol

MISSING = "not stated in the protocol"
COVERAGE = (
    "FDA's guidance of May 2023 on adjusting for covariates speaks of prespecified baseline covariates. It does not cover scores "
    "that a model has learned from other data: its scope excludes them. Nor does it address mixed models for repeated measures, "
    "models for missing outcomes, non-randomised comparisons or Bayesian methods: where these appear here, they cannot "
    "claim it. The unadjusted and the covariate-adjusted analysis stand beside the others for that reason."
)


@dataclass(frozen=True)
class Item:
    """One item: step, what is asked, what is said. given: whether the protocol or the run says it."""

    step: str
    asked: str
    said: str
    given: bool = True


def plan(protocol: Protocol, model: Mapping[str, str], performance: Sequence[str], gate: Sequence[str]) -> tuple[Item, ...]:
    """The seven steps. model: what the locked generator says of itself (kind, hash, training data, rows, dates); performance:
    sentences on its held-out and in-trial performance; gate: on drift and calibration. Empty where no generator is used."""
    said = protocol.credibility

    def own(key: str) -> tuple[str, bool]:
        return (said[key], True) if key in said else (MISSING, False)

    used = bool(model)
    described = "; ".join(f"{k}: {v}" for k, v in model.items()) if used else "no learned model enters the analysis"
    none = "no learned model enters the analysis"
    return (
        Item("1 Question of interest", "What question does the model help to answer?", *own("question")),
        Item("2 Context of use", "What does the model do, on what input, beside which other evidence?", *own("context_of_use")),
        Item("3 Model risk", "Model influence: how much of the answer comes from the model?", *own("model_influence")),
        Item("3 Model risk", "Decision consequence: what follows from a wrong answer?", *own("decision_consequence")),
        Item("4 Plan: model", "What is the model, and how is it fixed?", described, used),
        Item("4 Plan: data", "What was it trained on, and is that fit for use here?", " ".join(gate) or none, bool(gate)),
        Item("4 Plan: evaluation", "How well does it forecast persons that it has not seen?", " ".join(performance) or none,
             bool(performance)),
        Item("4 Plan", "The plan as agreed with the authority", *own("plan")),
        Item("5 Execution", "Was the plan carried out?", f"protocol SHA-256 {protocol.hash}; seed {protocol.seed}"),
        Item("6 Results and deviations", "What departed from the plan?", *own("deviations")),
        Item("7 Adequacy", "Is the model adequate for its context of use?", *own("adequacy")),
    )  # fmt: skip


def attributes(estimand: Estimand | None) -> tuple[Item, ...]:
    """The five attributes, one row each, and one for every intercurrent event."""
    if estimand is None:
        return (Item("Estimand", "ICH E9(R1): five attributes", MISSING, False),)
    rows = [
        Item("Treatment", "Treatment condition and its alternative", estimand.treatment),
        Item("Population", "Patients targeted by the question", estimand.population),
        Item("Variable", "What is obtained for each patient", estimand.variable),
    ]
    rows += [Item("Intercurrent event", e.name, f"strategy: {e.strategy}") for e in estimand.events]
    if not estimand.events:
        rows.append(Item("Intercurrent events", "Strategy for each", "none declared", False))
    rows.append(Item("Summary", "Population-level summary", estimand.summary))
    return tuple(rows)
