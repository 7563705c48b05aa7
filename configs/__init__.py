"""YAML configs shipped with the package."""
