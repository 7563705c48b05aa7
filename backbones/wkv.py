"""`bi_wkv` by its lasting name; see `backbones.recurrences.wkv`."""

from backbones.recurrences.wkv import bi_wkv

__all__ = ["bi_wkv"]
