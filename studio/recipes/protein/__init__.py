"""Protein backbones as six angles a residue (FoldingDiff, Wu et al. 2209.15611), on the torus."""
