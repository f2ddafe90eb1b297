"""External and hybrid controls: matching, weighting, doubly robust estimation, Bayesian borrowing, and what they are worth."""
