"""The report of runs under corruptions, occlusion and covered words."""
