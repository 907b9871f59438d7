"""Searches and ablations."""
