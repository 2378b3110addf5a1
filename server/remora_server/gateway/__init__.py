"""HTTP in front of core."""
