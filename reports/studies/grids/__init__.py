"""The report of a grid shows each row, its difference to the reference row, and the paper's."""
