"""From a REFER folder to batches."""
