"""A run has a spec and a key, a directory, and a plan that it belongs to."""
