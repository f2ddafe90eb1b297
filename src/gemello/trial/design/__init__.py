"""Design of a trial: group-sequential boundaries, sample sizes, combination tests, and what a prognostic score is worth."""

from __future__ import annotations

from gemello.trial.design.boundaries import GroupSequential as GroupSequential
from gemello.trial.design.boundaries import group_sequential as group_sequential
from gemello.trial.design.combination import StageMeans as StageMeans
from gemello.trial.design.combination import conditional_power as conditional_power
from gemello.trial.design.combination import conditional_rejection_probability as conditional_rejection_probability
from gemello.trial.design.combination import fisher_bounds as fisher_bounds
from gemello.trial.design.combination import inverse_normal as inverse_normal
from gemello.trial.design.combination import repeated_interval as repeated_interval
from gemello.trial.design.combination import repeated_p as repeated_p
from gemello.trial.design.prognostic import PowerStatement as PowerStatement
from gemello.trial.design.prognostic import PrognosticSize as PrognosticSize
from gemello.trial.design.prognostic import SimulatedTrials as SimulatedTrials
from gemello.trial.design.prognostic import correlation_needed as correlation_needed
from gemello.trial.design.prognostic import prognostic_power as prognostic_power
from gemello.trial.design.prognostic import prognostic_sample_size as prognostic_sample_size
from gemello.trial.design.prognostic import simulate_trials as simulate_trials
from gemello.trial.design.sample_size import EventSize as EventSize
from gemello.trial.design.sample_size import SampleSize as SampleSize
from gemello.trial.design.sample_size import events_needed as events_needed
from gemello.trial.design.sample_size import power_means as power_means
from gemello.trial.design.sample_size import sample_size_means as sample_size_means
from gemello.trial.design.sample_size import sample_size_rates as sample_size_rates
from gemello.trial.design.sample_size import sample_size_survival as sample_size_survival
