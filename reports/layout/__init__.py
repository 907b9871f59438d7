"""The layout of tables. A table is a block of text in cells, which four formats show."""
