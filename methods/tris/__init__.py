"""TRIS (ICCV 2023): referring image segmentation using text supervision; its first step, the weakly supervised network."""
