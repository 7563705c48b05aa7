"""`selective_scan` by its lasting name; see `backbones.recurrences.scan`."""

from backbones.recurrences.scan import selective_scan

__all__ = ["selective_scan"]
