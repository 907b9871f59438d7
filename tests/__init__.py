"""Tests. They mirror the packages."""
