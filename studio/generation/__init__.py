"""Any number of samples into a folder, any interruption harmless."""

from studio.generation.run import Generated, generate

__all__ = ["Generated", "generate"]
