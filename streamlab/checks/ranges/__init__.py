"""Lab 08's checks."""
