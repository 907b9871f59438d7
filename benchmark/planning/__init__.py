"""What would run, and what it would cost."""
