"""The report of a preset shows what each strategy changes, and every finished run."""
