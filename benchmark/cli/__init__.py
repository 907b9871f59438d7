"""The commands of `risbench`: one module for each group, which wires the rooms below together."""
