"""The nonlinear disease course: every person goes through the same stages, at a pace and from a start of their own."""
