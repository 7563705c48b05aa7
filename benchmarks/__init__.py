"""What is timed. Every script measures both sides in one run, prints a table and ends with one JSON line of its ratios."""
