"""Ventricular cell models, one folder each."""
