"""Training works on one run: the loop, what it starts from, and what it goes on from."""
