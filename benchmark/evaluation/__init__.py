"""Evaluation: from a network and a split to records, and from records to numbers with intervals."""
