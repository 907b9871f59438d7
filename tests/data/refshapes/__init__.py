"""Tests of RefShapes."""
