"""The real node on simulated seams, and the group in which it begins."""
