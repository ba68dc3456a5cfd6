"""Clients, answers and the buffers between them."""
