"""ETRIS (ICCV 2023), parameter-efficient tuning of CLIP for referring image segmentation."""
