"""Risk of torsade de pointes: the torsade metric score from qNet, ordinal classes, their probabilities and what they rest on."""
