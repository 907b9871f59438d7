"""Encoders that several methods share."""
