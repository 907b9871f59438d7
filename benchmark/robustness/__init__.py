"""Finished runs under corruptions, occlusion and covered words."""
