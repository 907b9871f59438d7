"""TRIS (ICCV 2023), second step: a network that is trained on the first one's masks."""
