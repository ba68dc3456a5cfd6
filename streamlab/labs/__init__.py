"""Labs: what they ask, how their checks are run, what became of them."""
