"""Who is paired with whom, and with what weight."""
