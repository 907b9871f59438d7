"""The second step of TRIS (ICCV 2023), which is trained on masks made by the first."""
