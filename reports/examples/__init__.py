"""The report on examples: figures of images with the masks of compared runs."""
