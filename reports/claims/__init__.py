"""What papers claim, in a form that runs can answer, and what the runs say to it."""
