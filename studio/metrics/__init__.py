"""Distances between sets of samples: extractors of features, what is computed from them, and what is computed
from points directly.

Every number says how it was made: the extractor's hash, N, and the seed where there is one. Import from the
modules: ``distances``, ``manifold``, ``memorisation``, ``points``, ``features``.
"""
