"""CM-MaskSD: Cross-Modality Masked Self-Distillation for Referring Image Segmentation."""
