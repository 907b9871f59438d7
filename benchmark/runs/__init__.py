"""What a run is: its spec and key, its directory, the plan that it belongs to."""
