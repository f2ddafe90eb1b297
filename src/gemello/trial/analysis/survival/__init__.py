"""Time to an event: curves, tests, hazard ratios and restricted means of a randomised trial.

`analyse` compares arms and returns Estimates; `side_by_side` shows it without and with a prognostic score. The parts can be used
alone: `kaplan_meier`, `logrank`, `cox`, `proportional_hazards`, `concordance`, and on `prepare`d data `adjusted_logrank` and
`restricted_means`.
"""

from __future__ import annotations

from gemello.trial.analysis.survival.adjusted import AdjustedLogRank as AdjustedLogRank
from gemello.trial.analysis.survival.adjusted import adjusted_logrank as adjusted_logrank
from gemello.trial.analysis.survival.analyse import SideBySide as SideBySide
from gemello.trial.analysis.survival.analyse import analyse as analyse
from gemello.trial.analysis.survival.analyse import side_by_side as side_by_side
from gemello.trial.analysis.survival.concordance import Concordance as Concordance
from gemello.trial.analysis.survival.concordance import concordance as concordance
from gemello.trial.analysis.survival.cox import Cox as Cox
from gemello.trial.analysis.survival.cox import cox as cox
from gemello.trial.analysis.survival.data import SurvivalData as SurvivalData
from gemello.trial.analysis.survival.data import prepare as prepare
from gemello.trial.analysis.survival.kaplan_meier import KaplanMeier as KaplanMeier
from gemello.trial.analysis.survival.kaplan_meier import kaplan_meier as kaplan_meier
from gemello.trial.analysis.survival.logrank import LogRank as LogRank
from gemello.trial.analysis.survival.logrank import logrank as logrank
from gemello.trial.analysis.survival.proportional import Proportionality as Proportionality
from gemello.trial.analysis.survival.proportional import proportional_hazards as proportional_hazards
from gemello.trial.analysis.survival.proportional import schoenfeld_residuals as schoenfeld_residuals
from gemello.trial.analysis.survival.rmst import RestrictedMeans as RestrictedMeans
from gemello.trial.analysis.survival.rmst import restricted_means as restricted_means
