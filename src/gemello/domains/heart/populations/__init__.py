"""Populations of ventricular cells: calibrated to measured action potentials, of either sex, and their answers to a drug."""
