"""The report of a search: its trials, the best one beside the references, figures, and a preset."""
