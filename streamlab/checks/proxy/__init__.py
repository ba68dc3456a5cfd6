"""Lab 09's checks."""
