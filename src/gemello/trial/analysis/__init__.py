"""Analyses of a randomised trial: each takes a table and a formula and gives estimates that say which method ran."""
