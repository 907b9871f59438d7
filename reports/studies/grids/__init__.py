"""The report of a grid: a line per row, its difference to the reference row, the paper beside."""
