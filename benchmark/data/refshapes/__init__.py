"""The embedded data sets: synthetic scenes and sentences that are proved true of one object."""
