"""Reading of REFER folders, and the way from them to batches."""
