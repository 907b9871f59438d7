"""The commands of `risbench`. Each group is one module, which wires the rooms below together."""
