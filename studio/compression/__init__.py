"""A trained model made cheaper without training: a plan is searched, measured and saved (`studio
compress`)."""

from studio.compression.run import Compressed, compress

__all__ = ["Compressed", "compress"]
