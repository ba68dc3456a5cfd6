"""Lab 07's checks."""
