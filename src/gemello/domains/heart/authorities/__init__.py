"""Checks of the heart domain against outside authorities, one file for each source."""
