"""Marks on their way into other gradebooks."""
