"""Data ↔ what a network sees: pixels, latents of a VAE, graphs."""
