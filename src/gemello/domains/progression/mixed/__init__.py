"""The baseline generator: mixed effects and a Gaussian process in time under transformed margins of mixed kinds."""
