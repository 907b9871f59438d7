"""SaG (ICCV 2023), which shatters an image and gathers what a sentence means."""
