"""SaG (ICCV 2023): referring image segmentation from text alone, by shattering an image and gathering what a sentence means."""
