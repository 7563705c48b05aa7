"""Samples against a reference, with the protocol attached."""

from studio.evaluation.results import Result, load_result, table
from studio.evaluation.run import evaluate

__all__ = ["Result", "evaluate", "load_result", "table"]
