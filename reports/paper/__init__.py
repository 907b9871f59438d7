"""The tables of papers, in their order and layout, with our numbers beside the published ones."""
