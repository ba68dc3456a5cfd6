"""Ends at its start with a traceback."""

raise LookupError("the water is gone")
