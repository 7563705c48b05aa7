"""What a sample is made of: where it starts, and what is known of it."""
