"""Lab 06's checks."""
