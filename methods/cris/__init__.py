"""CRIS (CVPR 2022), CLIP-driven referring image segmentation."""
