"""Checks of lab 11: uploads."""
