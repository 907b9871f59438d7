"""LAVT (CVPR 2022), language-aware vision transformer."""
