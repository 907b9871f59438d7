"""TRIS (ICCV 2023): its second step, a segmentation network that is trained on the first step's pseudo masks."""
