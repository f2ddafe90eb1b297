"""The linear course: random intercept and slope."""
