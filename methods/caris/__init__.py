"""CARIS (ACM MM 2023), context-aware referring image segmentation."""
