"""Lab 05's checks."""
