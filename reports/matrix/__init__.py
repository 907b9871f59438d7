"""The report of a preset: what each strategy changes, and every finished run."""
