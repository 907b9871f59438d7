"""The reports of studies: grids of rows, and searches."""
