"""The one place where the version is written; packaging, `gemello.__version__` and provenance read it here."""

__version__ = "0.1.0"
