"""A trained model, loaded and asked."""

from studio.model.loading import load
from studio.model.model import Model

__all__ = ["Model", "load"]
