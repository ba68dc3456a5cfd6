"""Grading a class: every submission in a sandbox of its own, and one row for every student."""
