"""What this machine can compute, row by row, and how long the homework takes on it at least."""
