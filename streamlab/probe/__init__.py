"""Measure a server of the reader's own, from outside and by its process; no lab is needed."""
