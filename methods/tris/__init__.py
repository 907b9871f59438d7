"""The first step of TRIS (ICCV 2023), which is trained on text alone."""
