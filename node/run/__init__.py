"""Runs: proposed, decided, driven round by round, recorded, and told to who was away."""
