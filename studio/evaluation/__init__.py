"""Samples against a reference, with the protocol attached."""

from studio.evaluation.comparing import Comparison, compare
from studio.evaluation.results import Result, load_result, table
from studio.evaluation.run import evaluate

__all__ = ["Comparison", "Result", "compare", "evaluate", "load_result", "table"]
