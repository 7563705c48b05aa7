"""Weights of the original implementations, by their key names."""
