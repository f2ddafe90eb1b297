"""Vancomycin in hospitalised adults with and without haemodialysis (vancomycin_goti2018)."""
