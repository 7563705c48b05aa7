"""Weights of others as model folders, and model folders as others read them."""

from studio.convert.convert import FAMILIES, TARGETS, convert

__all__ = ["FAMILIES", "TARGETS", "convert"]
