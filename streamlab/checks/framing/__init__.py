"""Lab 04's checks."""
