"""Probes that several labs share."""
