"""Theophylline after a single oral dose (theoph_oral, theoph_fo)."""
