"""Mixed models: repeated measures with a covariance between visits (MMRM), and random effects, by exact REML or ML."""

from gemello.trial.analysis.mmrm.core import FTest as FTest
from gemello.trial.analysis.mmrm.fit import MmrmFit as MmrmFit
from gemello.trial.analysis.mmrm.fit import mmrm as mmrm
from gemello.trial.analysis.mmrm.lme import LmeFit as LmeFit
from gemello.trial.analysis.mmrm.lme import lme as lme
from gemello.trial.analysis.mmrm.score import SideBySide as SideBySide
from gemello.trial.analysis.mmrm.score import add_score as add_score
from gemello.trial.analysis.mmrm.score import side_by_side as side_by_side
from gemello.trial.analysis.mmrm.score import with_score as with_score
