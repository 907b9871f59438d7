"""How a table is laid out: one block of text in cells, and four formats that show it."""
