"""A model as a folder: found by name, its checkpoints, what it says of itself, and the network that its
config builds."""
