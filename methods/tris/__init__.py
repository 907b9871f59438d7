"""TRIS (ICCV 2023), first step: a network that is trained on text alone."""
