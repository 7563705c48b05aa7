"""Steps from the source to the data."""
