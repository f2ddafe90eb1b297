"""gemello: digital twins in biology and medicine. A twin is a model plus what one subject's data say about it.

This is the front door. Every public name is here and is loaded when it is first asked for, so that `import gemello` is
quick, opens nothing and starts no JAX. A new name takes two lines: one in the table, one in the block below it
(tests/test_front_door.py holds them together). Inside gemello nobody comes in by this door.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gemello.base.version import __version__

_HOMES = {  # public name: module that it lives in
    # errors
    "ConvergenceError": "gemello.base.errors",
    "DataError": "gemello.base.errors",
    "DomainError": "gemello.base.errors",
    "GemelloError": "gemello.base.errors",
    "ModelError": "gemello.base.errors",
    "RefusalError": "gemello.base.errors",
    "SolverError": "gemello.base.errors",
    "UnsupportedError": "gemello.base.errors",
    # provenance
    "Provenance": "gemello.base.provenance",
    # the contract of a model
    "Balance": "gemello.model.contract",
    "Card": "gemello.model.card",
    "Covariate": "gemello.model.contract",
    "Model": "gemello.model.contract",
    "Output": "gemello.model.contract",
    "Parameter": "gemello.model.parameters",
    "ParameterTable": "gemello.model.parameters",
    "Port": "gemello.model.contract",
    "Residual": "gemello.model.contract",
    # models and domains by name
    "benchmark": "gemello.model.registry",
    "get": "gemello.model.registry",
    "models": "gemello.model.registry",
    "register": "gemello.model.registry",
    "validate": "gemello.model.registry",
    "Check": "gemello.model.conformance",
    "conformance": "gemello.model.conformance",
    # subjects and simulation
    "Schedule": "gemello.model.schedule",
    "Subject": "gemello.model.schedule",
    "Trajectories": "gemello.model.simulate",
    "simulate": "gemello.model.simulate",
    # populations
    "Fit": "gemello.inference.result",
    "PopulationParameters": "gemello.model.population",
    "fit": "gemello.inference.population",
    # around a fit
    "Effect": "gemello.model.effects",
    "bootstrap": "gemello.inference.bootstrap",
    "goodness": "gemello.inference.residuals",
    "npde": "gemello.inference.npde",
    "replicates": "gemello.inference.observed",
    "stepwise": "gemello.inference.covariates",
    "vpc": "gemello.inference.vpc",
    "with_effects": "gemello.model.effects",
    # twins
    "Constraint": "gemello.twin.goals",
    "Mixture": "gemello.twin.mixture",
    "Pharmacy": "gemello.twin.regimens",
    "Policy": "gemello.twin.reactive",
    "auc24": "gemello.twin.goals",
    "average": "gemello.twin.mixture",
    "optimise_many": "gemello.twin.decide",
    "reactive": "gemello.twin.reactive",
    "time_above_mic": "gemello.twin.goals",
    "Decision": "gemello.twin.decide",
    "Forecast": "gemello.twin.forecast",
    "Grid": "gemello.twin.regimens",
    "Posterior": "gemello.twin.posterior",
    "Regimen": "gemello.twin.regimens",
    "Target": "gemello.twin.goals",
    "Twin": "gemello.twin.twin",
    # learned generators
    "Generator": "gemello.model.generator",
    "History": "gemello.model.generator",
    "Variable": "gemello.model.generator",
    # trials
    "ancova": "gemello.trial.analysis.ancova",
    "g_computation": "gemello.trial.analysis.marginal",
    "ordinal": "gemello.trial.analysis.ordinal",
    "mmrm": "gemello.trial.analysis.mmrm.fit",
    "lme": "gemello.trial.analysis.mmrm.lme",
    "gee": "gemello.trial.analysis.gee",
    "kaplan_meier": "gemello.trial.analysis.survival.kaplan_meier",
    "group_sequential": "gemello.trial.design.boundaries",
    "prognostic_power": "gemello.trial.design.prognostic",
    "prognostic_sample_size": "gemello.trial.design.prognostic",
    "like_for_like": "gemello.trial.external.likeforlike",
    "borrow": "gemello.trial.external.borrow",
    "side_by_side": "gemello.trial.analysis.compare",
    # reports
    "Checks": "gemello.report.fit_section",
    "checks_report": "gemello.report.page",
    "bedside_report": "gemello.report.bedside",
    "fit_report": "gemello.report.page",
    "twin_report": "gemello.report.page",
}

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from gemello.base.errors import ConvergenceError as ConvergenceError
    from gemello.base.errors import DataError as DataError
    from gemello.base.errors import DomainError as DomainError
    from gemello.base.errors import GemelloError as GemelloError
    from gemello.base.errors import ModelError as ModelError
    from gemello.base.errors import RefusalError as RefusalError
    from gemello.base.errors import SolverError as SolverError
    from gemello.base.errors import UnsupportedError as UnsupportedError
    from gemello.base.provenance import Provenance as Provenance
    from gemello.inference.bootstrap import bootstrap as bootstrap
    from gemello.inference.covariates import stepwise as stepwise
    from gemello.inference.npde import npde as npde
    from gemello.inference.observed import replicates as replicates
    from gemello.inference.population import fit as fit
    from gemello.inference.residuals import goodness as goodness
    from gemello.inference.result import Fit as Fit
    from gemello.inference.vpc import vpc as vpc
    from gemello.model.card import Card as Card
    from gemello.model.conformance import Check as Check
    from gemello.model.conformance import conformance as conformance
    from gemello.model.contract import Balance as Balance
    from gemello.model.contract import Covariate as Covariate
    from gemello.model.contract import Model as Model
    from gemello.model.contract import Output as Output
    from gemello.model.contract import Port as Port
    from gemello.model.contract import Residual as Residual
    from gemello.model.effects import Effect as Effect
    from gemello.model.effects import with_effects as with_effects
    from gemello.model.generator import Generator as Generator
    from gemello.model.generator import History as History
    from gemello.model.generator import Variable as Variable
    from gemello.model.parameters import Parameter as Parameter
    from gemello.model.parameters import ParameterTable as ParameterTable
    from gemello.model.population import PopulationParameters as PopulationParameters
    from gemello.model.registry import benchmark as benchmark
    from gemello.model.registry import get as get
    from gemello.model.registry import models as models
    from gemello.model.registry import register as register
    from gemello.model.registry import validate as validate
    from gemello.model.schedule import Schedule as Schedule
    from gemello.model.schedule import Subject as Subject
    from gemello.model.simulate import Trajectories as Trajectories
    from gemello.model.simulate import simulate as simulate
    from gemello.report.bedside import bedside_report as bedside_report
    from gemello.report.fit_section import Checks as Checks
    from gemello.report.page import checks_report as checks_report
    from gemello.report.page import fit_report as fit_report
    from gemello.report.page import twin_report as twin_report
    from gemello.trial.analysis.ancova import ancova as ancova
    from gemello.trial.analysis.compare import side_by_side as side_by_side
    from gemello.trial.analysis.gee import gee as gee
    from gemello.trial.analysis.marginal import g_computation as g_computation
    from gemello.trial.analysis.mmrm.fit import mmrm as mmrm
    from gemello.trial.analysis.mmrm.lme import lme as lme
    from gemello.trial.analysis.ordinal import ordinal as ordinal
    from gemello.trial.analysis.survival.kaplan_meier import kaplan_meier as kaplan_meier
    from gemello.trial.design.boundaries import group_sequential as group_sequential
    from gemello.trial.design.prognostic import prognostic_power as prognostic_power
    from gemello.trial.design.prognostic import prognostic_sample_size as prognostic_sample_size
    from gemello.trial.external.borrow import borrow as borrow
    from gemello.trial.external.likeforlike import like_for_like as like_for_like
    from gemello.twin.decide import Decision as Decision
    from gemello.twin.decide import optimise_many as optimise_many
    from gemello.twin.forecast import Forecast as Forecast
    from gemello.twin.goals import Constraint as Constraint
    from gemello.twin.goals import Target as Target
    from gemello.twin.goals import auc24 as auc24
    from gemello.twin.goals import time_above_mic as time_above_mic
    from gemello.twin.mixture import Mixture as Mixture
    from gemello.twin.mixture import average as average
    from gemello.twin.posterior import Posterior as Posterior
    from gemello.twin.reactive import Policy as Policy
    from gemello.twin.reactive import reactive as reactive
    from gemello.twin.regimens import Grid as Grid
    from gemello.twin.regimens import Pharmacy as Pharmacy
    from gemello.twin.regimens import Regimen as Regimen
    from gemello.twin.twin import Twin as Twin

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (the table is the list)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gemello' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
