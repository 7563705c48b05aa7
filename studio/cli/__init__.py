"""The command line."""

from studio.cli.main import app, main

__all__ = ["app", "main"]
