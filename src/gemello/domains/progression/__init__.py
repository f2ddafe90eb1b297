"""Progression of disease: how a person goes on, learnt from history, one generator to a method, chosen by held-out score."""
