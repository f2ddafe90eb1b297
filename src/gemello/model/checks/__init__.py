"""The checks behind `gemello.model.conformance`, by what they look at. A check takes a `Probe`, gives what it measured in words,
and raises `BrokenError` where the model is wrong."""
