"""What a network emits, and how a prediction is made of it."""
