"""Posteriors of simulators, for any number of observations (Sherki et al., Combining Flow Matching and
Transformers for Efficient Solution of Bayesian Inverse Problems)."""
