"""Lab 02's checks."""
