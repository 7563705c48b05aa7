"""Loops compiled by numba for CPUs, sixteen floats at once."""
