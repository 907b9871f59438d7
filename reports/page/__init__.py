"""The page of a report: one file that holds all that runs say, and asks nothing of a network."""
