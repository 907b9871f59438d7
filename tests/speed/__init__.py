"""Measurements of speed: `python -m tests.speed` lists them."""
