"""The commands of `risbench`, by what they are about."""
