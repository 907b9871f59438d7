"""SaG (ICCV 2023): shatter an image, gather what a sentence means, from text alone."""
