"""The version, which results and models record."""

__version__ = "0.1.0"
