"""What lab 10 asks of a download service in production: see each module."""
